"""The offline feature table: every feature of every event, from strictly earlier events only."""

from collections.abc import Iterator

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
    Kind,
    State,
)

PART_ROWS = 500_000
"""Rows that are computed at a time, about."""
MAX_PARTS = 256
COUNTS = (Kind.COUNT, Kind.DISTINCT_DAYS)
"""Kept as int32: the table has them so."""


def compute_features(interactions: pa.Table, *, config: FeatureConfig) -> pa.Table:
    """Features of interactions (`schema.INTERACTIONS`, in any order), as `schema.FEATURE_TABLE` in time order.

    Events with the same timestamp keep their order in the input, and see nothing of each other.
    """
    events = Events.from_table(interactions)
    state: dict[Aggregate, Array] = {}
    for entity in Entity:
        state |= _state_before_each_event(events, entity, config)
    rows = len(events.times_us)
    starts = range(0, max(rows, 1), PART_ROWS)
    return pa.concat_tables(_feature_rows(events, state, slice(start, start + PART_ROWS), config) for start in starts)


def _feature_rows(events: Events, state: State, rows: slice, config: FeatureConfig) -> pa.Table:
    part = events.take(rows)
    part_state = {aggregate: values[rows] for aggregate, values in state.items()}
    context = Context(times_us=part.times_us, devices=part.devices)
    columns: dict[str, Array] = {
        schema.TARGET: part.values[schema.CLICK],
        schema.USER_ID: part.user_ids,
        schema.ITEM_ID: part.item_ids,
        schema.TIMESTAMP: part.times_us.view("M8[us]"),
    }
    for name, compute in FEATURE_DEFINITIONS.items():
        columns[name] = compute(part_state, context, config)
    arrays = [
        pa.array(columns[field.name].astype(field.type.to_pandas_dtype(), copy=False), type=field.type)
        if field.name != schema.TIMESTAMP
        else pa.array(columns[field.name], type=field.type)
        for field in schema.FEATURE_TABLE
    ]
    return pa.Table.from_arrays(arrays, schema=schema.FEATURE_TABLE)


def _state_before_each_event(events: Events, entity: Entity, config: FeatureConfig) -> dict[Aggregate, Array]:
    state: dict[Aggregate, Array] = {}
    for positions in _parts(events, entity):
        part = events.take(positions)
        grouping = Grouping.by(entity_codes(part, entity))
        folder = Folder(part, grouping, config.popularity_half_life_days * US_PER_DAY)
        stops = _first_simultaneous(folder.times, grouping)
        rows = grouping.order if isinstance(positions, slice) else positions[grouping.order]
        for aggregate in of_entity(entity):
            folded = folder.fold(aggregate, groups=grouping.group_of_place, stops=stops, as_of_us=folder.times)
            dtype = np.int32 if aggregate.kind in COUNTS else folded.dtype
            state.setdefault(aggregate, np.empty(len(events.times_us), dtype=dtype))[rows] = folded
    return state


def _parts(events: Events, entity: Entity) -> Iterator[Ints | slice]:
    """Positions of the events, some entities at a time, which don't see each other.

    Arrays that fit caches and that the allocator reuses keep the time proportional to the rows.
    """
    parts = 1 if entity is Entity.ALL else min(max(1, len(events.times_us) // PART_ROWS), MAX_PARTS)
    if parts == 1:
        yield slice(None)
        return
    part_of = ((events.item_ids if entity is Entity.ITEM else events.user_ids) % parts).astype(np.uint8)
    for part in range(parts):
        yield np.flatnonzero(part_of == part)


def _first_simultaneous(times: Ints, grouping: Grouping) -> Ints:
    """For each place, the first place of the same group and timestamp: where its past ends."""
    new_time = np.concatenate([[True], times[1:] != times[:-1]])[: len(times)]
    new_time[grouping.group_start] = True
    return np.maximum.accumulate(np.where(new_time, np.arange(len(times)), 0))
