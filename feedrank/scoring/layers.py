"""A network's first layer, split by what it depends on, so that a request computes only its own part.

Shapes: H width of the layer, U users, I items. Input scaling is folded into the weights.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from feedrank import schema
from feedrank.features.aggregates import Context, Floats
from feedrank.features.definitions import FORMS
from feedrank.features.events import Ints
from feedrank.features.forms import Clock, Equals
from feedrank.model.forward import Arrays, linear_layers
from feedrank.model.inputs import INPUT_COLUMNS
from feedrank.scoring.features import (
    CALENDAR_FEATURES,
    ITEM_FEATURES,
    NUM_ITEM_FEATURES,
    USER_CLOCK_FEATURES,
    USER_STATE_FEATURES,
    RequestFeatures,
)

BATCH_ROWS = 1024
"""A batch stays in the processor's cache: three times as fast as 65,536."""


@dataclass(frozen=True)
class InputLayer:
    """The layer over `NUM_INPUTS` scaled inputs as one product with the inputs of an item matrix."""

    weight: Floats
    """[ITEM_FEATURES, 1 and USER_CLOCK_FEATURES, H]; the row of the input 1 is the request's own."""
    users: Floats
    """[U + 1, H]: the bias, the user features that the clock leaves alone, and what the caller adds."""
    context: Floats
    """[*CALENDAR_FEATURES, device, H]"""

    def __call__(self, user_row: int, request: RequestFeatures, inputs: Floats) -> Floats:
        """The layer's output [items, H] from the inputs of an item matrix [items, inputs]."""
        weight = self.weight.copy()
        np.add(
            self.users[user_row],
            self.context[request.context],
            out=weight[NUM_ITEM_FEATURES],
        )
        return inputs @ weight


def input_layer(arrays: Arrays, weight: Floats, bias: Floats, user_state: Floats) -> InputLayer:
    """Splits weights [H, NUM_INPUTS] and biases [H]; `user_state` is [U + 1, USER_STATE_FEATURES]."""
    folded = (weight / arrays["input_std"]).T
    bias = bias - arrays["input_mean"] @ folded
    users = np.tile(bias, (len(user_state), 1))
    for column, name in enumerate(USER_STATE_FEATURES):
        users += FORMS[name].inputs(user_state[:, column])[:, None] * folded[INPUT_COLUMNS[name]]
    of_request = np.zeros((1, len(bias)), dtype=np.float32)
    of_items, of_clock = (
        [folded[INPUT_COLUMNS[name]] for name in names] for names in (ITEM_FEATURES, USER_CLOCK_FEATURES)
    )
    return InputLayer(
        weight=np.concatenate([*of_items, of_request, *of_clock]), users=users, context=_context_layer(folded)
    )


def _context_layer(folded: Floats) -> Floats:
    """What each hour, weekday and device adds, [*CALENDAR_FEATURES, device, H]."""
    devices = Context(np.asarray(0), np.arange(len(schema.DEVICES)), np.asarray(0))
    flags = [(name, form) for name, form in FORMS.items() if isinstance(form, Equals)]
    context = sum(form.value(devices)[:, None] * folded[INPUT_COLUMNS[name]] for name, form in flags)
    for name in reversed(CALENDAR_FEATURES):
        form = FORMS[name]
        assert isinstance(form, Clock)
        values = form.inputs(np.arange(form.cycle, dtype=np.float32)) @ folded[INPUT_COLUMNS[name]]
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
