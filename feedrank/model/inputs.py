"""From a feature matrix to the network's inputs: the transform that training and scoring share."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from feedrank.config.feed import Feed
from feedrank.features.aggregates import Entity, Floats

PRODUCT_SCALE = 32.0
"""Brings the product of two unit-length embeddings of some dozen dimensions to the scale of the other inputs."""


@dataclass(frozen=True)
class Inputs:
    """What a network gets of the features of a feed."""

    feed: Feed
    columns: dict[str, slice]
    """Where each feature stands in the input matrix."""
    width: int
    """Of the input matrix."""

    def tower(self, entity: Entity) -> list[int]:
        """Columns that two_tower's tower of users or items gets.

        It sees only what the clock leaves alone, so that vectors are computed once for a snapshot; what changes with
        it, such as a fading count and age, is in the cross term.
        """
        return self.indices(self.feed.standing(entity))

    def of(self, features: NDArray[np.float32]) -> Floats:
        """Transforms features [rows, features] (order of `Feed.names`) into inputs [rows, width]."""
        inputs = np.empty((len(features), self.width), dtype=np.float32)
        for index, (name, form) in enumerate(self.feed.features.items()):
            # Contiguous, since on a strided column numpy's log1p may differ by a rounding from one run to the next.
            values = form.inputs(np.ascontiguousarray(features[:, index]))
            inputs[:, self.columns[name]] = values if values.ndim == 2 else values[:, None]
        return inputs

    def indices(self, features: tuple[str, ...]) -> list[int]:
        """Column numbers of some features in the input matrix."""
        return [i for name in features for i in range(self.columns[name].start, self.columns[name].stop)]


@lru_cache(maxsize=16)
def inputs_of(feed: Feed) -> Inputs:
    """The layout of a feed's inputs."""
    columns, start = {}, 0
    for name, form in feed.features.items():
        columns[name] = slice(start, start + form.width)
        start = columns[name].stop
    return Inputs(feed, columns, start)
