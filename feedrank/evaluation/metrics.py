"""Ranking and probability metrics of click predictions.

Arrays: targets [n] of 0 or 1, scores [n] of click probabilities, users [n] of user ids.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def roc_auc(targets: Array, scores: Array) -> float:
    """Area under the ROC curve, ties counted half: the Mann-Whitney U statistic over its maximum.

    NaN when there is one class only.
    """
    positives = int(np.sum(targets))
    negatives = len(targets) - positives
    if not positives or not negatives:
        return float("nan")
    order = np.argsort(scores, kind="stable")
    sorted_scores = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], sorted_scores[1:] != sorted_scores[:-1]]))
    stops = np.append(starts[1:], len(scores))
    # All of a run of equal scores get the mean of its ranks (1-based).
    ranks = np.repeat((starts + stops + 1) / 2, stops - starts)
    rank_sum = float(ranks[targets[order] == 1].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def roc_curve(targets: Array, scores: Array, *, points: int) -> tuple[Array, Array, Array]:
    """False and true positive rates at up to `points` falling thresholds, the last one below every score.

    Empty when there is one class only.
    """
    if not 0 < np.sum(targets) < len(targets):
        return np.empty(0), np.empty(0), np.empty(0)
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    ends = ends[np.unique(np.linspace(0, len(ends) - 1, points).astype(np.int64))]
    hits = np.cumsum(targets[order])[ends].astype(np.float64)
    return (ends + 1 - hits) / (len(targets) - hits[-1]), hits / hits[-1], scores[order][ends].astype(np.float64)


def log_loss(targets: Array, scores: Array) -> float:
    """Mean negative log likelihood in nats; scores are kept 1e-7 off 0 and 1."""
    p = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(targets == 1, np.log(p), np.log1p(-p))))


def calibration_curve(targets: Array, scores: Array, *, bins: int) -> tuple[Array, Array, Array]:
    """Mean score, click-through rate and rows of up to `bins` bins with equally many rows each, by rising score."""
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    mean_score = np.array([scores[part].mean() for part in parts])
    rate = np.array([targets[part].mean() for part in parts])
    return mean_score, rate, np.array([len(part) for part in parts])


def calibration_error(targets: Array, scores: Array, *, bins: int) -> float:
    """Expected calibration error over bins with equally many rows (Naeini et al. 2015, with quantile bins)."""
    mean_score, rate, rows = calibration_curve(targets, scores, bins=bins)
    return float(np.sum(np.abs(mean_score - rate) * rows) / len(targets))


def precision_and_ndcg_at(
    k: int, *, users: Array, targets: Array, scores: Array, min_impressions: int
) -> tuple[float, float, int]:
    """Mean precision@k and NDCG@k (binary gains, log2 discount; Järvelin and Kekäläinen 2002), and users counted.

    Each user's impressions are one ranking. Users with fewer than `min_impressions` are left out of both, users
    without a click out of NDCG, which has no ideal ranking for them. Ties keep the order of the rows. NaN when no
    user is left.
    """
    order = np.lexsort((np.arange(len(users)), -scores, users))
    sorted_users, hits = users[order], targets[order].astype(np.float64)
    starts = np.flatnonzero(np.concatenate([[True], sorted_users[1:] != sorted_users[:-1]]))[: len(users)]
    sizes = np.diff(np.append(starts, len(users)))
    place = np.arange(len(users)) - np.repeat(starts, sizes)
    discount = 1 / np.log2(np.arange(2, k + 2))
    gains = np.where(place < k, discount[np.minimum(place, k - 1)], 0.0)
    kept = sizes >= min_impressions
    if not kept.any():
        return float("nan"), float("nan"), 0
    clicks = np.add.reduceat(hits, starts)
    precision = np.add.reduceat(hits * (place < k), starts) / k
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(clicks, k).astype(np.int64)]
    clicked = kept & (clicks > 0)
    ndcg = np.add.reduceat(hits * gains, starts)[clicked] / ideal[clicked]
    return float(precision[kept].mean()), float(ndcg.mean()) if clicked.any() else float("nan"), int(kept.sum())


def auc_by_user(users: Array, targets: Array, scores: Array) -> tuple[Array, Array, Array]:
    """AUC within each user who has both classes, ties counted half: their row numbers among the sorted distinct users,
    AUCs and impressions, each [users with both classes]."""
    order = np.lexsort((scores, users))
    sorted_users, sorted_scores, hits = users[order], scores[order], targets[order].astype(np.float64)
    new_user = np.concatenate([[True], sorted_users[1:] != sorted_users[:-1]])[: len(users)]
    new_run = new_user | np.concatenate([[True], sorted_scores[1:] != sorted_scores[:-1]])[: len(users)]
    if not len(users):
        return np.empty(0, dtype=np.int64), np.empty(0), np.empty(0)
    runs = np.flatnonzero(new_run)
    user_of_run = np.cumsum(new_user)[runs] - 1
    positives = np.add.reduceat(hits, runs)
    negatives = np.add.reduceat(1 - hits, runs)
    count = int(user_of_run[-1]) + 1
    total_positives = np.bincount(user_of_run, positives, count)
    total_negatives = np.bincount(user_of_run, negatives, count)
    earlier_users = (np.cumsum(total_negatives) - total_negatives)[user_of_run]
    below = np.cumsum(negatives) - negatives - earlier_users
    won = np.bincount(user_of_run, positives * (below + negatives / 2), count)
    both = np.flatnonzero(total_positives * total_negatives)
    aucs = won[both] / (total_positives[both] * total_negatives[both])
    return both, aucs, (total_positives + total_negatives)[both]


def group_auc(users: Array, targets: Array, scores: Array) -> tuple[float, int]:
    """GAUC: mean AUC within users, weighted by impressions (Zhu et al. 2017, section 5.3), and the users in it.

    Users with one class only have no order to get right and are left out; NaN when nobody is left.
    """
    _, aucs, impressions = auc_by_user(users, targets, scores)
    return (float(np.average(aucs, weights=impressions)), len(aucs)) if len(aucs) else (float("nan"), 0)


def normalized_entropy(targets: Array, scores: Array) -> float:
    """Log loss over that of the click rate for every row (He et al. 2014, section 3); NaN when there is one class."""
    rate = float(np.mean(targets)) if len(targets) else 0.0
    if not 0 < rate < 1:
        return float("nan")
    return log_loss(targets, scores) / -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
