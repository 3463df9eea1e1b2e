"""The features of one request from arrays that are aligned once at load; equal to `features/online.py`.

Features that the clock leaves alone are computed at load by the definitions themselves. For the others the request
path has its own few operations, which tests pin to the definitions.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from feedrank import schema
from feedrank.features.definitions import (
    FEATURE_DEFINITIONS,
    ITEM_DECAYED,
    ITEM_FIRST_TIME,
    NO_TIME,
    US_PER_DAY,
    US_PER_HOUR,
    USER_LAST_TIME,
    Context,
    State,
    day_of_week,
    hour_of_day,
    popularity_half_life_us,
)
from feedrank.features.events import Ints
from feedrank.features.snapshot import EntityTable, Snapshot
from feedrank.model.inputs import Floats, transform
from feedrank.scoring.index import IdIndex, Rows

ITEM_FEATURES = (
    schema.ITEM_POPULARITY,
    schema.ITEM_AGE_DAYS,
    schema.ITEM_CTR,
    schema.ITEM_AVG_DWELL_TIME,
    schema.USER_ITEM_PREVIOUS_INTERACTIONS,
)
"""Features that differ between the items of a request."""
USER_STATE_FEATURES = (
    schema.USER_HISTORICAL_CTR,
    schema.USER_AVG_DWELL_TIME,
    schema.USER_INTERACTION_COUNT,
    schema.USER_DAYS_ACTIVE,
)
"""User features that the clock leaves alone."""
NUM_ITEM_FEATURES = len(ITEM_FEATURES)
_POPULARITY, _AGE, _CTR, _DWELL, _PAIR = range(NUM_ITEM_FEATURES)
NEVER_US = 2.0**60
"""A first time that makes no item older than 0 days."""
_IN = NUM_ITEM_FEATURES
"""An item matrix is [rows, MATRIX_COLUMNS]: the features, the network inputs they become, and in the same row the
inputs that the items of a request share: 1 and recency."""
_ONE, _RECENCY = range(2 * NUM_ITEM_FEATURES, 2 * NUM_ITEM_FEATURES + 2)
MATRIX_COLUMNS = 2 * NUM_ITEM_FEATURES + 2


class RequestFeatures(NamedTuple):  # quicker to make than a frozen dataclass
    """Features that all items of a request share."""

    user_ctr: float
    user_avg_dwell_seconds: float
    user_interactions: int
    user_days_active: int
    recency: float
    hour: int
    weekday: int
    device: int


@dataclass(frozen=True)
class OnlineState:
    """A snapshot aligned to user and item rows; the last row of each table is the unknown entity."""

    cutoff_us: int
    popularity_half_life_us: float
    recency_half_life_us: float
    user_state: Floats
    """[users + 1, USER_STATE_FEATURES]"""
    user_last_us: Ints
    item_static: Floats
    """Item matrix with zeros where the clock or the user decides."""
    item_clock: NDArray[np.float64]
    """Decayed impressions as of the cut-off, and the first time in µs (exact, below 2^53), [items + 1, 2]."""
    pair_offsets: Ints
    pair_items: Rows
    pair_counts: Floats

    @staticmethod
    def align(snapshot: Snapshot, users: IdIndex, items: IdIndex) -> "OnlineState":
        """Lays out a snapshot by the rows of two indices that contain its ids."""
        config = snapshot.info.feature_config
        user_state = {**snapshot.totals, **_aligned(snapshot.users, users)}
        item_state = {**snapshot.totals, **_aligned(snapshot.items, items)}
        first = item_state[ITEM_FIRST_TIME]
        offsets, pair_items = _aligned_pairs(snapshot, users, items)
        return OnlineState(
            cutoff_us=snapshot.cutoff_us,
            popularity_half_life_us=popularity_half_life_us(config),
            recency_half_life_us=config.recency_half_life_hours * US_PER_HOUR,
            user_state=np.stack([_defined(snapshot, name, user_state) for name in USER_STATE_FEATURES], axis=1),
            user_last_us=user_state[USER_LAST_TIME],
            item_static=_item_static(snapshot, item_state),
            item_clock=np.stack([item_state[ITEM_DECAYED], np.where(first == NO_TIME, NEVER_US, first)], axis=1),
            pair_offsets=offsets,
            pair_items=pair_items,
            pair_counts=snapshot.pairs.impressions.astype(np.float32),
        )

    def request(self, user_row: int, time_us: int, device: int) -> RequestFeatures:
        """The shared features of a request."""
        as_of = max(time_us, self.cutoff_us)
        last = self.user_last_us.item(user_row)
        known = last != NO_TIME
        state = self.user_state
        return RequestFeatures(
            user_ctr=state.item(user_row, 0),
            user_avg_dwell_seconds=state.item(user_row, 1),
            user_interactions=int(state.item(user_row, 2)),
            user_days_active=int(state.item(user_row, 3)),
            recency=math.exp2((last - as_of) / self.recency_half_life_us) if known else 0.0,
            hour=hour_of_day(time_us),  # type: ignore[arg-type]  # one number is as good as an array
            weekday=day_of_week(time_us),  # type: ignore[arg-type]
            device=device,
        )

    def items(self, user_row: int, item_rows: Rows, time_us: int, shared: RequestFeatures) -> Floats:
        """The item matrix of a request, [items, MATRIX_COLUMNS]."""
        as_of = max(time_us, self.cutoff_us)
        matrix = self.item_static.take(item_rows, axis=0)
        matrix[:, _RECENCY] = shared.recency
        clock = self.item_clock.take(item_rows, axis=0)
        decayed, age = clock[:, 0], clock[:, 1]
        decayed *= math.exp2((self.cutoff_us - as_of) / self.popularity_half_life_us)
        np.subtract(as_of, age, out=age)
        age /= US_PER_DAY
        np.floor(age, out=age)
        np.maximum(age, 0.0, out=age)
        matrix[:, _AGE] = age
        np.log1p(clock, out=clock)
        matrix[:, _POPULARITY] = decayed
        matrix[:, _IN + _POPULARITY : _IN + _AGE + 1] = clock
        start, stop = self.pair_offsets.item(user_row), self.pair_offsets.item(user_row + 1)
        if start != stop:
            own = self.pair_items[start:stop]
            places = own.searchsorted(item_rows)
            seen = own.take(places, mode="clip") == item_rows
            if np.count_nonzero(seen):
                counts = self.pair_counts[start:stop].take(places, mode="clip")
                counts *= seen
                matrix[:, _PAIR] = counts
                np.log1p(counts, out=matrix[:, _IN + _PAIR])
        return matrix


def _defined(snapshot: Snapshot, name: str, state: State) -> Floats:
    # Time and device are of no account for the features that this is called with.
    context = Context(np.asarray(0), np.asarray(0, dtype=np.int8), np.asarray(snapshot.cutoff_us))
    return FEATURE_DEFINITIONS[name](state, context, snapshot.info.feature_config).astype(np.float32)


def _item_static(snapshot: Snapshot, state: State) -> Floats:
    matrix = np.zeros((len(state[ITEM_DECAYED]), MATRIX_COLUMNS), dtype=np.float32)
    matrix[:, _ONE] = 1.0
    for column in (_CTR, _DWELL):
        name = ITEM_FEATURES[column]
        matrix[:, column] = _defined(snapshot, name, state)
        matrix[:, _IN + column] = transform(name, matrix[:, column])
    return matrix


def _aligned(table: EntityTable, index: IdIndex) -> State:
    rows = np.append(table.rows(index.ids), len(table.ids))
    return {aggregate: values[rows] for aggregate, values in table.columns.items()}


def _aligned_pairs(snapshot: Snapshot, users: IdIndex, items: IdIndex) -> tuple[Ints, Rows]:
    pairs = snapshot.pairs
    counts = np.zeros(len(users.ids) + 1, dtype=np.int64)
    # Both id lists are sorted, so the order of users, and of each user's items, stays as it is.
    counts[users.rows(snapshot.users.ids)] = np.diff(pairs.offsets)[: len(snapshot.users.ids)]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return offsets, items.rows(snapshot.items.ids).astype(np.int32)[pairs.item_rows]


def feature_matrix(shared: RequestFeatures, item_matrix: Floats) -> Floats:
    """All features of a request, [items, features] in the order of `schema.FEATURES`."""
    values: dict[str, Floats | float] = {
        schema.USER_HISTORICAL_CTR: shared.user_ctr,
        schema.USER_AVG_DWELL_TIME: shared.user_avg_dwell_seconds,
        schema.USER_INTERACTION_COUNT: shared.user_interactions,
        schema.USER_DAYS_ACTIVE: shared.user_days_active,
        schema.RECENCY_SCORE: shared.recency,
        schema.HOUR_OF_DAY: shared.hour,
        schema.DAY_OF_WEEK: shared.weekday,
        **{column: float(shared.device == i) for i, column in enumerate(schema.DEVICE_COLUMNS)},
        **{name: item_matrix[:, column] for column, name in enumerate(ITEM_FEATURES)},
    }
    matrix = np.empty((len(item_matrix), len(schema.FEATURES)), dtype=np.float32)
    for column, name in enumerate(schema.FEATURES):
        matrix[:, column] = values[name]
    return matrix
