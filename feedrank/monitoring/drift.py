"""Drift of features and scores: one window against the reference, one verdict per feature.

A feature has drifted when its test is significant after the correction for many tests *and* its effect is above the
threshold; either alone is worthless (huge samples are always significant, small ones always far apart).

- Numeric: the KS statistic D. Categorical: chi-square, and Cramér's V as if both samples were equally large, less the
  value that chance alone gives (cf. W. Bergsma, "A bias-correction for Cramér's V", J. Korean Stat. Soc. 42, 2013).
  The textbook V depends on the ratio of the sample sizes.
- Days differ a little without any change: D and V are significant when they exceed that tolerance by more than chance,
  so small windows need a larger one.
- Missing values are judged apart: the tests can't see them.
- Of a feature that moves as its history grows (`columns.py`) only what lies outside of both ends is an effect. For the
  others, a reference whose own halves differ is prolonged towards the time of the window; that explains at most the
  growth of the history, so a slow drift that had begun within the reference is found all the same.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feedrank import schema
from feedrank.config.monitoring import DriftConfig, MonitoringConfig
from feedrank.monitoring import psi
from feedrank.monitoring.columns import Column, Sample, feature_columns, missing_share
from feedrank.monitoring.engines import DriftEngine, TestResult, Values
from feedrank.monitoring.reference import Reference
from feedrank.monitoring.results import Signal, Status
from feedrank.tables import US_PER_DAY

KS_NOISE = 1.36
"""D of two samples of one distribution is below KS_NOISE · sqrt(1/n + 1/m) in 95 % of the cases (asymptotically)."""
TREND_STEPS = 6
"""Places on the way from the reference to the window at which its trend is looked at."""


@dataclass(frozen=True)
class _Tested:
    """A column after its test, before the correction for many tests."""

    column: Column
    result: TestResult | None
    """None when there are not enough rows."""
    effect: float = 0.0
    trend: float = 0.0


def feature_drift(
    window: pa.Table,
    *,
    reference: Reference,
    engine: DriftEngine,
    config: MonitoringConfig,
    features: Collection[str] | None = None,
) -> list[Signal]:
    """Verdicts on features, all or some; `window` holds independent rows (`feature_sample`), possibly none."""
    columns = feature_columns(window, reference=reference, features=features)
    return column_drift(columns, engine=engine, config=config)


def column_drift(columns: Sequence[Column], *, engine: DriftEngine, config: MonitoringConfig) -> list[Signal]:
    """Verdicts on columns that are judged together."""
    tested = [_test(column, engine=engine, config=config) for column in columns]
    p_values = {t.column.name: t.result.p_value for t in tested if t.result is not None}
    limits = corrected_limits(p_values, config=config.drift)
    return [_judge(t, p_threshold=limits.get(t.column.name, config.drift.p_value), config=config) for t in tested]


def score_drift(scores: NDArray[np.floating[Any]], *, reference: Reference, config: MonitoringConfig) -> Signal:
    """Verdict on the scores of independent rows: PSI above its threshold and significant."""
    bins = psi.ScoreBins(
        edges=np.array(reference.info.score_edges),
        shares=np.array(reference.info.score_shares),
        rows=reference.info.score_bin_rows,
    )
    finite = scores[np.isfinite(scores)]
    enough = not _too_few(len(finite), bins.rows, config=config)
    found = psi.stability(finite, reference=bins) if enough else None
    missing = missing_share(len(finite), len(scores))
    status: Status = "ok" if found else "not_enough_data"
    reason = "" if found else _few(len(finite), bins.rows)
    if missing > config.drift.max_missing_increase and not _too_few(len(scores), bins.rows, config=config):
        status, reason = "drift", f"{missing:.1%} of the scores are not finite"
    elif found and found.index > config.drift.psi_threshold and found.p_value < config.drift.p_value:
        status = "drift"
        reason = f"the scores moved: PSI {found.index:.2f} (threshold {config.drift.psi_threshold:g})"
    return Signal(
        name=schema.SCORE,
        kind="score",
        test="psi",
        statistic=found.index if found else None,
        effect=found.index if found else None,
        p_value=found.p_value if found else None,
        p_threshold=config.drift.p_value,
        threshold=config.drift.psi_threshold,
        missing_share=missing,
        rows=len(finite),
        reference_rows=bins.rows,
        status=status,
        reason=reason,
    )


def corrected_limits(p_values: Mapping[str, float], *, config: DriftConfig) -> dict[str, float]:
    """The p-value below which each test is significant: Bonferroni, or Benjamini and Hochberg (1995) for `fdr`."""
    count = max(len(p_values), 1)
    if config.correction == "bonferroni":
        return dict.fromkeys(p_values, config.p_value / count)
    ordered = np.sort(list(p_values.values()))
    passing = ordered <= config.p_value * np.arange(1, len(ordered) + 1) / count
    largest = ordered[passing].max() if passing.any() else 0.0
    return dict.fromkeys(p_values, float(np.nextafter(largest, 1.0)))


def cramers_v(reference: Values, window: Values) -> float:
    """Effect size of a difference of categories, 0 (none) to 1 (no category in common); see the module's text."""
    categories, codes = np.unique(np.concatenate([reference, window]), return_inverse=True)
    p, q = (
        np.bincount(part, minlength=len(categories)) / len(part)
        for part in (codes[: len(reference)], codes[len(reference) :])
    )
    by_chance = (len(categories) - 1) / 4 * (1 / len(reference) + 1 / len(window))
    return float(np.sqrt(max(0.0, ((p - q) ** 2 / (p + q)).sum() / 2 - by_chance)))


def _test(column: Column, *, engine: DriftEngine, config: MonitoringConfig) -> _Tested:
    before, now = column.reference, column.window
    if _too_few(len(now.values), len(before.values), config=config):
        return _Tested(column, None)
    if column.form.categorical:
        result = engine.chi_square(before.values, now.values)
        return _Tested(column, result, effect=cramers_v(before.values, now.values))
    result = engine.kolmogorov_smirnov(before.values, now.values)
    if result.statistic <= config.drift.thresholds.get(column.name, config.drift.ks_threshold):
        return _Tested(column, result, effect=result.statistic)
    effect = min(result.statistic, _unexplained(column, statistic=result.statistic, engine=engine))
    return _Tested(column, result, effect=effect, trend=result.statistic - effect)


def _unexplained(column: Column, *, statistic: float, engine: DriftEngine) -> float:
    """The part of a KS statistic that the growth of the history does not explain."""
    natural = [distance_from_band(*column.natural, column.window.values)] if column.natural is not None else []
    if column.natural is not None and column.form.growth != "rate":
        return natural[0]
    expected = _prolonged(column.reference, column.window, engine=engine)
    trend = [engine.kolmogorov_smirnov(values, column.window.values).statistic for values in expected]
    by_trend = max(min(trend, default=statistic), statistic - float(np.log(column.growth)))
    return min([by_trend, *natural])


def distance_from_band(one: Values, other: Values, window: Values) -> float:
    """How far the window's distribution function lies outside of the band between two others, 0 to 1."""
    points = np.concatenate([one, other, window])
    first, second, found = (
        np.searchsorted(np.sort(values), points, side="right") / len(values) for values in (one, other, window)
    )
    above, below = found - np.maximum(first, second), np.minimum(first, second) - found
    return float(max(above.max(), below.max(), 0.0))


def _prolonged(reference: Sample, window: Sample, *, engine: DriftEngine) -> list[Values]:
    """The reference's values as its own trend has them on the way to the window; none if it has none beyond chance.

    Each quantile goes on as it moved between the two halves of the reference. Trends of histories slow down, so any
    place on the way may be where the window is.
    """
    middle = np.median(reference.times_us)
    early = reference.times_us < middle
    halves = reference.values[early], reference.values[~early]
    gap = reference.times_us[~early].mean() - reference.times_us[early].mean() if early.any() else 0.0
    if min(map(len, halves)) < 2 or gap < US_PER_DAY:
        return []  # morning and evening are no trend
    if engine.kolmogorov_smirnov(*halves).statistic < KS_NOISE * np.sqrt(sum(1 / len(half) for half in halves)):
        return []
    ranks = (np.arange(len(reference.values)) + 0.5) / len(reference.values)
    moved = np.quantile(halves[1], ranks) - np.quantile(halves[0], ranks)
    lag = window.times_us.mean() - reference.times_us.mean()
    values = np.quantile(reference.values, ranks)
    return [values + moved * max(lag / gap, 0.0) * step for step in np.linspace(0, 1, TREND_STEPS + 1)[1:]]


def _judge(tested: _Tested, *, p_threshold: float, config: MonitoringConfig) -> Signal:
    result, threshold = tested.result, _threshold(tested, p_threshold=p_threshold, config=config)
    status, reason = _verdict(tested, threshold=threshold, p_threshold=p_threshold, config=config)
    return Signal(
        name=tested.column.name,
        kind="feature",
        test="chi_square" if tested.column.form.categorical else "ks",
        statistic=result.statistic if result else None,
        p_value=result.p_value if result else None,
        p_threshold=p_threshold,
        effect=tested.effect if result else None,
        threshold=threshold,
        trend=tested.trend,
        missing_share=tested.column.window.missing_share,
        rows=len(tested.column.window.values),
        reference_rows=len(tested.column.reference.values),
        status=status,
        reason=reason,
    )


def _threshold(tested: _Tested, *, p_threshold: float, config: MonitoringConfig) -> float:
    """The configured threshold, or what tolerance and chance reach together at `p_threshold`, if that is more."""
    from scipy.stats import kstwobign, ncx2

    column, drift = tested.column, config.drift
    usual = drift.cramers_v_threshold if column.form.categorical else drift.ks_threshold
    wanted = drift.thresholds.get(column.name, usual)
    if tested.result is None:
        return wanted
    rows = 1 / (1 / len(column.window.values) + 1 / len(column.reference.values))
    if not column.form.categorical:
        return max(wanted, drift.ks_tolerance + float(kstwobign.isf(p_threshold) / np.sqrt(rows)))
    # 4 n V² is chi-square, noncentral of samples whose V is the tolerance; `cramers_v` takes its mean off.
    freedom = max(len(np.union1d(column.window.values, column.reference.values)) - 1, 1)
    chance = ncx2.isf(p_threshold, freedom, 4 * rows * drift.cramers_v_tolerance**2) - freedom
    return max(wanted, float(np.sqrt(max(chance, 0.0) / (4 * rows))))


def _verdict(tested: _Tested, *, threshold: float, p_threshold: float, config: MonitoringConfig) -> tuple[Status, str]:
    feature, result = tested.column.name, tested.result
    window, reference = tested.column.window, tested.column.reference
    more_missing = window.missing_share - reference.missing_share > config.drift.max_missing_increase
    if more_missing and not _too_few(window.rows, reference.rows, config=config):
        return "drift", f"{feature} is missing in {window.missing_share:.1%} of the rows"
    if result is None:
        return "not_enough_data", _few(len(window.values), len(reference.values))
    if not np.isfinite([result.p_value, result.statistic]).all():
        return "error", f"the test of {feature} gave no number; look at its values"
    if tested.effect > threshold and result.p_value < p_threshold:
        name = "Cramér's V" if tested.column.form.categorical else "KS distance"
        return "drift", f"{feature} moved: {name} {tested.effect:.2f} (threshold {threshold:.2f})"
    return "ok", ""


def _too_few(rows: int, reference_rows: int, *, config: MonitoringConfig) -> bool:
    return rows * reference_rows < config.window.min_effective_rows * (rows + reference_rows) or not rows


def _few(rows: int, reference_rows: int) -> str:
    return f"not enough data: {rows} independent rows against {reference_rows} of the reference"
