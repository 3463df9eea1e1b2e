"""Paired bootstrap of two predictors' AUC and log loss on the same rows, users resampled as a whole.

A user's rows are alike, so rows drawn one by one would give intervals that are too short (the cluster bootstrap;
Davison and Hinkley 1997, section 3.8). Each resample counts for both predictors, which cancels what they share.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Array = NDArray[Any]


class Interval(BaseModel):
    """An estimate with its two-sided interval."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    estimate: float
    low: float
    high: float


class Gain(BaseModel):
    """What the challenger gains over the champion on some rows; above zero is better."""

    model_config = ConfigDict(frozen=True)

    rows: int
    users: int
    clicks: int
    auc: Interval
    log_loss: Interval
    """The champion's minus the challenger's, in nats."""


class WeightedMetrics:
    """AUC and log loss of fixed scores [n] under changing row weights [n]."""

    def __init__(self, targets: Array, scores: Array) -> None:
        self._order = np.argsort(scores, kind="stable")
        ranked = scores[self._order]
        self._starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        self._hits = targets[self._order] == 1
        p = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
        self._losses = -np.where(targets == 1, np.log(p), np.log1p(-p))

    def auc(self, weights: Array) -> float:
        """Weighted share of (click, no click) pairs in the right order, ties counted half; NaN with one class."""
        ranked = weights[self._order]
        positives = np.add.reduceat(ranked * self._hits, self._starts)
        negatives = np.add.reduceat(ranked, self._starts) - positives
        pairs = positives.sum() * negatives.sum()
        if not pairs:
            return float("nan")
        below = np.cumsum(negatives) - negatives
        return float(positives @ (below + negatives / 2) / pairs)

    def log_loss(self, weights: Array) -> float:
        """Weighted mean of the negative log likelihood; scores are kept 1e-7 off 0 and 1."""
        return float(weights @ self._losses / weights.sum())


def paired_gain(
    *, users: Array, targets: Array, champion: Array, challenger: Array, resamples: int, confidence: float, seed: int
) -> Gain:
    """The challenger's gains with percentile intervals; users, targets and scores are [n]."""
    old, new = WeightedMetrics(targets, champion), WeightedMetrics(targets, challenger)

    def gains(weights: Array) -> tuple[float, float]:
        return new.auc(weights) - old.auc(weights), old.log_loss(weights) - new.log_loss(weights)

    ids, cluster = np.unique(users, return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [
            gains(np.bincount(rng.integers(0, len(ids), len(ids)), minlength=len(ids))[cluster].astype(np.float64))
            for _ in range(resamples)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail], axis=0) if len(ids) > 1 else np.full((2, 2), np.nan)
    auc, loss = gains(np.ones(len(targets)))
    return Gain(
        rows=len(targets),
        users=len(ids),
        clicks=int(np.sum(targets)),
        auc=Interval(estimate=auc, low=float(low[0]), high=float(high[0])),
        log_loss=Interval(estimate=loss, low=float(low[1]), high=float(high[1])),
    )
