"""`config/simulation_config.yaml`: the closed loop of simulated users, the predictor, the monitor and retraining."""

from datetime import date, timedelta
from typing import Any, Literal

from pydantic import Field, field_validator

from feedrank.config.base import Section
from feedrank.config.data import DriftScenario, GeneratorConfig, WorldConfig
from feedrank.config.sizes import other_than_sizes

PolicyName = Literal["frozen", "loop", "informed", "random", "popularity", "oracle"]

SMALL_RANKER = {
    "model.embedding_dim": 32,
    "model.hidden_dims": [64, 32],
    "model.training.epochs": 8,
    "model.training.pretraining.rank": 16,
}
"""A world of some thousand users and items needs no more."""


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
    """The whole of `simulation_config.yaml`: sizes, time span and drift; what judges is the shipped configuration's."""

    num_users: int = Field(default=1_500, ge=1)
    num_items: int = Field(default=3_000, ge=50)
    seed: int = 42
    start_date: date = date(2024, 8, 5)
    history_days: int = Field(default=28, ge=8, description="in random order; the first models train on them")
    calm_days: int = Field(default=4, ge=1, description="served by the champion before the taste shift")
    shifted_days: int = Field(default=18, ge=1, description="after it")
    shift_strength: float = Field(default=1.0, gt=0, le=1, description="share of the users whose taste moves")
    judged_days: int = Field(default=4, ge=1, description="last days, on which the recovered share is measured")
    retrain_every_days: int = Field(default=7, ge=1, description="scheduled retraining, beside the alarms'")
    policies: tuple[PolicyName, ...] = ("frozen", "loop", "informed", "random", "popularity", "oracle")
    world: WorldConfig = WorldConfig(taste_sd=1.5)
    audience: AudienceConfig = AudienceConfig()
    sizes: dict[str, Any] = Field(default=SMALL_RANKER, description="of the rankers, by dotted keys")

    @field_validator("sizes")
    @classmethod
    def _are_sizes(cls, sizes: dict[str, Any]) -> dict[str, Any]:
        if others := other_than_sizes(sizes):
            raise ValueError(f"{others[0]} is no size (feedrank/config/sizes.py); the loop runs the shipped settings")
        return sizes

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
