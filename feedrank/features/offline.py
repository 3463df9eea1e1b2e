"""The offline feature table: every feature of every event, from strictly earlier events only."""

import numpy as np
import pyarrow as pa

from feedrank import schema
from feedrank.config.data import FeatureConfig
from feedrank.features.aggregates import Events, Folder, Grouping, Ints, entity_codes, of_entity
from feedrank.features.definitions import FEATURE_DEFINITIONS, US_PER_DAY, Aggregate, Array, Context, Entity

PART_ROWS = 1_000_000
"""Rows of the entities that are computed at a time."""


def compute_features(interactions: pa.Table, *, config: FeatureConfig) -> pa.Table:
    """Features of interactions (`schema.INTERACTIONS`, in any order), as `schema.FEATURE_TABLE` in time order.

    Events with the same timestamp keep their order in the input, and see nothing of each other.
    """
    events = Events.from_table(interactions)
    state: dict[Aggregate, Array] = {}
    for entity in Entity:
        state |= _state_before_each_event(events, entity, config)
    context = Context(times_us=events.times_us, devices=events.devices)
    columns = {
        schema.TARGET: events.values[schema.CLICK],
        schema.USER_ID: events.user_ids,
        schema.ITEM_ID: events.item_ids,
        schema.TIMESTAMP: events.times_us,
    }
    arrays = []
    for field in schema.FEATURE_TABLE:
        known = columns.get(field.name)
        values = FEATURE_DEFINITIONS[field.name](state, context, config) if known is None else known
        arrays.append(
            pa.array(values.astype(field.type.to_pandas_dtype(), copy=False), type=field.type)
            if field.name != schema.TIMESTAMP
            else pa.array(values, type=pa.int64()).cast(field.type)
        )
    return pa.Table.from_arrays(arrays, schema=schema.FEATURE_TABLE)


def _state_before_each_event(events: Events, entity: Entity, config: FeatureConfig) -> dict[Aggregate, Array]:
    codes, rows = entity_codes(events, entity), len(events.times_us)
    # Entities don't see each other, so they are computed some at a time: arrays that fit caches and that the
    # allocator reuses keep the time proportional to the rows.
    parts = 1 if entity is Entity.ALL else max(1, rows // PART_ROWS)
    state: dict[Aggregate, Array] = {}
    for part in range(parts):
        positions = np.flatnonzero(codes % parts == part) if parts > 1 else np.arange(rows)
        part_events = events.take(positions) if parts > 1 else events
        grouping = Grouping.by(codes[positions])
        folder = Folder(part_events, grouping, config.popularity_half_life_days * US_PER_DAY)
        stops = _first_simultaneous(folder.times, grouping)
        for aggregate in of_entity(entity):
            folded = folder.fold(aggregate, groups=grouping.group_of_place, stops=stops, as_of_us=folder.times)
            values = np.empty_like(folded)
            values[grouping.order] = folded
            state.setdefault(aggregate, np.empty(rows, dtype=values.dtype))[positions] = values
    return state


def _first_simultaneous(times: Ints, grouping: Grouping) -> Ints:
    """For each place, the first place of the same group and timestamp: where its past ends."""
    new_time = np.concatenate([[True], times[1:] != times[:-1]])[: len(times)]
    new_time[grouping.group_start] = True
    return np.maximum.accumulate(np.where(new_time, np.arange(len(times)), 0))
