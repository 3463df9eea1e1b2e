"""From a feature matrix to the network's inputs: the transform that training and scoring share."""

import numpy as np
from numpy.typing import NDArray

from feedrank import schema
from feedrank.features.definitions import ITEM_STATE_FEATURES
from feedrank.schema import FEATURES

Floats = NDArray[np.float32]

_LOG1P = {
    schema.USER_AVG_DWELL_TIME,
    schema.USER_INTERACTION_COUNT,
    schema.USER_DAYS_ACTIVE,
    schema.ITEM_AVG_DWELL_TIME,
    schema.ITEM_AGE_DAYS,
    schema.USER_ITEM_PREVIOUS_INTERACTIONS,
}
_LOGIT = {schema.USER_HISTORICAL_CTR, schema.ITEM_CTR}
_CYCLIC = {schema.HOUR_OF_DAY: 24, schema.DAY_OF_WEEK: 7}
HARMONICS = 2
MIN_RATE = 1e-4


def _input_columns() -> dict[str, slice]:
    columns, start = {}, 0
    for name in FEATURES:
        width = 2 * HARMONICS if name in _CYCLIC else 1
        columns[name] = slice(start, start + width)
        start += width
    return columns


INPUT_COLUMNS = _input_columns()
"""Where each feature stands in the input matrix."""
NUM_INPUTS = max(columns.stop for columns in INPUT_COLUMNS.values())


def input_indices(features: tuple[str, ...]) -> list[int]:
    """Column numbers of some features in the input matrix."""
    return [i for name in features for i in range(INPUT_COLUMNS[name].start, INPUT_COLUMNS[name].stop)]


USER_TOWER_FEATURES = (
    schema.USER_HISTORICAL_CTR,
    schema.USER_AVG_DWELL_TIME,
    schema.USER_INTERACTION_COUNT,
    schema.USER_DAYS_ACTIVE,
)
PRODUCT_SCALE = 32.0
"""Brings the product of two unit-length embeddings of some dozen dimensions to the scale of the other inputs."""

USER_TOWER_COLUMNS = input_indices(USER_TOWER_FEATURES)
ITEM_TOWER_COLUMNS = input_indices(ITEM_STATE_FEATURES)
"""Input columns of two_tower's towers. The item tower sees only what the clock leaves alone, so that item vectors are
computed once for a snapshot; popularity and age, which change with it, are in the cross term."""


def to_inputs(features: NDArray[np.float32]) -> Floats:
    """Transforms features [rows, features] (order of `schema.FEATURES`) into inputs [rows, NUM_INPUTS].

    Counts and seconds become log(1 + x), rates their logit, hour and weekday the first harmonics of their cycle.
    """
    inputs = np.empty((len(features), NUM_INPUTS), dtype=np.float32)
    for index, name in enumerate(FEATURES):
        # Contiguous, since on a strided column numpy's log1p may differ by a rounding from one run to the next.
        values = transform(name, np.ascontiguousarray(features[:, index]))
        inputs[:, INPUT_COLUMNS[name]] = values if values.ndim == 2 else values[:, None]
    return inputs


def transform(name: str, values: Floats) -> Floats:
    """One feature's inputs: shape [rows], or [rows, 2 * HARMONICS] for a cyclic one."""
    if name in _LOG1P:
        return np.log1p(values)
    if name in _LOGIT:
        rate = np.clip(values, MIN_RATE, 1 - MIN_RATE)
        return np.log(rate) - np.log1p(-rate)
    if name in _CYCLIC:
        angles = values[:, None] * (2 * np.pi / _CYCLIC[name]) * np.arange(1, HARMONICS + 1)
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
    return values
