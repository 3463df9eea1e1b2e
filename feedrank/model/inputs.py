"""From a feature matrix to the network's inputs: the transform that training and scoring share."""

import numpy as np
from numpy.typing import NDArray

from feedrank.features.aggregates import Entity, Floats
from feedrank.features.definitions import FORMS, STANDING
from feedrank.schema import FEATURES


def _input_columns() -> dict[str, slice]:
    columns, start = {}, 0
    for name in FEATURES:
        columns[name] = slice(start, start + FORMS[name].width)
        start = columns[name].stop
    return columns


INPUT_COLUMNS = _input_columns()
"""Where each feature stands in the input matrix."""
NUM_INPUTS = max(columns.stop for columns in INPUT_COLUMNS.values())


def input_indices(features: tuple[str, ...]) -> list[int]:
    """Column numbers of some features in the input matrix."""
    return [i for name in features for i in range(INPUT_COLUMNS[name].start, INPUT_COLUMNS[name].stop)]


PRODUCT_SCALE = 32.0
"""Brings the product of two unit-length embeddings of some dozen dimensions to the scale of the other inputs."""

USER_TOWER_COLUMNS = input_indices(STANDING[Entity.USER])
ITEM_TOWER_COLUMNS = input_indices(STANDING[Entity.ITEM])
"""Input columns of two_tower's towers. They see only what the clock leaves alone, so that vectors are computed once for
a snapshot; what changes with it, such as popularity and age, is in the cross term."""


def to_inputs(features: NDArray[np.float32]) -> Floats:
    """Transforms features [rows, features] (order of `schema.FEATURES`) into inputs [rows, NUM_INPUTS].

    Each as its form says.
    """
    inputs = np.empty((len(features), NUM_INPUTS), dtype=np.float32)
    for index, name in enumerate(FEATURES):
        # Contiguous, since on a strided column numpy's log1p may differ by a rounding from one run to the next.
        values = FORMS[name].inputs(np.ascontiguousarray(features[:, index]))
        inputs[:, INPUT_COLUMNS[name]] = values if values.ndim == 2 else values[:, None]
    return inputs
