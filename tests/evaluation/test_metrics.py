"""The metrics against independent implementations: ir-measures (trec_eval) and scikit-learn."""

import ir_measures
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ir_measures import Qrel, ScoredDoc, nDCG

from feedrank.evaluation.metrics import (
    calibration_curve,
    calibration_error,
    group_auc,
    log_loss,
    normalized_entropy,
    precision_and_ndcg_at,
    roc_auc,
    roc_curve,
)

K = 10
# Eighths are exact in binary, and so few of them that many scores are equal.
tied_scores = st.integers(0, 8).map(lambda n: n / 8)
any_scores = st.floats(0, 1, allow_nan=False)
predictions = st.one_of(
    st.lists(st.tuples(st.integers(0, 1), scores), min_size=1, max_size=80) for scores in (tied_scores, any_scores)
)
impressions = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), tied_scores), min_size=1, max_size=120)


def columns(rows: list[tuple[float, ...]]) -> list[np.ndarray]:
    return [np.array(column) for column in zip(*rows, strict=True)]


@given(predictions)
@settings(deadline=None)
def test_auc_equals_that_of_scikit_learn(rows):
    targets, scores = columns(rows)
    assume(0 < targets.sum() < len(targets))
    assert roc_auc(targets, scores) == pytest.approx(sklearn.metrics.roc_auc_score(targets, scores), abs=1e-12)


@given(impressions)
@settings(deadline=None)
def test_gauc_is_the_mean_of_scikit_learns_auc_within_users_weighted_by_impressions(rows):
    users, targets, scores = columns(rows)
    both = [user for user in np.unique(users) if 0 < targets[users == user].mean() < 1]
    gauc, counted = group_auc(users, targets, scores)
    assert counted == len(both)
    if both:
        aucs = [sklearn.metrics.roc_auc_score(targets[users == user], scores[users == user]) for user in both]
        weights = [(users == user).sum() for user in both]
        assert gauc == pytest.approx(np.average(aucs, weights=weights), abs=1e-12)
    else:
        assert np.isnan(gauc)


def test_what_is_the_same_for_all_of_a_users_items_orders_nothing():
    rng = np.random.default_rng(4)
    users = np.repeat(np.arange(200), 30)
    rate = rng.beta(1, 4, 200)[users]
    targets = (rng.random(len(users)) < rate).astype(np.int8)
    assert roc_auc(targets, rate) > 0.7
    assert group_auc(users, targets, rate)[0] == 0.5


def test_the_click_rate_itself_has_a_normalized_entropy_of_one_and_one_class_has_none():
    targets = np.array([1, 0, 0, 0])
    assert normalized_entropy(targets, np.full(4, 0.25)) == pytest.approx(1.0)
    assert normalized_entropy(targets, np.array([0.9, 0.1, 0.1, 0.1])) < 1
    assert np.isnan(normalized_entropy(np.ones(3), np.full(3, 0.9)))


@given(predictions)
@settings(deadline=None)
def test_log_loss_equals_that_of_scikit_learn(rows):
    targets, scores = columns(rows)
    kept_off_the_ends = np.clip(scores, 1e-7, 1 - 1e-7)
    expected = sklearn.metrics.log_loss(targets, kept_off_the_ends, labels=[0, 1])
    assert log_loss(targets, scores) == pytest.approx(expected, rel=1e-9)


@given(predictions)
@settings(deadline=None)
def test_the_roc_curve_with_all_points_encloses_the_auc(rows):
    targets, scores = columns(rows)
    assume(0 < targets.sum() < len(targets))
    fpr, tpr, thresholds = roc_curve(targets, scores, points=len(rows))
    area = np.trapz(np.concatenate([[0.0], tpr]), np.concatenate([[0.0], fpr]))
    assert area == pytest.approx(roc_auc(targets, scores), abs=1e-12)
    assert (np.diff(thresholds) < 0).all()
    assert (fpr[-1], tpr[-1]) == (1, 1)


def trec_eval(users, targets, scores, *, min_impressions):
    """Precision@10 and NDCG@10 of trec_eval's measures; equal scores get distinct ones in the order of the rows."""
    place = np.argsort(np.lexsort((np.arange(len(scores)), -scores)))
    names = [f"u{user}" for user in users]
    counts = {name: names.count(name) for name in names}
    kept = [row for row in range(len(users)) if counts[names[row]] >= min_impressions]
    qrels = [Qrel(names[row], str(row), int(targets[row])) for row in kept]
    run = [ScoredDoc(names[row], str(row), float(-place[row])) for row in kept]
    of_user = {
        (result.query_id, str(result.measure)): result.value
        for result in ir_measures.iter_calc([ir_measures.P @ K, nDCG @ K], qrels, run)
    }
    clicked = {names[row] for row in kept if targets[row]}
    precision = [value for (_, measure), value in of_user.items() if measure == f"P@{K}"]
    ndcg = [value for (name, measure), value in of_user.items() if measure == f"nDCG@{K}" and name in clicked]
    return [np.mean(values) if values else float("nan") for values in (precision, ndcg)]


@given(impressions, st.sampled_from([1, 5, 20]))
@settings(deadline=None)
def test_precision_and_ndcg_equal_those_of_ir_measures(rows, min_impressions):
    users, targets, scores = columns(rows)
    *ours, counted = precision_and_ndcg_at(
        K, users=users, targets=targets, scores=scores, min_impressions=min_impressions
    )
    expected = trec_eval(users, targets, scores, min_impressions=min_impressions)
    assert ours == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert counted == (np.unique(users, return_counts=True)[1] >= min_impressions).sum()


def test_scores_in_float32_rank_as_in_float64():
    rng = np.random.default_rng(0)
    targets, scores = rng.integers(0, 2, 2_000), rng.random(2_000).astype(np.float32)
    expected = sklearn.metrics.roc_auc_score(targets, scores.astype(np.float64))
    assert roc_auc(targets, scores) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("target", [0, 1])
def test_one_class_has_no_auc_and_no_roc_curve(target):
    targets, scores = np.full(5, target, dtype=np.int8), np.linspace(0, 1, 5)
    assert np.isnan(roc_auc(targets, scores))
    assert all(len(part) == 0 for part in roc_curve(targets, scores, points=10))


def test_nothing_has_no_auc_and_no_ranking():
    nothing = np.empty(0)
    assert np.isnan(roc_auc(nothing, nothing))
    assert np.isnan(group_auc(nothing, nothing, nothing)[0])
    precision, ndcg, users = precision_and_ndcg_at(K, users=nothing, targets=nothing, scores=nothing, min_impressions=1)
    assert np.isnan([precision, ndcg]).all()
    assert users == 0


def test_scores_of_zero_and_one_cost_much_but_not_infinitely_much():
    assert log_loss(np.array([1, 0]), np.array([0.0, 1.0])) == pytest.approx(-np.log(1e-7), rel=1e-6)


def test_a_ranking_shorter_than_ten_misses_the_rest():
    precision, ndcg, users = precision_and_ndcg_at(
        K, users=np.zeros(2), targets=np.ones(2), scores=np.array([0.2, 0.1]), min_impressions=1
    )
    assert (precision, ndcg, users) == (0.2, 1.0, 1)


@given(predictions, st.integers(2, 20))
@settings(deadline=None)
def test_the_bins_of_calibration_hold_every_row_once(rows, bins):
    targets, scores = columns(rows)
    mean_score, rate, sizes = calibration_curve(targets, scores, bins=bins)
    assert sizes.sum() == len(targets)
    assert len(sizes) <= bins
    assert sizes.max() - sizes.min() <= 1
    assert (mean_score * sizes).sum() == pytest.approx(scores.sum(), abs=1e-9)
    assert (rate * sizes).sum() == pytest.approx(targets.sum(), abs=1e-9)


def test_true_probabilities_are_calibrated_and_shifted_ones_are_off_by_the_shift():
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.05, 0.5, 200_000)
    targets = (rng.random(len(truth)) < truth).astype(np.int8)
    assert calibration_error(targets, truth, bins=15) < 0.005
    assert calibration_error(targets, truth + 0.1, bins=15) == pytest.approx(0.1, abs=0.005)
