"""Online metrics and the verdicts on them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitored_data import CONFIG, make_reference
from sklearn.metrics import roc_auc_score

from feedrank.monitoring.performance import (
    Shown,
    auc_estimate,
    measure,
    performance_signals,
    ratio_estimate,
)
from feedrank.monitoring.reference import Reference
from feedrank.monitoring.results import Signal


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return make_reference(tmp_path_factory.mktemp("reference"))


def shown(*, rows: int = 5_000, seed: int = 0, click_factor: float = 1.0, random_scores: bool = False) -> Shown:
    """Rows of a calibrated model like that of the reference."""
    rng = np.random.default_rng(seed)
    scores = rng.beta(2, 8, rows)
    clicks = (rng.random(rows) < scores * click_factor).astype(float)
    return Shown(rng.integers(0, rows // 5, rows), rng.permutation(scores) if random_scores else scores, clicks, clicks)


def verdicts(rows: Shown, reference: Reference) -> dict[str, Signal]:
    metrics = measure(rows, name="v1", config=CONFIG.performance)
    signals = performance_signals(metrics, own=reference, config=CONFIG.performance)
    return {signal.name: signal for signal in signals}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), min_size=2, max_size=50))
def test_the_auc_is_that_of_scikit_learn(rows: list[tuple[int, int]]) -> None:
    scores, labels = np.array(rows, dtype=float).T
    found = auc_estimate(scores, labels, clusters=np.arange(len(labels)), confidence=0.95).value
    assert (found is None) == (len(set(labels)) < 2)
    if found is not None:
        assert found == pytest.approx(roc_auc_score(labels, scores))


def test_intervals_of_clustered_rows_hold_the_truth_as_often_as_they_promise() -> None:
    rng = np.random.default_rng(0)
    auc_hits, rate_hits, trials = 0, 0, 300
    for _ in range(trials):
        # 200 users with 10 rows each that share a taste: treated as independent, intervals are far too short.
        users = np.repeat(np.arange(200), 10)
        taste = np.repeat(rng.normal(size=200), 10)
        labels = (rng.random(2_000) < 1 / (1 + np.exp(1 - taste))).astype(float)
        scores = labels + np.repeat(rng.normal(scale=2, size=200), 10)
        auc = auc_estimate(scores, labels, clusters=users, confidence=0.95)
        rate = ratio_estimate(labels, np.ones(2_000), clusters=users, confidence=0.95)
        assert auc.low is not None
        assert auc.high is not None
        assert rate.low is not None
        assert rate.high is not None
        auc_hits += auc.low <= TRUE_AUC <= auc.high
        rate_hits += rate.low <= TRUE_RATE <= rate.high
    assert auc_hits / trials == pytest.approx(0.95, abs=0.04)
    assert rate_hits / trials == pytest.approx(0.95, abs=0.04)


# P(N(1, 2·2²) > 0) of the difference of a clicked and an unclicked score, and the mean of the logistic-normal.
TRUE_AUC, TRUE_RATE = 0.638163, 0.303265


def test_a_model_that_is_as_good_as_before_is_ok(reference: Reference) -> None:
    assert {signal.status for signal in verdicts(shown(), reference).values()} == {"ok"}


def test_random_scores_are_a_fallen_auc(reference: Reference) -> None:
    signal = verdicts(shown(random_scores=True), reference)["auc"]
    assert signal.status == "drift"
    assert "below the 0.680" in signal.reason


@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0])
def test_clicks_that_are_far_from_the_promised_are_a_calibration_gap(reference: Reference, factor: float) -> None:
    assert verdicts(shown(click_factor=factor), reference)["calibration"].status == "drift"


def test_clicks_a_third_above_the_promised_are_a_new_order_and_no_calibration_gap(reference: Reference) -> None:
    assert verdicts(shown(click_factor=1.33), reference)["calibration"].status == "ok"


def test_few_rows_give_no_verdict(reference: Reference) -> None:
    found = verdicts(shown(rows=50, random_scores=True, click_factor=0.1), reference)
    assert {signal.status for signal in found.values()} == {"not_enough_data"}


def test_no_rows_give_empty_metrics() -> None:
    metrics = measure(Shown(np.array([], dtype=int), *(np.array([]) for _ in range(3))), name="none",
                      config=CONFIG.performance)  # fmt: skip
    assert metrics.impressions == 0
    assert metrics.auc.value is None
    assert metrics.calibration_error.value is None
