"""The rankers' forward pass on plain arrays: scores whole tables without torch, and states what scoring must equal."""

from collections.abc import Mapping

import numpy as np

from feedrank.config.model import ModelType
from feedrank.features.aggregates import Floats
from feedrank.features.events import Ints
from feedrank.model.inputs import ITEM_TOWER_COLUMNS, PRODUCT_SCALE, USER_TOWER_COLUMNS

Arrays = Mapping[str, Floats]
"""The weights of a ranker, named as in torch's state dict."""

BATCH_ROWS = 65_536


def linear_layers(arrays: Arrays, prefix: str) -> list[tuple[Floats, Floats]]:
    """Weights [out, in] and biases [out] of a network's linear layers, in order."""
    numbers = sorted(
        int(name.split(".")[1]) for name in arrays if name.startswith(f"{prefix}.") and name.endswith(".weight")
    )
    return [(arrays[f"{prefix}.{n}.weight"], arrays[f"{prefix}.{n}.bias"]) for n in numbers]


def mlp(arrays: Arrays, prefix: str, x: Floats) -> Floats:
    """Linear layers with ReLU between them: [rows, in] to [rows, out]."""
    layers = linear_layers(arrays, prefix)
    for weight, bias in layers[:-1]:
        x = np.maximum(x @ weight.T + bias, 0)
    weight, bias = layers[-1]
    return x @ weight.T + bias


def item_vectors(arrays: Arrays, item_rows: Ints, scaled_inputs: Floats) -> Floats:
    """two_tower's item vectors [rows, vector] from item rows and scaled inputs [rows, NUM_INPUTS]."""
    embedded = arrays["item_embedding.weight"][item_rows]
    return embedded + mlp(arrays, "item_tower", np.hstack([embedded, scaled_inputs[:, ITEM_TOWER_COLUMNS]]))


def user_vectors(arrays: Arrays, user_rows: Ints, scaled_inputs: Floats) -> Floats:
    """two_tower's user vectors [rows, vector] from user rows and scaled inputs [rows, NUM_INPUTS]."""
    embedded = arrays["user_embedding.weight"][user_rows]
    return embedded + mlp(arrays, "user_tower", np.hstack([embedded, scaled_inputs[:, USER_TOWER_COLUMNS]]))


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + exp(-logit)), without overflow."""
    return (0.5 * (1.0 + np.tanh(0.5 * logits))).astype(np.float32)


def scores(arrays: Arrays, model_type: ModelType, *, user_rows: Ints, item_rows: Ints, inputs: Floats) -> Floats:
    """Click probabilities [rows] of users' and items' rows [rows] with raw inputs [rows, NUM_INPUTS]."""
    parts = []
    for start in range(0, len(inputs), BATCH_ROWS):
        rows = slice(start, start + BATCH_ROWS)
        x = (inputs[rows] - arrays["input_mean"]) / arrays["input_std"]
        parts.append(sigmoid(_logits(arrays, model_type, user_rows[rows], item_rows[rows], x)))
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)


def _logits(arrays: Arrays, model_type: ModelType, user_rows: Ints, item_rows: Ints, x: Floats) -> Floats:
    if model_type == "two_tower":
        dots = np.einsum("ij,ij->i", user_vectors(arrays, user_rows, x), item_vectors(arrays, item_rows, x))
        return dots + mlp(arrays, "cross", x)[:, 0]
    users, items = arrays["user_embedding.weight"][user_rows], arrays["item_embedding.weight"][item_rows]
    return mlp(arrays, "mlp", np.hstack([users, items, PRODUCT_SCALE * users * items, x]))[:, 0]
