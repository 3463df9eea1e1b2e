"""`config/simulation_config.yaml`: the closed loop of simulated users, the predictor, the monitor and retraining."""

from datetime import date, timedelta
from typing import Literal

from pydantic import Field

from feedrank.config.base import Section
from feedrank.config.data import DriftScenario, GeneratorConfig, WorldConfig
from feedrank.config.model import EarlyStopping, Gates, ModelConfig, PretrainingConfig, TrainingConfig
from feedrank.config.monitoring import (
    DriftConfig,
    MonitoringConfig,
    ReferenceConfig,
    RetrainingConfig,
    WindowConfig,
)
from feedrank.config.promotion import ComparisonConfig

PolicyName = Literal["frozen", "loop", "informed", "random", "popularity", "oracle"]

SMALL_RANKER = ModelConfig(
    embedding_dim=32,
    hidden_dims=(64, 32),
    cross_hidden_dim=32,
    training=TrainingConfig(
        batch_size=2048,
        learning_rate=0.003,
        embedding_learning_rate=0.003,
        epochs=4,
        early_stopping=EarlyStopping(patience=1),
        pretraining=PretrainingConfig(rank=16),
    ),
    gates=Gates(min_auc=0.55, max_log_loss=0.7, min_precision_at_10=0.0),
)
"""A world of some thousand users and items needs no more. The usual gates are for impressions that nobody has ranked;
within a feed's top the differences, and so the AUC, are smaller."""

QUICK_MONITORING = MonitoringConfig(
    reference=ReferenceConfig(days=7),
    window=WindowConfig(step_hours=6),
    drift=DriftConfig(engine="scipy"),
    retraining=RetrainingConfig(recent_days=6, replay_share=0.7, cool_down_hours=48),
)

LENIENT_COMPARISON = ComparisonConfig(
    max_gauc_loss=0.03,
    max_slice_gauc_loss=0.05,
    max_latency_ratio=3.0,
    resamples=200,
    min_users=50,
    min_clicks=50,
    latency_requests=20,
)
"""Half a day of a small world decides: intervals are wide, slices small, and the machine also runs the simulation."""


class AudienceConfig(Section):
    """How users visit and browse (`feedrank/simulation/browsing.py` and `audience.py` state the rules)."""

    visits_per_day: int = Field(default=800, ge=1, description="that users plan; how content they are decides how many")
    candidates: int = Field(default=48, ge=2, le=100, description="items that the predictor ranks for a visit")
    leave_after_click: float = Field(
        default=0.5, gt=0, le=1, description="chance of leaving after a click, relative to after an ignored item"
    )
    memory: float = Field(default=0.8, ge=0, lt=1, description="weight of earlier visits in a user's satisfaction")
    loyalty: float = Field(default=0.5, ge=0, le=1, description="share of planned visits that the least content make")
    exploration_share: float = Field(
        default=0.1, ge=0, le=1, description="candidates of a learning policy that get a random place near the top"
    )


class SimulationConfig(Section):
    """The whole of `simulation_config.yaml`: size, time span and drift, and the settings of the loop in them."""

    num_users: int = Field(default=1_500, ge=1)
    num_items: int = Field(default=3_000, ge=50)
    seed: int = 42
    start_date: date = date(2024, 8, 5)
    history_days: int = Field(
        default=42, ge=8, description="under an earlier recommender; the first models train on them"
    )
    calm_days: int = Field(default=4, ge=1, description="served by the champion before the taste shift")
    shifted_days: int = Field(default=18, ge=1, description="after it")
    shift_strength: float = Field(default=1.0, gt=0, le=1, description="share of the users whose taste moves")
    judged_days: int = Field(default=4, ge=1, description="last days, on which the recovered share is measured")
    earlier_dullness: float = Field(default=1.0, ge=0, description="noise on the logits of the earlier recommender")
    retrain_every_days: int = Field(default=2, ge=1, description="scheduled retraining, beside the alarms'")
    policies: tuple[PolicyName, ...] = ("frozen", "loop", "informed", "random", "popularity", "oracle")
    world: WorldConfig = WorldConfig(taste_sd=1.5)
    audience: AudienceConfig = AudienceConfig()
    model: ModelConfig = SMALL_RANKER
    monitoring: MonitoringConfig = QUICK_MONITORING
    comparison: ComparisonConfig = LENIENT_COMPARISON

    @property
    def total_days(self) -> int:
        """History and live days."""
        return self.history_days + self.calm_days + self.shifted_days

    @property
    def shift_day(self) -> int:
        """Day of the taste shift, counted from start_date."""
        return self.history_days + self.calm_days

    def generator(self, *, shift_day: int) -> GeneratorConfig:
        """The world whose tastes shift on a day (counted from start_date)."""
        shift = DriftScenario(
            kind="taste_shift", start_date=self.start_date + timedelta(days=shift_day), strength=self.shift_strength
        )
        return GeneratorConfig(
            num_users=self.num_users,
            num_items=self.num_items,
            num_interactions=1,
            start_date=self.start_date,
            end_date=self.start_date + timedelta(days=self.total_days - 1),
            seed=self.seed,
            world=self.world,
            drifts=(shift,),
        )
