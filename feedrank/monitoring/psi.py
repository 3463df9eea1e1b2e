"""Population stability index (PSI) of model scores, with the reference's bins.

PSI = sum over bins of (q - p) · ln(q / p), p and q the bin's shares in reference and window. Under no change it is
about (1/n + 1/m) · chi-square with bins - 1 degrees of freedom (B. Yurdakul, "Statistical properties of population
stability index", Western Michigan University, 2018), which gives the p-value.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

EMPTY_BIN_ROWS = 0.5
"""Rows that an empty bin counts as: ln 0 would make any window with an empty bin infinitely far."""


@dataclass(frozen=True)
class ScoreBins:
    """The reference's histogram of scores; the outer bins are open."""

    edges: NDArray[np.float64]
    """Inner edges, shape [bins - 1]; a bin is closed on the left."""
    shares: NDArray[np.float64]
    """Shape [bins]."""
    rows: int


@dataclass(frozen=True)
class Stability:
    """How far the scores of a window are from the reference's."""

    index: float
    p_value: float
    shares: NDArray[np.float64]


def score_bins(scores: Floats, *, bins: int) -> ScoreBins:
    """Bins with equal shares of the scores; fewer than asked for when many scores are the same."""
    edges = np.unique(np.quantile(scores.astype(np.float64), np.linspace(0, 1, bins + 1)[1:-1]))
    return ScoreBins(edges=edges, shares=_shares(scores, edges), rows=len(scores))


def stability(scores: Floats, *, reference: ScoreBins) -> Stability:
    """PSI of a window's scores (at least one) against the reference."""
    from scipy.stats import chi2

    shares = _shares(scores, reference.edges)
    window = np.maximum(shares, EMPTY_BIN_ROWS / len(scores))
    expected = np.maximum(reference.shares, EMPTY_BIN_ROWS / reference.rows)
    index = float(((window - expected) * np.log(window / expected)).sum())
    freedom = len(shares) - 1
    scale = 1 / len(scores) + 1 / reference.rows
    return Stability(index=index, p_value=float(chi2.sf(index / scale, freedom)) if freedom else 1.0, shares=shares)


def _shares(scores: Floats, edges: Floats) -> NDArray[np.float64]:
    counts = np.bincount(np.searchsorted(edges, scores, side="right"), minlength=len(edges) + 1)
    return counts / len(scores)
