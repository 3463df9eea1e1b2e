"""The visits of a day: who plans to come, when, on which device, and what the platform could show.

They and all that chance decides in them depend on the seed and the day alone, so every policy meets the same users,
candidates and luck, and differences between policies are not noise (common random numbers).

Shapes: V visits, N candidates.
"""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from feedrank.config.simulation import AudienceConfig
from feedrank.data import calendar
from feedrank.data.generator import World
from feedrank.data.generator.events import SATURDAY, WEEKEND_HOURS, WORKDAY_HOURS
from feedrank.data.generator.exposure import PAGE_SIZE
from feedrank.data.generator.population import Floats, Ints
from feedrank.tables import US_PER_DAY

STREAM = 7
"""Keeps the draws apart from the generator's, which have the same seed."""
LAST_START_US = 23 * calendar.US_PER_HOUR + calendar.US_PER_HOUR // 2
"""Visits end on the day on which they begin."""
OVERSAMPLING = 2


@dataclass(frozen=True)
class Luck:
    """Uniform draws in [0, 1) that decide a visit, whoever ranks for it."""

    come: Floats
    """[V]"""
    examine: Floats
    """By position, [V, N]."""
    click: Floats
    """By candidate, [V, N]."""
    leave: Floats
    """By position, [V, N]."""
    gap: Floats
    """By position, [V, N]."""
    explore: Floats
    """By candidate, [V, N]."""
    place: Floats
    """By candidate, [V, N]."""


@dataclass(frozen=True)
class Visits:
    """Planned visits in time order."""

    day: int
    """Since the world's start_date."""
    user_ids: Ints
    """[V]"""
    devices: npt.NDArray[np.int8]
    """Index into schema.DEVICES, [V]."""
    times_us: Ints
    """[V]"""
    candidates: Ints
    """Distinct item ids, [V, N]."""
    luck: Luck

    def __len__(self) -> int:
        return len(self.user_ids)

    def take(self, rows: Ints) -> "Visits":
        """Some of the visits."""
        luck = Luck(**{name: values[rows] for name, values in vars(self.luck).items()})
        return Visits(
            self.day, self.user_ids[rows], self.devices[rows], self.times_us[rows], self.candidates[rows], luck
        )


def draw_visits(world: World, *, day: int, config: AudienceConfig) -> Visits:
    """The visits that are planned for a day (since the world's start_date)."""
    rng = np.random.default_rng([STREAM, world.config.seed, day])
    count, width = config.visits_per_day, config.candidates
    users = world.exposure.draw_users(rng, day=day, size=count)
    devices = world.exposure.draw_devices(rng, user_ids=users, day=day).astype(np.int8)
    weekend = (world.config.start_date + timedelta(days=day)).weekday() >= SATURDAY
    hours = np.concatenate([[0.0], np.cumsum(WEEKEND_HOURS if weekend else WORKDAY_HOURS)])
    moments = calendar.US_PER_HOUR * np.interp(np.sort(rng.random(count)), hours / hours[-1], np.arange(25))
    times = world.start_us + day * US_PER_DAY + np.minimum(moments, LAST_START_US).astype(np.int64)
    pages = -(-width // PAGE_SIZE) * OVERSAMPLING
    drawn = world.exposure.draw_pages(rng, drift_rng=rng, user_ids=np.repeat(users, pages), day=day)
    spare = rng.permuted(np.tile(world.active_items(int(times[0])), (count, 1)), axis=1)[:, : 2 * width]
    candidates = _first_distinct(np.concatenate([drawn.reshape(count, -1), spare], axis=1), width=width)
    luck = Luck(rng.random(count), *rng.random((6, count, width)))
    return Visits(day, users, devices, times, candidates, luck)


def _first_distinct(items: Ints, *, width: int) -> Ints:
    """The first `width` distinct items of each row, [V, width]."""
    order = np.argsort(items, axis=1, kind="stable")
    ordered = np.take_along_axis(items, order, axis=1)
    repeated = np.zeros(items.shape, dtype=bool)
    np.put_along_axis(repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    first = np.argsort(repeated, axis=1, kind="stable")[:, :width]
    return np.take_along_axis(items, first, axis=1)
