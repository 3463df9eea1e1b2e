"""Ranks the items of one request with a loaded model and its snapshot."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from feedrank import schema
from feedrank.features.aggregates import Entity, Floats
from feedrank.features.events import Ints
from feedrank.features.snapshot import Snapshot
from feedrank.model.bundle import ITEM_IDS, USER_IDS, ModelBundle, rows_of
from feedrank.model.forward import Arrays, vectors
from feedrank.model.inputs import PRODUCT_SCALE, inputs_of
from feedrank.scoring.features import Layout, OnlineState, RequestFeatures, feature_matrix
from feedrank.scoring.index import IdIndex, Rows
from feedrank.scoring.layers import (
    InputLayer,
    Layers,
    in_batches,
    input_layer,
    run_to_logits,
    transposed_layers,
)

Flags = npt.NDArray[np.uint8]
NO_EMBEDDING, NO_HISTORY = 1, 2
"""What model and snapshot lack of an item or a user."""


class Ranking(NamedTuple):  # quicker to make than a frozen dataclass
    """The items of a request from best to worst, with what they were ranked by."""

    layout: Layout
    user_id: int
    time_us: int
    item_ids: Ints
    scores: Floats
    """Click probabilities, [items]."""
    shared: RequestFeatures
    order: Ints
    """Places of the ranked items in the request, [items]."""
    item_matrix: Floats
    """[items, `Layout.matrix_columns`], in the order of the request."""
    unknown_user: bool
    """The model has no embedding of the user."""
    unknown_items: int
    """Items that the model has no embedding of although the snapshot knows them: they are newer than the model."""
    unseen_items: int
    """Items that the snapshot has no history of."""

    def features(self) -> Floats:
        """The features used, [items, features] in the order of `Feed.names`, items by rank."""
        return feature_matrix(self.layout, self.shared, self.item_matrix[self.order])


class Logits(Protocol):
    """One model type's logits [items] of a request."""

    def __call__(self, user_row: int, item_rows: Rows, shared: RequestFeatures, inputs: Floats) -> Floats:
        """`inputs` are those of an item matrix, not yet scaled."""
        ...


@dataclass(frozen=True)
class TwoTowerLogits:
    """Dot products of vectors that were computed at load, and the cross term."""

    user_vectors: Floats
    """[users + 1, vector], by user row."""
    item_vectors: Floats
    """[items + 1, vector], by item row."""
    cross_input: InputLayer
    cross: Layers

    def __call__(self, user_row: int, item_rows: Rows, shared: RequestFeatures, inputs: Floats) -> Floats:
        """See `Logits`."""
        logits = run_to_logits(self.cross_input(user_row, shared, inputs), self.cross)
        logits += self.item_vectors.take(item_rows, axis=0) @ self.user_vectors[user_row]
        return logits


@dataclass(frozen=True)
class DeepMlpLogits:
    """One network whose first layer was computed at load but for the request's inputs and the items' embeddings.

    The embeddings enter it by themselves and multiplied with the user's: one product with weights that depend on the
    user.
    """

    input_layer: InputLayer
    user_embeddings: Floats
    """[users + 1, D], by user row, times `PRODUCT_SCALE`."""
    item_embeddings: Floats
    """[items + 1, D], by item row."""
    item_weight: Floats
    """[D, H]"""
    product_weight: Floats
    """[D, H]"""
    layers: Layers

    def __call__(self, user_row: int, item_rows: Rows, shared: RequestFeatures, inputs: Floats) -> Floats:
        """See `Logits`."""
        weight = self.user_embeddings[user_row][:, None] * self.product_weight
        weight += self.item_weight
        hidden = self.item_embeddings.take(item_rows, axis=0) @ weight
        hidden += self.input_layer(user_row, shared, inputs)
        return run_to_logits(hidden, self.layers)


@dataclass(frozen=True)
class Scorer:
    """A model with a snapshot, ready to rank. Safe to use from several threads; it keeps no file open."""

    users: IdIndex
    items: IdIndex
    state: OnlineState
    logits: Logits
    default_device: int
    user_lacks: Flags
    """By user row, [users + 1]."""
    item_lacks: Flags
    """By item row, [items + 1]."""

    @staticmethod
    def build(bundle: ModelBundle, snapshot: Snapshot) -> "Scorer":
        """Lays out everything that does not depend on a request."""
        users = IdIndex.union(bundle.arrays[USER_IDS], snapshot.users.ids)
        items = IdIndex.union(bundle.arrays[ITEM_IDS], snapshot.items.ids)
        state = OnlineState.align(snapshot, users, items)
        user_rows = np.append(rows_of(bundle.arrays[USER_IDS], users.ids), len(bundle.arrays[USER_IDS]))
        item_rows = np.append(rows_of(bundle.arrays[ITEM_IDS], items.ids), len(bundle.arrays[ITEM_IDS]))
        build = _two_tower if bundle.config.model_type == "two_tower" else _deep_mlp
        device = schema.DEVICES.index(snapshot.info.most_common_device)
        logits = build(bundle.arrays, state, user_rows, item_rows)
        user_lacks = _lacks(users, bundle.arrays[USER_IDS], snapshot.users.ids)
        item_lacks = _lacks(items, bundle.arrays[ITEM_IDS], snapshot.items.ids)
        return Scorer(users, items, state, logits, device, user_lacks, item_lacks)

    def rank(self, user_id: int, item_ids: Sequence[int] | Ints, *, time_us: int, device: int | None = None) -> Ranking:
        """Ranks distinct items for a user at a time (µs since 1970, UTC) on a device (index into `schema.DEVICES`).

        Unknown ids are scored by the model's learned default and the features of an entity without history. State
        that depends on the clock is taken as of the snapshot's cut-off when the time is earlier than that.
        """
        ids = np.fromiter(item_ids, np.int64, len(item_ids))
        user_row, item_rows = self.users.row(user_id), self.items.rows(ids)
        shared = self.state.request(user_row, time_us, self.default_device if device is None else device)
        matrix = self.state.items(user_row, item_rows, time_us, shared)
        scores = _sigmoid(self.logits(user_row, item_rows, shared, matrix[:, len(self.state.layout.item) :]))
        order = (-scores).argsort(kind="stable")
        lacks = self.item_lacks.take(item_rows)
        lacking = np.count_nonzero(lacks) > 0  # seldom so, and quicker than to count both
        return Ranking(
            layout=self.state.layout,
            user_id=user_id,
            time_us=time_us,
            item_ids=ids.take(order),
            scores=scores.take(order),
            shared=shared,
            order=order,
            item_matrix=matrix,
            unknown_user=bool(self.user_lacks[user_row] & NO_EMBEDDING),
            unknown_items=int(np.count_nonzero(lacks == NO_EMBEDDING)) if lacking else 0,
            unseen_items=int(np.count_nonzero(lacks & NO_HISTORY)) if lacking else 0,
        )


def _lacks(index: IdIndex, embedded: Ints, seen: Ints) -> Flags:
    """`NO_EMBEDDING` and `NO_HISTORY` of each row; the last is that of an id that is in neither."""
    lacks = np.zeros(len(index.ids) + 1, dtype=np.uint8)
    for flag, ids in ((NO_EMBEDDING, embedded), (NO_HISTORY, seen)):
        lacks[:-1] |= flag * (rows_of(ids, index.ids) == len(ids)).astype(np.uint8)
        lacks[-1] |= flag
    return lacks


def _sigmoid(logits: Floats) -> Floats:
    logits *= 0.5
    np.tanh(logits, out=logits)
    logits += 1.0
    logits *= 0.5
    return logits


def _item_inputs(state: OnlineState, arrays: Arrays) -> Floats:
    """Scaled inputs [items + 1, inputs]; only the item tower's columns hold values that count."""
    items, names = state.item_static[:, len(state.layout.item) :], state.layout.item
    return _scaled(state.layout, arrays, {name: items[:, column] for column, name in enumerate(names)}, rows=len(items))


def _user_inputs(state: OnlineState, arrays: Arrays) -> Floats:
    """Scaled inputs [users + 1, inputs]; only the user tower's columns hold values."""
    forms, users = state.layout.feed.features, state.user_state
    values = {name: forms[name].inputs(users[:, column]) for column, name in enumerate(state.layout.user_state)}
    return _scaled(state.layout, arrays, values, rows=len(users))


def _scaled(layout: Layout, arrays: Arrays, values: dict[str, Floats], *, rows: int) -> Floats:
    layout_of_inputs = inputs_of(layout.feed)
    inputs = np.zeros((rows, layout_of_inputs.width), dtype=np.float32)
    for name, column in values.items():
        inputs[:, layout_of_inputs.columns[name]] = column[:, None]
    return (inputs - arrays["input_mean"]) / arrays["input_std"]


def _two_tower(arrays: Arrays, state: OnlineState, user_rows: Ints, item_rows: Ints) -> TwoTowerLogits:
    of_items, of_users = _item_inputs(state, arrays), _user_inputs(state, arrays)
    inputs = inputs_of(state.layout.feed)
    (weight, bias), *cross = transposed_layers(arrays, "cross")
    return TwoTowerLogits(
        user_vectors=in_batches(
            np.arange(len(user_rows)),
            lambda rows: vectors(arrays, inputs, Entity.USER, user_rows[rows], of_users[rows]),
        ),
        item_vectors=in_batches(
            np.arange(len(item_rows)),
            lambda rows: vectors(arrays, inputs, Entity.ITEM, item_rows[rows], of_items[rows]),
        ),
        cross_input=input_layer(arrays, weight.T, bias, state),
        cross=cross,
    )


def _deep_mlp(arrays: Arrays, state: OnlineState, user_rows: Ints, item_rows: Ints) -> DeepMlpLogits:
    users, items = arrays["user_embedding.weight"], arrays["item_embedding.weight"]
    dim = users.shape[1]
    (weight, bias), *layers = transposed_layers(arrays, "mlp")
    of_user, of_item, of_product, of_inputs = np.split(weight, [dim, 2 * dim, 3 * dim])
    layer = input_layer(arrays, of_inputs.T, bias, state)
    layer.users[:] += in_batches(user_rows, lambda rows: users[rows] @ of_user)
    return DeepMlpLogits(layer, PRODUCT_SCALE * users[user_rows], items[item_rows], of_item, of_product, layers)
