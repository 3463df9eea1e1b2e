"""Sizes of the month. No setting of the product is changed: only how much traffic there is, and where things lie."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from feedrank.config.data import DriftScenario, GeneratorConfig, WorldConfig
from feedrank.config.simulation import AudienceConfig

START = date(2024, 8, 5)
"""A Monday."""


@dataclass(frozen=True)
class Sizes:
    """How large the feed is, and how long it runs. Days are counted from `START`."""

    seed: int = 42
    users: int = 2_000
    items: int = 2_000
    visits_per_day: int = 500
    history_days: int = 28
    """In random order, before the first model."""
    days: int = 30
    """Served."""
    taste_shift: int = 14
    """Served day on which all users move to other topics; the platform's choice of items follows a week later."""
    device_shift: int | None = 23
    judged_days: int = 4
    """Last days, on which the recovered share is measured."""
    volume_mb: int = 512
    """Of the claim with tables, log, models and state."""

    @staticmethod
    def of_taste_shift(seed: int) -> "Sizes":
        """With one calm week, the taste shift, and as many days after it as the whole story has."""
        calm = 7
        return Sizes(seed=seed, days=Sizes.days - (Sizes.taste_shift - calm), taste_shift=calm, device_shift=None)

    @property
    def total_days(self) -> int:
        """History and served days."""
        return self.history_days + self.days

    @property
    def audience(self) -> AudienceConfig:
        """Of the simulated users."""
        return AudienceConfig(visits_per_day=self.visits_per_day)

    def date_of(self, day: int) -> date:
        """Of a served day, from 0; negative ones are history."""
        return START + timedelta(days=self.history_days + day)

    def at(self, day: int, clock: str = "00:00") -> datetime:
        """A time of a served day, UTC."""
        return datetime.combine(self.date_of(day), time.fromisoformat(clock), UTC)

    def generator(self, *, shifted_from: int | None = None) -> GeneratorConfig:
        """The world; `shifted_from` (counted from `START`) moves the taste shift."""
        shift = self.history_days + self.taste_shift if shifted_from is None else shifted_from
        drifts = [DriftScenario(kind="taste_shift", start_date=START + timedelta(days=shift))]
        if self.device_shift is not None:
            drifts.append(DriftScenario(kind="device_mix", start_date=self.date_of(self.device_shift)))
        return GeneratorConfig(
            num_users=self.users,
            num_items=self.items,
            num_interactions=1,
            start_date=START,
            end_date=START + timedelta(days=self.total_days),
            seed=self.seed,
            world=WorldConfig(taste_sd=1.5),
            drifts=tuple(drifts),
        )
