"""Online performance: metrics of the shown predictions with confidence intervals, and the verdicts on them.

Rows of one user depend on each other, so all variances are taken over users: the ratio estimator's linearised
variance, and for the AUC the clustered form of DeLong's (N. Obuchowski, "Nonparametric analysis of clustered ROC
curve data", Biometrics 53, 1997).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feedrank import schema
from feedrank.config.monitoring import PerformanceConfig
from feedrank.evaluation.metrics import calibration_error
from feedrank.monitoring.reference import Reference
from feedrank.monitoring.results import Estimate, Metrics, Signal, Status

Floats = NDArray[np.float64]
CALIBRATION_BINS = 10
SMALLEST_RATIO = 0.01
SMALLEST_PROBABILITY = 1e-7
"""Log loss clips here, as float32 scores may be 0 or 1."""
NOTHING = Estimate(value=None)
COLLECTING = "waits for the model's own first days, with which it is compared"


@dataclass(frozen=True)
class Shown:
    """Shown predictions with finite scores; arrays of shape [rows]."""

    users: NDArray[np.int64]
    scores: Floats
    clicks: Floats
    engaged: Floats
    """1 with a like or a share."""

    def part(self, chosen: NDArray[np.bool_]) -> "Shown":
        """Some of the rows."""
        return Shown(self.users[chosen], self.scores[chosen], self.clicks[chosen], self.engaged[chosen])


def measure(shown: Shown, *, name: str, config: PerformanceConfig) -> Metrics:
    """All metrics of a group of rows."""
    _, users = np.unique(shown.users, return_inverse=True)
    ones = np.ones(len(users))
    clipped = np.clip(shown.scores, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    losses = -np.where(shown.clicks == 1, np.log(clipped), np.log1p(-clipped))

    def ratio(numerator: Floats, denominator: Floats) -> Estimate:
        return ratio_estimate(numerator, denominator, clusters=users, confidence=config.confidence)

    error = calibration_error(shown.clicks, shown.scores, bins=CALIBRATION_BINS) if len(users) else None
    return Metrics(
        name=name,
        impressions=len(users),
        clicks=int(shown.clicks.sum()),
        expected_clicks=float(shown.scores.sum()),
        ctr=ratio(shown.clicks, ones),
        engagement_rate=ratio(shown.engaged, ones),
        auc=auc_estimate(shown.scores, shown.clicks, clusters=users, confidence=config.confidence),
        log_loss=ratio(losses, ones),
        calibration_ratio=ratio(shown.clicks, shown.scores),
        calibration_error=Estimate(value=error),
    )


def ratio_estimate(
    numerator: Floats, denominator: Floats, *, clusters: NDArray[np.intp], confidence: float
) -> Estimate:
    """Sum of numerator over sum of denominator; the interval is left out below two clusters or without variance."""
    total = denominator.sum()
    if not total:
        return NOTHING
    value = float(numerator.sum() / total)
    return _interval(value, _by_cluster(numerator - value * denominator, clusters) / total, confidence=confidence)


def auc_estimate(scores: Floats, labels: Floats, *, clusters: NDArray[np.intp], confidence: float) -> Estimate:
    """Area under the ROC curve; no value without both classes."""
    from scipy.stats import rankdata

    positive = labels == 1
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return NOTHING
    ranks = rankdata(scores)
    # Share of the other class that each row is on the right side of.
    components = np.empty(len(scores))
    components[positive] = (ranks[positive] - rankdata(scores[positive])) / negatives
    components[~positive] = 1 - (ranks[~positive] - rankdata(scores[~positive])) / positives
    value = float(components[positive].mean())
    weights = np.where(positive, 1 / positives, 1 / negatives)
    return _interval(value, _by_cluster(weights * (components - value), clusters), confidence=confidence)


def _by_cluster(values: Floats, clusters: NDArray[np.intp]) -> Floats:
    return np.bincount(clusters, values).astype(np.float64)


def _interval(value: float, cluster_effects: Floats, *, confidence: float) -> Estimate:
    from scipy.stats import norm

    count = len(cluster_effects)
    deviation = float(np.sqrt(count / max(count - 1, 1) * (cluster_effects**2).sum()))
    if count < 2 or not deviation:
        return Estimate(value=value)
    reach = float(norm.ppf((1 + confidence) / 2)) * deviation
    return Estimate(value=value, low=value - reach, high=value + reach)


def performance_signals(metrics: Metrics, *, own: Reference | None, config: PerformanceConfig) -> list[Signal]:
    """Verdicts on AUC and calibration of the model that the reference belongs to.

    The AUC is compared with that of the model's own first days: it depends on which items are shown. A score promises
    the same click rate whatever is shown, so the calibration needs no reference. That on the test split would be none:
    the held-out fit was set to the click rate of the rows before, the served one to that of the latest.
    """
    calibration = _calibration_signal(metrics, config=config)
    if own is None or "auc" not in own.info.metrics:
        collecting = _signal(
            "auc", metrics, statistic=metrics.auc.value, effect=None, threshold=config.max_auc_drop,
            status="collecting", reason=COLLECTING,
        )  # fmt: skip
        return [collecting, calibration]
    expected_auc = own.info.metrics["auc"]
    return [_auc_signal(metrics, _expected(own, config), expected_auc=expected_auc, config=config), calibration]


def _expected(reference: Reference, config: PerformanceConfig) -> Metrics:
    scores = reference.scores
    rows = Shown(
        users=scores[schema.USER_ID].to_numpy(),
        scores=scores[schema.SCORE].to_numpy().astype(np.float64),
        clicks=scores[schema.TARGET].to_numpy().astype(np.float64),
        engaged=np.zeros(scores.num_rows),
    )
    return measure(rows, name="reference", config=config)


def _auc_signal(metrics: Metrics, expected: Metrics, *, expected_auc: float, config: PerformanceConfig) -> Signal:
    auc, drop = metrics.auc.value, None
    status: Status = "not_enough_data"
    reason = f"not enough data: {metrics.clicks} clicks (needs {config.min_clicks})"
    if metrics.clicks >= config.min_clicks and auc is not None:
        drop = 1 - auc / expected_auc
        certain = expected_auc - auc > _reach(metrics.auc, expected.auc)
        status = "drift" if drop > config.max_auc_drop and certain else "ok"
        reason = f"AUC is {auc:.3f}, {drop:.1%} below the {expected_auc:.3f} of the model's first days"
    return _signal(
        "auc", metrics, statistic=auc, effect=drop, threshold=config.max_auc_drop, status=status, reason=reason
    )


def _calibration_signal(metrics: Metrics, *, config: PerformanceConfig) -> Signal:
    ratio, gap = metrics.calibration_ratio.value, None
    status: Status = "not_enough_data"
    reason = f"not enough data: {metrics.expected_clicks:.0f} clicks expected (needs {config.min_clicks})"
    if metrics.expected_clicks >= config.min_clicks and ratio is not None:
        gap = max(ratio, 1 / max(ratio, SMALLEST_RATIO)) - 1
        # Without any click there is no variance to estimate, but then hardly any doubt either.
        certain = not metrics.clicks or abs(ratio - 1) > _reach(metrics.calibration_ratio)
        status = "drift" if gap > config.max_calibration_gap and certain else "ok"
        reason = f"{metrics.clicks} clicks, the scores promised {metrics.expected_clicks:.0f}"
    return _signal(
        "calibration",
        metrics,
        statistic=ratio,
        effect=gap,
        threshold=config.max_calibration_gap,
        status=status,
        reason=reason,
    )


def _reach(*estimates: Estimate) -> float:
    """Half the interval of a difference of independent estimates; infinite when one has no interval."""
    halves = [(e.high - e.low) / 2 if e.high is not None and e.low is not None else math.inf for e in estimates]
    return math.hypot(*halves)


def _signal(
    name: str,
    metrics: Metrics,
    *,
    statistic: float | None,
    effect: float | None,
    threshold: float,
    status: Status,
    reason: str,
) -> Signal:
    return Signal(
        name=name,
        kind="performance",
        test="confidence interval over users",
        statistic=statistic,
        effect=effect,
        threshold=threshold,
        rows=metrics.impressions,
        status=status,
        reason="" if status == "ok" else reason,
    )
