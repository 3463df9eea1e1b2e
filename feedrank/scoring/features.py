"""The features of one request from arrays that are aligned once at load; equal to `features/online.py`.

What the clock leaves alone is computed at load. The rest is computed for each request, from the aggregates of its user
and its items, by the same forms.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from feedrank.config.feed import Feed
from feedrank.features.aggregates import Aggregate, Array, Context, Entity, Floats
from feedrank.features.events import Ints
from feedrank.features.forms import Form
from feedrank.features.snapshot import EntityTable, Snapshot, kept
from feedrank.scoring.index import IdIndex, Rows

Moving = tuple[Form, tuple[Array, ...]]
"""A form whose value changes with the clock, and its aggregates by row."""


@dataclass(frozen=True)
class Layout:
    """Which features a request computes where.

    An item matrix is [rows, `matrix_columns`]: the features that differ between the items of a request, the network
    inputs they become, and in the same row the inputs that the items of a request share: 1, and those of `user_clock`.
    """

    feed: Feed
    item: tuple[str, ...]
    """Features that differ between the items of a request: first what the clock moves, last what is the user's, too."""
    pair: tuple[str, ...]
    """The last of `item`."""
    user_state: tuple[str, ...]
    """User features that the clock leaves alone."""
    user_clock: tuple[str, ...]
    calendar: tuple[str, ...]

    @cached_property
    def shared(self) -> tuple[str, ...]:
        """Features that the items of a request share, beside those of the device."""
        return self.user_state + self.user_clock + self.calendar

    @cached_property
    def one(self) -> int:
        """Where an item matrix has the input 1."""
        return 2 * len(self.item)

    @cached_property
    def matrix_columns(self) -> int:
        """Width of an item matrix."""
        return self.one + 1 + len(self.user_clock)


@lru_cache(maxsize=16)
def layout_of(feed: Feed) -> Layout:
    """The layout of a feed's features."""
    pair = feed.chosen(lambda form: form.entity is Entity.USER_ITEM)
    return Layout(
        feed=feed,
        item=feed.clocked(Entity.ITEM) + feed.standing(Entity.ITEM) + pair,
        pair=pair,
        user_state=feed.standing(Entity.USER),
        user_clock=feed.clocked(Entity.USER),
        calendar=feed.clocked(Entity.ALL),
    )


class RequestFeatures(NamedTuple):  # quicker to make than a frozen dataclass
    """Features that all items of a request share."""

    values: tuple[float, ...]
    """Of `Layout.shared`."""
    context: tuple[int, ...]
    """The values of `Layout.calendar`, and the device."""


class Pairs(NamedTuple):
    """What is known of users with items: the items of user row `u` are at `offsets[u]:offsets[u + 1]`."""

    offsets: Ints
    items: Rows
    """[pairs]"""
    known: tuple[tuple[int, Form, tuple[Array, ...]], ...]
    """Of each feature its column in an item matrix, its form, and by pair its value, or its aggregates if the clock
    moves it."""


@dataclass(frozen=True)
class OnlineState:
    """A snapshot aligned to user and item rows; the last row of each table is the unknown entity."""

    layout: Layout
    cutoff_us: int
    user_state: Floats
    """[users + 1, `Layout.user_state`]"""
    user_clock: tuple[Moving, ...]
    """Of `Layout.user_clock`."""
    calendar: tuple[Form, ...]
    """Of `Layout.calendar`."""
    item_static: Floats
    """Item matrix with zeros where the clock decides, and what is so of a pair without an event."""
    item_clock: tuple[Moving, ...]
    """Of the first of `Layout.item`."""
    pairs: Pairs

    @staticmethod
    def align(snapshot: Snapshot, users: IdIndex, items: IdIndex) -> "OnlineState":
        """Lays out a snapshot by the rows of two indices that contain its ids."""
        layout, forms = layout_of(snapshot.feed), snapshot.feed.features
        user_known = {**snapshot.totals, **_aligned(snapshot.users, users)}
        item_known = {**snapshot.totals, **_aligned(snapshot.items, items)}
        state = [_standing(forms[name], user_known) for name in layout.user_state]
        return OnlineState(
            layout=layout,
            cutoff_us=snapshot.cutoff_us,
            user_state=np.stack(state, axis=1) if state else np.zeros((len(users.ids) + 1, 0), dtype=np.float32),
            user_clock=tuple(_moving(forms[name], user_known, rows=len(users.ids) + 1) for name in layout.user_clock),
            calendar=tuple(forms[name] for name in layout.calendar),
            item_static=_item_static(layout, {**item_known, **_unknown_pair(layout)}, rows=len(items.ids) + 1),
            item_clock=tuple(
                _moving(forms[name], item_known, rows=len(items.ids) + 1) for name in snapshot.feed.clocked(Entity.ITEM)
            ),
            pairs=_pairs(layout, snapshot, users, items),
        )

    def request(self, user_row: int, time_us: int, device: int) -> RequestFeatures:
        """The shared features of a request."""
        now, clock = self._as_of(time_us), Context(time_us, device, self.cutoff_us)  # type: ignore[arg-type]
        calendar = [form.value(clock) for form in self.calendar]
        moving = [form.value(now, *[known.item(user_row) for known in of_users]) for form, of_users in self.user_clock]
        return RequestFeatures((*self.user_state[user_row].tolist(), *moving, *calendar), (*calendar, device))  # type: ignore[arg-type]

    def items(self, user_row: int, item_rows: Rows, time_us: int, shared: RequestFeatures) -> Floats:
        """The item matrix of a request, [items, `Layout.matrix_columns`]."""
        layout, now = self.layout, self._as_of(time_us)
        inputs = len(layout.item)
        matrix = self.item_static.take(item_rows, axis=0)
        for column, (form, _) in enumerate(self.user_clock):
            value = shared.values[len(layout.user_state) + column]
            matrix[:, layout.one + 1 + column] = form.inputs(value)  # type: ignore[arg-type]  # one number is an array, too
        for column, (form, of_items) in enumerate(self.item_clock):
            values = form.value(now, *[known.take(item_rows) for known in of_items])
            matrix[:, column] = values
            matrix[:, inputs + column] = form.inputs(values)
        start, stop = self.pairs.offsets.item(user_row), self.pairs.offsets.item(user_row + 1)
        if start != stop:
            own = self.pairs.items[start:stop]
            places = own.searchsorted(item_rows)
            seen = (own.take(places, mode="clip") == item_rows).nonzero()[0]
            if len(seen):
                places = places.take(seen) + start
                for column, form, of_pairs in self.pairs.known:
                    known = [values.take(places) for values in of_pairs]
                    values = form.value(now, *known) if form.clocked else known[0]
                    matrix[seen, column] = values
                    matrix[seen, inputs + column] = form.inputs(values)
        return matrix

    def _as_of(self, time_us: int) -> Context:
        """State that depends on the clock is as of the cut-off for earlier times. Floats are exact, and quicker."""
        return Context(float(max(time_us, self.cutoff_us)), 0, float(self.cutoff_us))  # type: ignore[arg-type]


def _standing(form: Form, known: dict[Aggregate, Array]) -> Floats:
    # Time and device are of no account for the forms that this is called with.
    return np.asarray(form.of(Context(*[np.asarray(0)] * 3), known), dtype=np.float32)


def _moving(form: Form, known: dict[Aggregate, Array], *, rows: int) -> Moving:
    # Of times and counts below 2^53 floats are exact, and quicker. What is known of all is the same in every row.
    return form, tuple(np.broadcast_to(known[a].astype(np.float64), rows) for a in form.aggregates)


def _item_static(layout: Layout, known: dict[Aggregate, Array], *, rows: int) -> Floats:
    matrix = np.zeros((rows, layout.matrix_columns), dtype=np.float32)
    matrix[:, layout.one] = 1.0
    for column, name in enumerate(layout.item):
        form = layout.feed.features[name]
        if name in layout.pair or not form.clocked:
            matrix[:, column] = _standing(form, known)
            matrix[:, len(layout.item) + column] = form.inputs(matrix[:, column])
    return matrix


def _unknown_pair(layout: Layout) -> dict[Aggregate, Array]:
    return {a: np.asarray(a.unknown) for a in kept(layout.feed, Entity.USER_ITEM)}


def _pairs(layout: Layout, snapshot: Snapshot, users: IdIndex, items: IdIndex) -> Pairs:
    offsets, pair_items = _aligned_pairs(snapshot, users, items)
    known = {**snapshot.totals, **snapshot.pairs.columns}
    laid_out = []
    for name in layout.pair:
        form = layout.feed.features[name]
        values = _moving(form, known, rows=len(pair_items))[1] if form.clocked else (_standing(form, known),)
        laid_out.append((layout.item.index(name), form, values))
    return Pairs(offsets, pair_items, tuple(laid_out))


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


def feature_matrix(layout: Layout, shared: RequestFeatures, item_matrix: Floats) -> Floats:
    """All features of a request, [items, features] in the order of `Feed.names`."""
    device = Context(np.asarray(0), np.asarray(shared.context[-1]), np.asarray(0))
    values: dict[str, Floats | float] = {
        **dict(zip(layout.shared, shared.values, strict=True)),
        **{name: form.value(device) for name, form in layout.feed.flags.items()},
        **{name: item_matrix[:, column] for column, name in enumerate(layout.item)},
    }
    matrix = np.empty((len(item_matrix), len(layout.feed.names)), dtype=np.float32)
    for column, name in enumerate(layout.feed.names):
        matrix[:, column] = values[name]
    return matrix
