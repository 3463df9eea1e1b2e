"""Features of one request, from a snapshot: the same definitions that compute the offline table."""

import numpy as np
from numpy.typing import NDArray

from feedrank.features.aggregates import Aggregate, Array, Context
from feedrank.features.events import Ints
from feedrank.features.snapshot import Snapshot


def online_features(
    snapshot: Snapshot, *, user_id: int, item_ids: Ints, time_us: int, device: int
) -> NDArray[np.float32]:
    """Features of showing `item_ids` to a user at a time (µs since 1970) on a device (index into `schema.DEVICES`).

    Returns shape [items, features] in the order of `Feed.names`. Unknown ids get the features of an entity
    without history.
    """
    user_row = int(snapshot.users.rows(np.array([user_id]))[0])
    item_rows = snapshot.items.rows(item_ids)
    state = state_of(snapshot, user_row=user_row, item_rows=item_rows)
    context = Context(np.asarray(time_us), np.asarray(device), np.asarray(snapshot.cutoff_us))
    forms = snapshot.feed.features.values()
    matrix = np.empty((len(item_ids), len(forms)), dtype=np.float32)
    for column, form in enumerate(forms):
        matrix[:, column] = form.of(context, state)
    return matrix


def state_of(snapshot: Snapshot, *, user_row: int, item_rows: Ints) -> dict[Aggregate, Array]:
    """The aggregates of one user (scalars) and some items (arrays) in the snapshot."""
    state = dict(snapshot.totals)
    state |= {aggregate: values[user_row] for aggregate, values in snapshot.users.columns.items()}
    state |= {aggregate: values[item_rows] for aggregate, values in snapshot.items.columns.items()}
    return state | snapshot.pairs.of(user_row, item_rows)
