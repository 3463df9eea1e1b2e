"""The offline feature table: every feature of every event, as the predictor would have had it."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.features.aggregates import US_PER_DAY, Array, Context
from feedrank.features.events import Events
from feedrank.features.fold import Fold


def compute_features(interactions: pa.Table, *, feed: Feed) -> pa.Table:
    """Features of interactions (`schema.INTERACTIONS`, in any order), as `Feed.table` in time order.

    Events with the same timestamp keep their order in the input.
    """
    return feature_table(Events.from_table(interactions, feed=feed), feed=feed)


def feature_table(events: Events, *, feed: Feed, remembered: NDArray[np.bool_] | None = None) -> pa.Table:
    """Features of events, as `Feed.table`; those after them count the `remembered` ones only, [events]."""
    types = {field.name: field.type.to_pandas_dtype() for field in feed.fields}
    columns: dict[str, Array] = {name: np.empty(len(events.times_us), dtype=types[name]) for name in feed.names}
    fold = Fold(events, feed.aggregates)
    for day, rows in events.days():
        state = fold.read({entity: codes[rows] for entity, codes in events.codes.items()}, day)
        context = Context(events.times_us[rows], events.devices[rows], np.asarray(day * US_PER_DAY))
        for name, form in feed.features.items():
            columns[name][rows] = form.of(context, state)
        fold.add(day, rows if remembered is None else np.flatnonzero(remembered[rows]) + rows.start)
    columns |= {
        schema.TARGET: events.clicks,
        schema.USER_ID: events.user_ids,
        schema.ITEM_ID: events.item_ids,
        schema.TIMESTAMP: events.times_us.view("M8[us]"),
    }
    arrays = [pa.array(columns[field.name], type=field.type) for field in feed.table]
    return pa.Table.from_arrays(arrays, schema=feed.table)
