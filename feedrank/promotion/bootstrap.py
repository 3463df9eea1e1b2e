"""Paired bootstrap of two predictors' GAUC, AUC and log loss on the same rows, users resampled as a whole.

A user's rows are alike, so rows drawn one by one would give intervals that are too short (the cluster bootstrap;
Davison and Hinkley 1997, section 3.8). Each resample counts for both predictors, which cancels what they share.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from feedrank.evaluation.metrics import auc_by_user

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
    gauc: Interval
    """Of the AUC within users, weighted by impressions; NaN if no user has both classes."""
    auc: Interval
    """Of the pooled AUC, which also says who clicks more: reported, not decided on."""
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
    ids, cluster = np.unique(users, return_inverse=True)
    ordered, old_aucs, impressions = auc_by_user(users, targets, champion)
    gained = auc_by_user(users, targets, challenger)[1] - old_aucs

    def gains(times: Array) -> tuple[float, float, float]:
        """With each user as many times, [users]."""
        weights, of_user = times[cluster], times[ordered] * impressions
        gauc = float(of_user @ gained / of_user.sum()) if of_user.any() else float("nan")
        return gauc, new.auc(weights) - old.auc(weights), old.log_loss(weights) - new.log_loss(weights)

    rng = np.random.default_rng(seed)
    drawn = np.array(
        [
            gains(np.bincount(rng.integers(0, len(ids), len(ids)), minlength=len(ids)).astype(np.float64))
            for _ in range(resamples)
        ]
    )
    estimates = gains(np.ones(len(ids)))
    resampled = drawn.T if len(ids) > 1 else np.full((3, 1), np.nan)
    gauc, auc, loss = (_interval(e, d, confidence=confidence) for e, d in zip(estimates, resampled, strict=True))
    return Gain(rows=len(targets), users=len(ids), clicks=int(np.sum(targets)), gauc=gauc, auc=auc, log_loss=loss)


def _interval(estimate: float, drawn: Array, *, confidence: float) -> Interval:
    """Percentiles of the resamples where the figure is defined; NaN if it never is."""
    defined, tail = drawn[~np.isnan(drawn)], (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail]) if len(defined) else (np.nan, np.nan)
    return Interval(estimate=estimate, low=float(low), high=float(high))
