"""First embeddings from who was shown what, and clicked: truncated SVD of the user-item matrix.

A feed shows people what they tend to like, so impressions carry taste even where clicks are rare; a click counts for
several. The counts are scaled by both degrees (the normalised adjacency of spectral co-clustering: Dhillon, KDD 2001),
and the leading singular vectors become unit-length embeddings; the first one, which only mirrors popularity, is left
out. Whoever learns from an impression looks at its embeddings without it (`Factors.without_own`): with it a training
row would see its own label in their product.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd

from feedrank.config.model import PretrainingConfig
from feedrank.features.aggregates import Floats
from feedrank.features.events import Ints


@dataclass(frozen=True)
class Side:
    """What is known of the users, or of the items, by the rows of the matrix."""

    vectors: Floats
    """Singular vectors, [ids, rank]."""
    sums: Floats
    """The other side's singular vectors, summed over an id's scaled impressions: [ids, rank]."""
    scales: Floats
    """What an impression is multiplied with for its id, [ids]."""


@dataclass(frozen=True)
class Factors:
    """Embeddings of users [users, dim] and items [items, dim]: rows of unit length, about 0 for rare ids."""

    users: Side
    items: Side
    dim: int
    shrinkage: float

    def embeddings(self) -> tuple[Floats, Floats]:
        """Of all users [users, dim] and items [items, dim]."""
        return self._unit_length(self.users.sums), self._unit_length(self.items.sums)

    def without_own(self, user_rows: Ints, item_rows: Ints, counts: Floats) -> tuple[Floats, Floats]:
        """Embeddings of the users and items [impressions, dim] of some impressions, each without that impression.

        `counts` [impressions] is what they were counted for.

        An impression makes its user and its item alike. One that comes later has not been in the matrix, so a ranker
        that learns from impressions that have expects too much of likeness. The singular vectors stay as they are: the
        more impressions a user and an item have, the less one of them changes.
        """
        scales = (counts * self.users.scales[user_rows] * self.items.scales[item_rows])[:, None]
        return (
            self._unit_length(self.users.sums[user_rows] - scales * self.items.vectors[item_rows]),
            self._unit_length(self.items.sums[item_rows] - scales * self.users.vectors[user_rows]),
        )

    def _unit_length(self, sums: Floats) -> Floats:
        embeddings = np.zeros((len(sums), self.dim), dtype=np.float32)
        embeddings[:, : sums.shape[1]] = sums / (np.linalg.norm(sums, axis=1, keepdims=True) + self.shrinkage)
        return embeddings


def co_engagement_factors(
    user_rows: Ints,
    item_rows: Ints,
    counts: Floats,
    *,
    shape: tuple[int, int],
    dim: int,
    config: PretrainingConfig,
    seed: int,
) -> Factors:
    """Factors of a matrix of `shape` (users, items) from rows, columns and counts of impressions, [impressions] each.

    Columns beyond the rank that the data allow stay 0.
    """
    matrix = scipy.sparse.csr_matrix((counts, (user_rows, item_rows)), shape=shape)
    scales = [_inverse_root(matrix.sum(axis), config) for axis in (1, 0)]
    scaled = scipy.sparse.diags(scales[0]) @ matrix @ scipy.sparse.diags(scales[1])
    rank = min(config.rank, dim, *(size - 1 for size in shape))
    left, values, right = randomized_svd(scaled, rank + 1, n_iter=config.power_iterations, random_state=seed)
    users, items = (
        Side(vectors[:, 1:], vectors[:, 1:] * values[1:], own)
        for vectors, own in zip((left, right.T), scales, strict=True)
    )
    return Factors(users, items, dim=dim, shrinkage=config.shrinkage)


def _inverse_root(degrees: NDArray[np.float64], config: PretrainingConfig) -> Floats:
    return np.asarray((np.asarray(degrees).ravel() + config.degree_offset) ** -0.5, dtype=np.float32)
