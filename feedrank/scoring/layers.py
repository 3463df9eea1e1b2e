"""A network's first layer, split by what it depends on, so that a request computes only its own part.

Shapes: H width of the layer, U users, I items. Input scaling is folded into the weights.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from feedrank import schema
from feedrank.features.aggregates import Context, Floats
from feedrank.features.events import Ints
from feedrank.features.forms import Clock
from feedrank.model.forward import Arrays, linear_layers
from feedrank.model.inputs import inputs_of
from feedrank.scoring.features import Layout, OnlineState, RequestFeatures

BATCH_ROWS = 1024
"""A batch stays in the processor's cache: three times as fast as 65,536."""


@dataclass(frozen=True)
class InputLayer:
    """The layer over all scaled inputs as one product with the inputs of an item matrix."""

    weight: Floats
    """[`Layout.item`, 1 and `Layout.user_clock`, H]; the row of the input 1 is the request's own."""
    users: Floats
    """[U + 1, H]: the bias, the user features that the clock leaves alone, and what the caller adds."""
    context: Floats
    """[*`Layout.calendar`, device, H]"""
    own_row: int
    """Of the input 1."""

    def __call__(self, user_row: int, request: RequestFeatures, inputs: Floats) -> Floats:
        """The layer's output [items, H] from the inputs of an item matrix [items, inputs]."""
        weight = self.weight.copy()
        np.add(
            self.users[user_row],
            self.context[request.context],
            out=weight[self.own_row],
        )
        return inputs @ weight


def input_layer(arrays: Arrays, weight: Floats, bias: Floats, state: OnlineState) -> InputLayer:
    """Splits weights [H, inputs] and biases [H]."""
    layout, forms, columns = state.layout, state.layout.feed.features, inputs_of(state.layout.feed).columns
    folded = (weight / arrays["input_std"]).T
    bias = bias - arrays["input_mean"] @ folded
    users = np.tile(bias, (len(state.user_state), 1))
    for column, name in enumerate(layout.user_state):
        users += forms[name].inputs(state.user_state[:, column])[:, None] * folded[columns[name]]
    of_request = np.zeros((1, len(bias)), dtype=np.float32)
    of_items, of_clock = ([folded[columns[name]] for name in names] for names in (layout.item, layout.user_clock))
    return InputLayer(
        weight=np.concatenate([*of_items, of_request, *of_clock]),
        users=users,
        context=_context_layer(layout, folded),
        own_row=len(layout.item),
    )


def _context_layer(layout: Layout, folded: Floats) -> Floats:
    """What each hour, weekday and device adds, [*`Layout.calendar`, device, H]."""
    columns, forms = inputs_of(layout.feed).columns, layout.feed.features
    devices = Context(np.asarray(0), np.arange(len(schema.DEVICES)), np.asarray(0))
    context = np.zeros((len(schema.DEVICES), folded.shape[1]), dtype=np.float32)
    for name, flag in layout.feed.flags.items():
        context += flag.value(devices)[:, None] * folded[columns[name]]
    for name in reversed(layout.calendar):
        form = forms[name]
        assert isinstance(form, Clock)
        values = form.inputs(np.arange(form.cycle, dtype=np.float32)) @ folded[columns[name]]
        context = values.reshape(len(values), *[1] * (np.ndim(context) - 1), -1) + context
    return np.asarray(context, dtype=np.float32)


Layers = list[tuple[Floats, Floats]]
"""Weights [in, out], laid out for row vectors from the left, and biases [out]."""


def transposed_layers(arrays: Arrays, prefix: str) -> Layers:
    """A network's linear layers in memory of their own, off the bundle's files."""
    return [(np.ascontiguousarray(weight.T), np.array(bias)) for weight, bias in linear_layers(arrays, prefix)]


def run_to_logits(hidden: Floats, layers: Layers) -> Floats:
    """Linear layers with ReLU before each, the last of one output: [rows, in] to [rows]."""
    for weight, bias in layers[:-1]:
        np.maximum(hidden, 0, out=hidden)
        hidden = hidden @ weight
        hidden += bias
    weight, bias = layers[-1]
    np.maximum(hidden, 0, out=hidden)
    logits = hidden @ weight[:, 0]
    logits += bias
    return logits


def in_batches(rows: Ints, compute: Callable[[Ints], Floats]) -> Floats:
    """Concatenates `compute` over batches of rows, so that what it needs between stays small."""
    result: Floats | None = None
    for start in range(0, len(rows), BATCH_ROWS):
        part = compute(rows[start : start + BATCH_ROWS])
        if result is None:
            result = np.empty((len(rows), part.shape[1]), dtype=np.float32)
        result[start : start + len(part)] = part
    assert result is not None, "there is always the unknown entity's row"
    return result
