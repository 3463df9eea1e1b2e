"""The offline feature table: every feature of every event, from strictly earlier events only.

Entities don't see each other, so the events are laid out some entities at a time, and computed part by part: arrays
that fit the cache keep the time proportional to the rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from feedrank import schema
from feedrank.config.data import FeatureConfig
from feedrank.features.aggregates import Events, Folder, Grouping, Ints, entity_codes, of_entity
from feedrank.features.definitions import (
    FEATURE_DEFINITIONS,
    US_PER_DAY,
    Aggregate,
    Array,
    Context,
    Entity,
)

PART_ROWS = 500_000
"""Rows that are computed at a time, about."""
MAX_PARTS = 256


def compute_features(interactions: pa.Table, *, config: FeatureConfig) -> pa.Table:
    """Features of interactions (`schema.INTERACTIONS`, in any order), as `schema.FEATURE_TABLE` in time order.

    Events with the same timestamp keep their order in the input, and see nothing of each other.
    """
    events = Events.from_table(interactions)
    overall = _overall_before_each_event(events, config)
    columns: dict[str, Array] = {
        schema.TARGET: events.clicks,
        schema.USER_ID: events.user_ids,
        schema.ITEM_ID: events.item_ids,
        schema.TIMESTAMP: events.times_us.view("M8[us]"),
    }
    columns |= _features_of((Entity.ALL,), events, overall, list(_time_parts(events.times_us)), config)
    for entities, ids in (((Entity.USER, Entity.USER_ITEM), events.user_ids), ((Entity.ITEM,), events.item_ids)):
        layout = Layout.by(ids)
        laid_overall = {aggregate: layout.lay(values) for aggregate, values in overall.items()}
        laid = _features_of(entities, events.map(layout.lay), laid_overall, layout.parts, config)
        columns |= {name: layout.back(values) for name, values in laid.items()}
    arrays = [pa.array(columns[field.name], type=field.type) for field in schema.FEATURE_TABLE]
    return pa.Table.from_arrays(arrays, schema=schema.FEATURE_TABLE)


@dataclass(frozen=True)
class Layout:
    """An order of the events in which some entities at a time lie together, each in time order."""

    parts: list[slice]
    place: Ints | None
    """Of each event, shape [rows]; None where the order is that of the events.

    Read from front to back it goes on in few places at once, which a cache can follow; so `lay` and `back` do that.
    """

    @staticmethod
    def by(ids: Ints) -> "Layout":
        """Parts of about PART_ROWS events."""
        parts = min(len(ids) // PART_ROWS, MAX_PARTS)
        if parts <= 1:
            return Layout([slice(0, len(ids))], None)
        part_of = (ids % parts).astype(np.uint8)
        ends = np.cumsum(np.bincount(part_of, minlength=parts)).tolist()
        place = np.empty(len(ids), dtype=np.int64)
        place[np.argsort(part_of, kind="stable")] = np.arange(len(ids))
        return Layout([slice(start, stop) for start, stop in zip([0, *ends], ends, strict=False)], place)

    def lay(self, values: Array) -> Array:
        """Values of the events, in the layout."""
        if self.place is None:
            return values
        laid = np.empty_like(values)
        laid[self.place] = values
        return laid

    def back(self, values: Array) -> Array:
        """Values in the layout, in the events' order."""
        return values if self.place is None else values[self.place]


def _features_of(
    entities: tuple[Entity, ...],
    events: Events,
    overall: dict[Aggregate, Array],
    parts: list[slice],
    config: FeatureConfig,
) -> dict[str, Array]:
    """The features that belong to some entities, computed part by part; shape [rows] each."""
    types = {field.name: field.type.to_pandas_dtype() for field in schema.FEATURE_FIELDS}
    features = {name: feature for name, feature in FEATURE_DEFINITIONS.items() if feature.entity in entities}
    columns = {name: np.empty(len(events.times_us), dtype=types[name]) for name in features}
    for rows in parts:
        part = events.rows(rows)
        state = {aggregate: values[rows] for aggregate, values in overall.items()}
        for entity in entities:
            if entity is not Entity.ALL:
                state |= _state_before_each_event(part, entity, config)
        context = Context(times_us=part.times_us, devices=part.devices)
        for name, feature in features.items():
            columns[name][rows] = feature.compute(state, context, config)
    return columns


def _overall_before_each_event(events: Events, config: FeatureConfig) -> dict[Aggregate, Array]:
    """The aggregates over all events; counts and sums, so those of the parts add up."""
    rows = len(events.times_us)
    state: dict[Aggregate, Array] = {a: np.empty(rows, dtype=np.int64) for a in of_entity(Entity.ALL)}
    before = dict.fromkeys(state, 0)
    for part_rows in _time_parts(events.times_us):
        part = events.rows(part_rows)
        folder, stops = _folder(part, Entity.ALL, config)
        end = np.array([len(part.times_us)])
        for aggregate, values in state.items():
            values[part_rows] = folder.fold(
                aggregate, groups=folder.grouping.group_of_place, stops=stops, as_of_us=folder.times
            )
            values[part_rows] += before[aggregate]
            before[aggregate] += int(folder.fold(aggregate, groups=end * 0, stops=end, as_of_us=folder.times[-1:])[0])
    return state


def _state_before_each_event(events: Events, entity: Entity, config: FeatureConfig) -> dict[Aggregate, Array]:
    folder, stops = _folder(events, entity, config)
    state: dict[Aggregate, Array] = {}
    for aggregate in of_entity(entity):
        folded = folder.fold(aggregate, groups=folder.grouping.group_of_place, stops=stops, as_of_us=folder.times)
        state[aggregate] = np.empty_like(folded)
        state[aggregate][folder.grouping.order] = folded
    return state


def _folder(events: Events, entity: Entity, config: FeatureConfig) -> tuple[Folder, Ints]:
    """The events by entity, and for each place where its past ends."""
    grouping = Grouping.by(entity_codes(events, entity))
    folder = Folder(events, grouping, config.popularity_half_life_days * US_PER_DAY)
    return folder, _first_simultaneous(folder.times, grouping)


def _time_parts(times_us: Ints) -> Iterator[slice]:
    """Consecutive rows; simultaneous ones stay together."""
    start = 0
    while start < len(times_us):
        stop = min(start + PART_ROWS, len(times_us))
        stop = int(np.searchsorted(times_us, times_us[stop - 1], side="right"))
        yield slice(start, stop)
        start = stop


def _first_simultaneous(times: Ints, grouping: Grouping) -> Ints:
    """For each place, the first place of the same group and timestamp: where its past ends."""
    new_time = np.concatenate([[True], times[1:] != times[:-1]])[: len(times)]
    new_time[grouping.group_start] = True
    return np.maximum.accumulate(np.where(new_time, np.arange(len(times)), 0))
