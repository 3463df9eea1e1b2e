"""First embeddings from who was shown what: truncated SVD of the user-item impression matrix.

A feed shows people what they tend to like, so impressions carry taste even where clicks are rare. The counts are
scaled by both degrees (the normalised adjacency of spectral co-clustering: Dhillon, KDD 2001), and the leading
singular vectors become unit-length embeddings; the first one, which only mirrors popularity, is left out. Clicks stay
out of the matrix: with them each training row would see its own label in the product of its embeddings.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd

from feedrank.config.model import PretrainingConfig
from feedrank.features.events import Ints
from feedrank.model.inputs import Floats


@dataclass(frozen=True)
class Factors:
    """Embeddings of users [users, dim] and items [items, dim]: rows of unit length, about 0 for rare ids."""

    users: Floats
    items: Floats


def co_engagement_factors(
    user_rows: Ints,
    item_rows: Ints,
    *,
    shape: tuple[int, int],
    dim: int,
    config: PretrainingConfig,
    seed: int,
) -> Factors:
    """Factors from the user and item rows [impressions] of a matrix of `shape` (users, items).

    Columns beyond the rank that the data allow stay 0.
    """
    ones = np.ones(len(user_rows), dtype=np.float32)
    matrix = scipy.sparse.csr_matrix((ones, (user_rows, item_rows)), shape=shape)
    scaled = _inverse_root(matrix.sum(1), config) @ matrix @ _inverse_root(matrix.sum(0), config)
    rank = min(config.rank, dim, *(size - 1 for size in shape))
    left, values, right = randomized_svd(scaled, rank + 1, n_iter=config.power_iterations, random_state=seed)
    factors = [np.zeros((size, dim), dtype=np.float32) for size in shape]
    for table, vectors in zip(factors, (left, right.T), strict=True):
        scaled_vectors = vectors[:, 1:] * values[1:]
        length = np.linalg.norm(scaled_vectors, axis=1, keepdims=True)
        table[:, : scaled_vectors.shape[1]] = scaled_vectors / (length + config.shrinkage)
    return Factors(*factors)


def _inverse_root(degrees: NDArray[np.float64], config: PretrainingConfig) -> scipy.sparse.dia_matrix:
    return scipy.sparse.diags((np.asarray(degrees).ravel() + config.degree_offset) ** -0.5)
