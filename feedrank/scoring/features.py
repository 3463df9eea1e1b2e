"""The features of one request from arrays that are aligned once at load; equal to `features/online.py`.

What the clock leaves alone is computed at load. The rest is computed for each request, from the aggregates of its user
and its items, by the same forms.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from feedrank import schema
from feedrank.features.aggregates import Aggregate, Array, Context, Entity, Floats
from feedrank.features.definitions import CLOCKED, FORMS, STANDING, definitions
from feedrank.features.events import Ints
from feedrank.features.forms import Equals, Form
from feedrank.features.snapshot import EntityTable, Snapshot
from feedrank.scoring.index import IdIndex, Rows

PAIR_FEATURES = STANDING[Entity.USER_ITEM]
ITEM_FEATURES = CLOCKED[Entity.ITEM] + STANDING[Entity.ITEM] + PAIR_FEATURES
"""Features that differ between the items of a request."""
USER_STATE_FEATURES = STANDING[Entity.USER]
"""User features that the clock leaves alone."""
USER_CLOCK_FEATURES = CLOCKED[Entity.USER]
CALENDAR_FEATURES = CLOCKED[Entity.ALL]
SHARED_FEATURES = USER_STATE_FEATURES + USER_CLOCK_FEATURES + CALENDAR_FEATURES
"""Features that the items of a request share, beside those of the device."""
NUM_ITEM_FEATURES = len(ITEM_FEATURES)
_ONE = 2 * NUM_ITEM_FEATURES
"""An item matrix is [rows, MATRIX_COLUMNS]: the features, the network inputs they become, and in the same row the
inputs that the items of a request share: 1, and those of `USER_CLOCK_FEATURES`."""
MATRIX_COLUMNS = _ONE + 1 + len(USER_CLOCK_FEATURES)

Moving = tuple[Form, tuple[Array, ...]]
"""A form whose value changes with the clock, and its aggregates by row."""


class RequestFeatures(NamedTuple):  # quicker to make than a frozen dataclass
    """Features that all items of a request share."""

    values: tuple[float, ...]
    """Of `SHARED_FEATURES`."""
    context: tuple[int, ...]
    """The values of `CALENDAR_FEATURES`, and the device."""


@dataclass(frozen=True)
class OnlineState:
    """A snapshot aligned to user and item rows; the last row of each table is the unknown entity."""

    cutoff_us: int
    user_state: Floats
    """[users + 1, USER_STATE_FEATURES]"""
    user_clock: tuple[Moving, ...]
    """Of `USER_CLOCK_FEATURES`."""
    calendar: tuple[Form, ...]
    """Of `CALENDAR_FEATURES`."""
    item_static: Floats
    """Item matrix with zeros where the clock or the user decides."""
    item_clock: tuple[Moving, ...]
    """Of the first of `ITEM_FEATURES`."""
    pair_offsets: Ints
    pair_items: Rows
    pair_counts: Floats

    @staticmethod
    def align(snapshot: Snapshot, users: IdIndex, items: IdIndex) -> "OnlineState":
        """Lays out a snapshot by the rows of two indices that contain its ids."""
        forms = definitions(snapshot.info.feature_config)
        user_known = {**snapshot.totals, **_aligned(snapshot.users, users)}
        item_known = {**snapshot.totals, **_aligned(snapshot.items, items)}
        offsets, pair_items = _aligned_pairs(snapshot, users, items)
        return OnlineState(
            cutoff_us=snapshot.cutoff_us,
            user_state=np.stack([_standing(forms[name], user_known) for name in USER_STATE_FEATURES], axis=1),
            user_clock=tuple(_moving(forms[name], user_known) for name in USER_CLOCK_FEATURES),
            calendar=tuple(forms[name] for name in CALENDAR_FEATURES),
            item_static=_item_static(forms, item_known, rows=len(items.ids) + 1),
            item_clock=tuple(_moving(forms[name], item_known) for name in CLOCKED[Entity.ITEM]),
            pair_offsets=offsets,
            pair_items=pair_items,
            pair_counts=snapshot.pairs.impressions.astype(np.float32),
        )

    def request(self, user_row: int, time_us: int, device: int) -> RequestFeatures:
        """The shared features of a request."""
        now, clock = self._as_of(time_us), Context(time_us, device, self.cutoff_us)  # type: ignore[arg-type]
        calendar = [form.value(clock) for form in self.calendar]
        moving = [form.value(now, *[known.item(user_row) for known in kept]) for form, kept in self.user_clock]
        return RequestFeatures((*self.user_state[user_row].tolist(), *moving, *calendar), (*calendar, device))  # type: ignore[arg-type]

    def items(self, user_row: int, item_rows: Rows, time_us: int, shared: RequestFeatures) -> Floats:
        """The item matrix of a request, [items, MATRIX_COLUMNS]."""
        now = self._as_of(time_us)
        matrix = self.item_static.take(item_rows, axis=0)
        for column, (form, _) in enumerate(self.user_clock):
            value = shared.values[len(USER_STATE_FEATURES) + column]
            matrix[:, _ONE + 1 + column] = form.inputs(value)  # type: ignore[arg-type]  # one number is an array, too
        for column, (form, kept) in enumerate(self.item_clock):
            values = form.value(now, *[known.take(item_rows) for known in kept])
            matrix[:, column] = values
            matrix[:, NUM_ITEM_FEATURES + column] = form.inputs(values)
        start, stop = self.pair_offsets.item(user_row), self.pair_offsets.item(user_row + 1)
        if start != stop:
            own = self.pair_items[start:stop]
            places = own.searchsorted(item_rows)
            seen = own.take(places, mode="clip") == item_rows
            if np.count_nonzero(seen):
                counts = self.pair_counts[start:stop].take(places, mode="clip")
                counts *= seen
                matrix[:, NUM_ITEM_FEATURES - 1] = counts
                np.log1p(counts, out=matrix[:, 2 * NUM_ITEM_FEATURES - 1])
        return matrix

    def _as_of(self, time_us: int) -> Context:
        """State that depends on the clock is as of the cut-off for earlier times. Floats are exact, and quicker."""
        return Context(float(max(time_us, self.cutoff_us)), 0, float(self.cutoff_us))  # type: ignore[arg-type]


def _standing(form: Form, known: dict[Aggregate, Array]) -> Floats:
    # Time and device are of no account for the forms that this is called with.
    return form.of(Context(*[np.asarray(0)] * 3), known).astype(np.float32)


def _moving(form: Form, known: dict[Aggregate, Array]) -> Moving:
    # Of times and counts below 2^53 floats are exact, and quicker.
    return form, tuple(known[aggregate].astype(np.float64) for aggregate in form.aggregates)


def _item_static(forms: dict[str, Form], known: dict[Aggregate, Array], *, rows: int) -> Floats:
    matrix = np.zeros((rows, MATRIX_COLUMNS), dtype=np.float32)
    matrix[:, _ONE] = 1.0
    for name in STANDING[Entity.ITEM]:
        column = ITEM_FEATURES.index(name)
        matrix[:, column] = _standing(forms[name], known)
        matrix[:, NUM_ITEM_FEATURES + column] = forms[name].inputs(matrix[:, column])
    return matrix


def _aligned(table: EntityTable, index: IdIndex) -> dict[Aggregate, Array]:
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
    device = Context(np.asarray(0), np.asarray(shared.context[-1]), np.asarray(0))
    values: dict[str, Floats | float] = {
        **dict(zip(SHARED_FEATURES, shared.values, strict=True)),
        **{name: form.value(device) for name, form in FORMS.items() if isinstance(form, Equals)},
        **{name: item_matrix[:, column] for column, name in enumerate(ITEM_FEATURES)},
    }
    matrix = np.empty((len(item_matrix), len(schema.FEATURES)), dtype=np.float32)
    for column, name in enumerate(schema.FEATURES):
        matrix[:, column] = values[name]
    return matrix
