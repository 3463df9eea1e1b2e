"""The offline feature table: every feature of every event, from strictly earlier events only."""

import numpy as np
import pyarrow as pa

from feedrank import schema
from feedrank.config.data import FeatureConfig
from feedrank.features.aggregates import Events, Folder, Grouping, Ints, entity_codes, of_entity
from feedrank.features.definitions import FEATURE_DEFINITIONS, US_PER_DAY, Aggregate, Array, Context, Entity


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
    grouping = Grouping.by(entity_codes(events, entity))
    folder = Folder(events, grouping, config.popularity_half_life_days * US_PER_DAY)
    times = events.times_us[grouping.order]
    stops = _first_simultaneous(times, grouping)
    state: dict[Aggregate, Array] = {}
    for aggregate in of_entity(entity):
        sorted_values = folder.fold(aggregate, groups=grouping.group_of_place, stops=stops, as_of_us=times)
        values = np.empty_like(sorted_values)
        values[grouping.order] = sorted_values
        state[aggregate] = values
    return state


def _first_simultaneous(times: Ints, grouping: Grouping) -> Ints:
    """For each place, the first place of the same group and timestamp: where its past ends."""
    new_time = np.concatenate([[True], times[1:] != times[:-1]])[: len(times)]
    new_time[grouping.group_start] = True
    return np.maximum.accumulate(np.where(new_time, np.arange(len(times)), 0))
