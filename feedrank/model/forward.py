"""The rankers' forward pass on plain arrays: scores whole tables without torch, and states what scoring must equal."""

from collections.abc import Mapping

import numpy as np

from feedrank.config.model import ModelType
from feedrank.features.aggregates import Entity, Floats
from feedrank.features.events import Ints
from feedrank.model.inputs import PRODUCT_SCALE, Inputs

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


def vectors(arrays: Arrays, inputs: Inputs, entity: Entity, rows: Ints, scaled: Floats) -> Floats:
    """two_tower's vectors [rows, vector] of users or items from their rows and scaled inputs [rows, `inputs.width`]."""
    embedded = arrays[f"{entity.value}_embedding.weight"][rows]
    return embedded + mlp(arrays, f"{entity.value}_tower", np.hstack([embedded, scaled[:, inputs.tower(entity)]]))


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + exp(-logit)), without overflow."""
    return (0.5 * (1.0 + np.tanh(0.5 * logits))).astype(np.float32)


def scores(
    arrays: Arrays, model_type: ModelType, inputs: Inputs, *, user_rows: Ints, item_rows: Ints, raw: Floats
) -> Floats:
    """Click probabilities [rows] of users' and items' rows [rows] with raw inputs [rows, `inputs.width`]."""
    logits = _two_tower if model_type == "two_tower" else _deep_mlp
    parts = []
    for start in range(0, len(raw), BATCH_ROWS):
        rows = slice(start, start + BATCH_ROWS)
        x = (raw[rows] - arrays["input_mean"]) / arrays["input_std"]
        parts.append(sigmoid(logits(arrays, inputs, user_rows[rows], item_rows[rows], x)))
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)


def _two_tower(arrays: Arrays, inputs: Inputs, user_rows: Ints, item_rows: Ints, x: Floats) -> Floats:
    users = vectors(arrays, inputs, Entity.USER, user_rows, x)
    dots = np.einsum("ij,ij->i", users, vectors(arrays, inputs, Entity.ITEM, item_rows, x))
    return dots + mlp(arrays, "cross", x)[:, 0]


def _deep_mlp(arrays: Arrays, inputs: Inputs, user_rows: Ints, item_rows: Ints, x: Floats) -> Floats:
    users, items = arrays["user_embedding.weight"][user_rows], arrays["item_embedding.weight"][item_rows]
    return mlp(arrays, "mlp", np.hstack([users, items, PRODUCT_SCALE * users * items, x]))[:, 0]
