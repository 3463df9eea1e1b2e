"""Evaluates the aggregates of `definitions.py` with sorted arrays: as of each event, or as of a cut-off.

Events of one entity are laid side by side in time order. An aggregate is then a difference of running totals
between the start of the entity's group and a position in it: the first event with the same timestamp (so that
simultaneous events do not see each other) for the offline table, the group's end for a snapshot. All sums are
integers but the decayed count, whose running total restarts with each group, so an event never changes, not even
by rounding, what another entity or an earlier event sees.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feedrank import schema
from feedrank.errors import DataError
from feedrank.features.definitions import (
    AGGREGATES,
    CLICKED_DWELL_US,
    NO_TIME,
    US_PER_DAY,
    US_PER_SECOND,
    Aggregate,
    Array,
    Entity,
    Kind,
)
from feedrank.tables import sort_by_time, timestamps_us

Ints = NDArray[np.int64]

MAX_HALF_LIVES = 1000
"""2^1000 is near the largest float64."""

EVENT_COLUMNS = (schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.CLICK, schema.DWELL_TIME, schema.DEVICE)


@dataclass(frozen=True)
class Events:
    """Interactions as arrays in time order, each of shape [rows]."""

    user_ids: Ints
    item_ids: Ints
    times_us: Ints
    devices: NDArray[np.int8]
    clicks: NDArray[np.int8]
    dwell_seconds: NDArray[np.float64]

    def summands(self, column: str) -> Ints:
        """What a SUM adds up: clicks, or the dwell of clicked events in µs."""
        if column == schema.CLICK:
            return self.clicks.astype(np.int64)
        assert column == CLICKED_DWELL_US, column
        return np.rint(self.dwell_seconds * US_PER_SECOND).astype(np.int64) * self.clicks

    @staticmethod
    def from_table(interactions: pa.Table) -> "Events":
        """Takes the event columns of a table of interactions in any row order."""
        table = sort_by_time(interactions.select(list(EVENT_COLUMNS)))
        return Events(
            user_ids=table[schema.USER_ID].to_numpy(),
            item_ids=table[schema.ITEM_ID].to_numpy(),
            times_us=timestamps_us(table),
            devices=_device_indices(table[schema.DEVICE]),
            clicks=table[schema.CLICK].to_numpy(),
            dwell_seconds=table[schema.DWELL_TIME].to_numpy(),
        )

    def before(self, cutoff_us: int) -> "Events":
        """The events strictly earlier than the cut-off."""
        return self.rows(slice(0, int(np.searchsorted(self.times_us, cutoff_us, side="left"))))

    def rows(self, rows: slice) -> "Events":
        """Consecutive events; the arrays are views."""
        return self.map(lambda values: values[rows])

    def map(self, change: Callable[[Array], Array]) -> "Events":
        """The events after the same selection or reordering of all columns; each entity's must stay in time order."""
        return Events(
            user_ids=change(self.user_ids),
            item_ids=change(self.item_ids),
            times_us=change(self.times_us),
            devices=change(self.devices),
            clicks=change(self.clicks),
            dwell_seconds=change(self.dwell_seconds),
        )


def _device_indices(devices: pa.ChunkedArray) -> NDArray[np.int8]:
    indices = pc.index_in(devices, value_set=pa.array(schema.DEVICES))
    if indices.null_count:
        unknown = devices.filter(pc.is_null(indices)).unique().to_pylist()
        raise DataError(f"column {schema.DEVICE}: unknown {unknown[:3]}, expected one of {list(schema.DEVICES)}")
    return indices.to_numpy().astype(np.int8)


@dataclass(frozen=True)
class Grouping:
    """The events of each entity side by side, in time order."""

    order: Ints
    """Positions of the events, group by group; shape [rows]."""
    group_start: Ints
    """First place of each group; shape [groups]."""
    group_of_place: Ints
    """Shape [rows]."""

    @staticmethod
    def by(codes: Ints) -> "Grouping":
        """Groups rows that are in time order by small non-negative integer codes."""
        rows = len(codes)
        if not codes.any():
            return Grouping(np.arange(rows), np.zeros(min(rows, 1), dtype=np.int64), codes)
        # One sort of code * rows + position sorts by code and, within it, by time; faster than a stable argsort.
        order = np.sort(codes * rows + np.arange(rows)) % max(rows, 1)
        sorted_codes = codes[order]
        new_group = np.concatenate([[True], sorted_codes[1:] != sorted_codes[:-1]])[:rows]
        return Grouping(order, np.flatnonzero(new_group), np.cumsum(new_group) - 1)


def entity_codes(events: Events, entity: Entity) -> Ints:
    """A number from 0 for each distinct entity of the events; shape [rows]."""
    if entity is Entity.ALL:
        return np.zeros(len(events.times_us), dtype=np.int64)
    if entity is Entity.USER:
        return _codes(events.user_ids)
    items = _codes(events.item_ids)
    if entity is Entity.ITEM:
        return items
    return _codes(_codes(events.user_ids) * (items.max(initial=0) + 1) + items)


def _codes(ids: Ints) -> Ints:
    import pandas as pd  # slow to import, and the predictor needs the tables only

    return pd.factorize(ids)[0].astype(np.int64)


@dataclass(frozen=True)
class Folder:
    """Folds the events of groups up to chosen places into aggregates."""

    events: Events
    grouping: Grouping
    half_life_us: float

    @cached_property
    def times(self) -> Ints:
        """Times of the events, group by group; shape [rows]."""
        return self.events.times_us[self.grouping.order]

    def fold(self, aggregate: Aggregate, *, groups: Ints, stops: Ints, as_of_us: Ints) -> Array:
        """The aggregate over places [group start, stop) of each asked group, as of given times; one shape for all."""
        starts, times = self.grouping.group_start[groups], self.times
        empty = stops == starts
        match aggregate.kind:
            case Kind.COUNT:
                return stops - starts
            case Kind.SUM:
                return _running(self.events.summands(aggregate.column)[self.grouping.order], starts, stops)
            case Kind.DISTINCT_DAYS:
                return _running(self._starts_day(times), starts, stops)
            case Kind.FIRST_TIME:
                return np.where(empty, NO_TIME, times[np.minimum(starts, len(times) - 1)])
            case Kind.LAST_TIME:
                return np.where(empty, NO_TIME, times[np.maximum(stops - 1, 0)])
            case Kind.DECAYED_COUNT:
                return self._decayed(times, groups, starts, stops, as_of_us)

    def _starts_day(self, times: Ints) -> Ints:
        days = times // US_PER_DAY
        starts = np.concatenate([[True], days[1:] != days[:-1]])[: len(days)]
        starts[self.grouping.group_start] = True
        return starts.astype(np.int64)

    def _decayed(self, times: Ints, groups: Ints, starts: Ints, stops: Ints, as_of_us: Ints) -> Array:
        import pandas as pd

        first = times[self.grouping.group_start]
        age = (times - first[self.grouping.group_of_place]) / self.half_life_us
        longest = max(age.max(initial=0), ((as_of_us - first[groups]) / self.half_life_us).max(initial=0))
        if longest > MAX_HALF_LIVES:
            raise DataError(
                f"an item's events span {longest:.0f} half-lives of features.popularity_half_life_days, "
                f"at most {MAX_HALF_LIVES} can be computed: raise the half-life or cut the date range"
            )
        totals = pd.Series(np.exp2(age)).groupby(self.grouping.group_of_place, sort=False).cumsum().to_numpy()
        total = np.where(stops > starts, totals[np.maximum(stops - 1, 0)], 0.0)
        return total * np.exp2(-(as_of_us - first[groups]) / self.half_life_us)


def _running(values: Ints, starts: Ints, stops: Ints) -> Ints:
    totals = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(values)])
    return totals[stops] - totals[starts]


def of_entity(entity: Entity) -> Iterable[Aggregate]:
    """The aggregates kept for an entity."""
    return (aggregate for aggregate in AGGREGATES if aggregate.entity is entity)
