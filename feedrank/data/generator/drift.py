"""Drift scenarios: what changes in the world, or in its records, from a day on.

Kinds and their effect at strength 1 (a ramp raises the strength day by day; days before the start are untouched):

- taste_shift: every user moves to other topics, one after the other during a ramp (strength is the share that
  moves). Clicks follow at once; the platform's choice of items follows EXPOSURE_LAG_DAYS later.
- new_items: items that nobody has seen (the reserved ones) take about TAKEOVER_SHARE of all impressions.
- popularity_shock: SHOCKED_ITEMS of the known items, picked without regard to their popularity or to the
  users' tastes, take about TAKEOVER_SHARE of all impressions.
- device_mix: every session's device is drawn from SHIFTED_DEVICE_SHARES instead of the user's own mix.
- broken_dwell_sensor: every dwell time is recorded in ms, so most are beyond the schema's range of seconds.
- label_delay: no click (with its like, share and dwell time) is recorded yet; the impressions are.

The first four change the truth and so the oracle; the last two damage records and leave the truth alone.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np

from feedrank.config.data import DriftKind, DriftScenario, GeneratorConfig
from feedrank.data.generator.population import (
    RESERVED_ITEM_SHARE,
    Bools,
    Floats,
    Ints,
    Items,
    Stream,
    Users,
    random_stream,
    user_tastes,
)
from feedrank.errors import ConfigError

TAKEOVER_SHARE = 0.5
SHOCKED_ITEMS = 20
SHIFTED_DEVICE_SHARES = (0.10, 0.30, 0.60)
EXPOSURE_LAG_DAYS = 7


@dataclass(frozen=True)
class TasteShift:
    """Where each user's taste goes, and in which order the users go."""

    scenario: DriftScenario
    topics: Ints
    """New preferred topics, [U, T]."""
    taste: Floats
    """New taste vectors, [U, D]."""
    threshold: Floats
    """The user has moved once the intensity is above it, [U]."""


@dataclass(frozen=True)
class Takeover:
    """Items that take a share of all impressions."""

    scenario: DriftScenario
    items: Ints
    cumulative: Floats
    """Cumulative shares within the takeover, [items]."""


class Drift:
    """All scenarios of a config, made concrete for its users and items."""

    def __init__(self, config: GeneratorConfig, *, users: Users, items: Items) -> None:
        """Draws what each scenario needs.

        Raises:
            ConfigError: too few items for a new_items scenario.
        """
        self._origin = config.start_date
        self._scenarios = sorted(config.drifts, key=lambda scenario: scenario.start_date)
        self.shifts: list[TasteShift] = []
        self.takeovers: list[Takeover] = []
        self.birth_day = items.birth_day.copy()
        bursts = sum(scenario.kind == "new_items" for scenario in self._scenarios)
        topics, burst = users.topics, 0
        for index, scenario in enumerate(self._scenarios):
            rng = random_stream(config.seed, Stream.DRIFT_WORLD, index)
            if scenario.kind == "taste_shift":
                self.shifts.append(_shift(rng, scenario, users=users, topics=topics, items=items))
                topics = self.shifts[-1].topics
            elif scenario.kind == "new_items":
                fresh = items.reserved[burst::bursts]
                if not len(fresh):
                    raise ConfigError(
                        f"generator.drifts: new_items needs num_items of at least "
                        f"{round(bursts / RESERVED_ITEM_SHARE)}, got {config.num_items}"
                    )
                self.birth_day[fresh] = self._day(scenario.start_date)
                self.takeovers.append(_takeover(scenario, fresh, items.popularity[fresh]))
                burst += 1
            elif scenario.kind == "popularity_shock":
                known = np.flatnonzero(items.birth_day <= max(0, self._day(scenario.start_date)))
                size = min(SHOCKED_ITEMS, len(known))
                shocked = rng.choice(known, size=size, replace=False)
                self.takeovers.append(_takeover(scenario, shocked, np.ones(size)))

    def _day(self, when: date) -> int:
        return (when - self._origin).days

    def intensity(self, scenario: DriftScenario, days: Ints) -> Floats:
        """Strength of a scenario on each day: 0 before its start, the full strength after its ramp."""
        progress = (days - self._day(scenario.start_date) + 1) / (scenario.ramp_days + 1)
        return scenario.strength * np.clip(progress, 0.0, 1.0)

    def strength(self, kind: DriftKind, day: int) -> float:
        """Strength of a kind on a day; the strongest scenario of that kind counts."""
        days = np.array([day])
        return max((float(self.intensity(s, days)[0]) for s in self._scenarios if s.kind == kind), default=0.0)

    def moved(self, shift: TasteShift, *, user_ids: Ints, days: Ints) -> Bools:
        """Whether each user has moved to the shift's taste on that day."""
        return shift.threshold[user_ids] < self.intensity(shift.scenario, days)


def _shift(
    rng: np.random.Generator, scenario: DriftScenario, *, users: Users, topics: Ints, items: Items
) -> TasteShift:
    num_topics = len(items.topic_centres)
    step = rng.integers(1, num_topics, size=(len(topics), 1))
    new_topics = (topics + step) % num_topics
    return TasteShift(
        scenario=scenario,
        topics=new_topics,
        taste=user_tastes(users, topics=new_topics, centres=items.topic_centres),
        threshold=rng.random(len(topics)),
    )


def _takeover(scenario: DriftScenario, items: Ints, weights: Floats) -> Takeover:
    return Takeover(scenario=scenario, items=items, cumulative=np.cumsum(weights) / weights.sum())
