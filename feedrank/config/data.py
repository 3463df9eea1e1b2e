"""`config/data_config.yaml`: the generator, ingestion, validation and the split."""

from datetime import date, timedelta
from typing import Literal

from pydantic import Field, model_validator

from feedrank.config.base import Section
from feedrank.config.ingest import IngestConfig
from feedrank.config.validation import ValidationConfig

DriftKind = Literal["taste_shift", "new_items", "device_mix", "popularity_shock", "broken_dwell_sensor", "label_delay"]


class DriftScenario(Section):
    """One change of the synthetic world; `feedrank/data/generator/drift.py` documents each kind's effect."""

    kind: DriftKind
    start_date: date
    strength: float = Field(default=1.0, gt=0, le=1, description="1 is the kind's full effect")
    ramp_days: int = Field(default=0, ge=0, description="0 is sudden; else days until the full strength")


class WorldConfig(Section):
    """The ground truth behind the synthetic clicks; effects and standard deviations are on the logit scale."""

    base_click_rate: float = Field(default=0.10, gt=0, lt=1, description="about the CTR without drift")
    taste_dimensions: int = Field(default=8, ge=1)
    num_topics: int = Field(default=20, ge=2)
    topics_per_user: int = Field(default=3, ge=1)
    taste_sd: float = Field(default=1.0, ge=0, description="over random pairs of a user and an item")
    user_propensity_sd: float = Field(default=0.7, ge=0)
    item_quality_sd: float = Field(default=0.7, ge=0)
    item_age_half_life_days: float = Field(default=60.0, gt=0)
    item_age_effect: float = Field(default=0.5, ge=0, description="what an item loses in the long run")
    stale_exposure: float = Field(default=0.25, gt=0, le=1, description="exposure of an old item over a new one's")
    initial_item_share: float = Field(default=0.6, gt=0, le=1, description="the others are born over the range")
    popularity_exponent: float = Field(default=1.0, gt=0, description="Zipf exponent of item exposure")
    popularity_rank_offset: float = Field(default=10.0, ge=0, description="Zipf-Mandelbrot: flattens the head")
    popularity_quality_correlation: float = Field(default=0.4, ge=-1, le=1)
    personalised_exposure: float = Field(
        default=0.6, ge=0, le=1, description="share of impressions that come from the user's own topics"
    )
    initial_user_share: float = Field(default=0.7, gt=0, le=1, description="the others join over the range")
    user_activity_sd: float = Field(default=1.4, ge=0, description="of the log of a user's activity")
    device_shares: tuple[float, float, float] = Field(default=(0.62, 0.28, 0.10), description="as DEVICES")
    device_effects: tuple[float, float, float] = Field(default=(0.1, -0.2, 0.0), description="as DEVICES")
    evening_effect: float = Field(default=0.15, description="at 20 h UTC; its negative at 8 h")
    session_mean_impressions: float = Field(default=10.0, ge=1)
    impression_gap_seconds: float = Field(default=12.0, gt=0, description="mean, within a session")
    position_bias: float = Field(default=0.3, ge=0, description="examination falls as 1 / position^bias")

    @model_validator(mode="after")
    def _shares_are_shares(self) -> "WorldConfig":
        if min(self.device_shares) <= 0 or abs(sum(self.device_shares) - 1) > 1e-9:
            raise ValueError(f"device_shares {self.device_shares} must be positive and sum to 1")
        return self


class GeneratorConfig(Section):
    """Size, time span and truth of the synthetic interactions."""

    num_users: int = Field(default=10_000, ge=1)
    num_items: int = Field(default=50_000, ge=1)
    num_interactions: int = Field(default=1_000_000, ge=1)
    start_date: date = date(2024, 1, 1)
    end_date: date = date(2024, 11, 15)
    seed: int = 42
    chunk_rows: int = Field(default=500_000, ge=1)
    world: WorldConfig = WorldConfig()
    drifts: tuple[DriftScenario, ...] = ()

    @model_validator(mode="after")
    def _dates_in_order(self) -> "GeneratorConfig":
        if self.end_date < self.start_date:
            raise ValueError(f"end_date {self.end_date} is before start_date {self.start_date}")
        return self

    @property
    def num_days(self) -> int:
        """Days from start_date to end_date, both included."""
        return (self.end_date - self.start_date) // timedelta(days=1) + 1


class SplitConfig(Section):
    """Shares of the rows by time: the earliest train, the latest test."""

    train: float = Field(default=0.70, gt=0, lt=1)
    validation: float = Field(default=0.15, gt=0, lt=1)
    test: float = Field(default=0.15, gt=0, lt=1)

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> "SplitConfig":
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train + validation + test is {total:g}, it must be 1")
        return self


class DataConfig(Section):
    """The whole of `data_config.yaml`."""

    generator: GeneratorConfig = GeneratorConfig()
    ingest: IngestConfig = IngestConfig()
    validation: ValidationConfig = ValidationConfig()
    split: SplitConfig = SplitConfig()
