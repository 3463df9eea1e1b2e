"""Judging: gates that NaN never passes, slices that cover the rows, baselines that are what they say."""

import json
from functools import cache

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.small_data import GENERATOR, split_features
from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.config.model import EvaluationConfig, Gates
from feedrank.evaluation.baselines import BASELINES
from feedrank.evaluation.evaluate import Evaluation, KnownIds, Metrics, check_gates, evaluate, measure, slices
from feedrank.evaluation.metrics import roc_auc
from feedrank.stages import oracle_scores

CONFIG = EvaluationConfig(min_impressions_per_user=10)
NAN = float("nan")


def metrics(**values: float) -> Metrics:
    good = {"auc": 0.8, "log_loss": 0.3, "precision_at_10": 0.3, "ndcg_at_10": 0.5, "calibration_error": 0.01}
    within = {"gauc": 0.7, "gauc_users": 5, "normalized_entropy": 0.9}
    return Metrics.model_validate({"rows": 100, "users_at_10": 5, **good, **within, **values})


def passed(measured: Metrics, gates: Gates) -> dict[str, bool]:
    by_item_ctr = metrics(ndcg_at_10=0.45)
    return {gate.name: gate.passed for gate in check_gates(measured, gates, item_ctr=by_item_ctr)}


def item_ctr(test: pa.Table) -> np.ndarray:
    return test["item_ctr"].to_numpy()


@cache
def judged() -> Evaluation:
    train, _, test = split_features()
    scores = item_ctr(test)
    return evaluate(
        scores,
        train=train,
        test=test,
        feed=Feed(),
        config=CONFIG,
        gates=Gates(),
        oracle=oracle_scores(GENERATOR, Feed()),
    )


def test_good_metrics_pass_every_gate():
    assert passed(metrics(), Gates()) == {"auc": True, "precision_at_10": True, "log_loss": True}


@pytest.mark.parametrize(("name", "bad"), [("auc", 0.69), ("log_loss", 0.51), ("precision_at_10", 0.14)])
def test_a_bad_metric_fails_its_gate_and_no_other(name, bad):
    for value in (bad, NAN):
        assert [gate for gate, ok in passed(metrics(**{name: value}), Gates()).items() if not ok] == [name]


def test_a_gate_must_be_passed_not_met():
    gates = Gates()
    on_the_limits = metrics(auc=gates.min_auc, log_loss=gates.max_log_loss, precision_at_10=gates.min_precision_at_10)
    assert not any(passed(on_the_limits, gates).values())


def test_gates_can_be_relative_to_the_click_rate_and_to_item_ctr_and_absolute_ones_unset():
    """Where most rows are clicks, no ranker has a log loss below 0.5 (finding 43)."""
    relative = {"max_normalized_entropy": 0.95, "min_ndcg_lift": 0.01}
    gates = Gates(min_auc=None, max_log_loss=None, min_precision_at_10=None, **relative)
    assert passed(metrics(log_loss=0.6), gates) == {"ndcg_at_10_over_item_ctr": True, "normalized_entropy": True}
    assert not passed(metrics(normalized_entropy=0.96), gates)["normalized_entropy"]
    assert not passed(metrics(ndcg_at_10=0.455), gates)["ndcg_at_10_over_item_ctr"]
    assert not any(passed(metrics(ndcg_at_10=NAN, normalized_entropy=NAN), gates).values())


def test_only_who_orders_a_users_items_better_is_better():
    """A higher pooled AUC says who clicks more, too (findings 20 and 44)."""
    baseline = metrics(gauc=0.7, ndcg_at_10=0.795, auc=0.702)
    assert not metrics(gauc=0.69, ndcg_at_10=0.8, auc=0.75).orders_better_than(baseline)
    assert not metrics(gauc=0.71, ndcg_at_10=0.779, auc=0.75).orders_better_than(baseline)
    assert metrics(gauc=0.71, ndcg_at_10=0.8, auc=0.6).orders_better_than(baseline)
    unranked = metrics(gauc=0.7, ndcg_at_10=NAN)
    assert metrics(gauc=0.71, ndcg_at_10=NAN).orders_better_than(unranked)
    assert not metrics(gauc=NAN, ndcg_at_10=NAN).orders_better_than(unranked)


@pytest.mark.parametrize("score", [NAN, np.inf, -np.inf])
def test_scores_that_are_no_probabilities_pass_no_evaluation(score):
    _, _, test = split_features()
    scores = item_ctr(test).copy()
    scores[::7] = score
    measured = measure(test, scores, config=CONFIG)
    assert not all(passed(measured, Gates(min_auc=0, min_precision_at_10=-1)).values())


def test_slices_split_the_rows_by_what_training_saw_and_by_device():
    train, _, test = split_features()
    masks = slices(test, KnownIds.of_rows(train), Feed())
    assert (masks["new_users"] ^ masks["known_users"]).all()
    assert (masks["new_items"] ^ masks["known_items"]).all()
    assert (sum(masks[name].astype(int) for name in tuple(Feed().flags)) == 1).all()
    for name, column in (("new_users", schema.USER_ID), ("new_items", schema.ITEM_ID)):
        seen = set(train[column].to_pylist())
        assert masks[name].tolist() == [entity not in seen for entity in test[column].to_pylist()]
    assert 0 < masks["new_items"].sum() < test.num_rows


def test_an_old_item_that_was_seldom_shown_lately_is_not_new():
    """Three quarters of the slice were once items older than a month (finding 21)."""
    train, _, test = split_features()
    age, is_new = test["item_age_days"].to_numpy(), slices(test, KnownIds.of_rows(train), Feed())["new_items"]
    days_since_training = (test[schema.TIMESTAMP][-1].as_py() - train[schema.TIMESTAMP][-1].as_py()).days
    assert age[is_new].max() <= days_since_training


def test_each_slice_is_measured_on_its_rows():
    _, _, test = split_features()
    mask = test["device_mobile"].to_numpy() == 1
    measured = judged().slices["device_mobile"]
    assert measured.rows == mask.sum()
    assert measured.auc == roc_auc(test[schema.TARGET].to_numpy()[mask], item_ctr(test)[mask])


def test_a_slice_without_rows_is_left_out():
    train, _, test = split_features()
    mobile = test.filter(pa.array(test["device_mobile"].to_numpy() == 1))
    evaluation = evaluate(item_ctr(mobile), train=train, test=mobile, feed=Feed(), config=CONFIG, gates=Gates())
    assert "device_tablet" not in evaluation.slices
    assert evaluation.slices["device_mobile"].rows == mobile.num_rows


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_gives_probabilities_and_the_same_ones_again(name):
    train, _, test = split_features()
    first, second = (BASELINES[name](train, test, Feed()) for _ in range(2))
    assert first.shape == (test.num_rows,)
    assert ((first > 0) & (first < 1)).all()
    assert (first == second).all()


@pytest.mark.parametrize("name", BASELINES)
def test_no_baseline_sees_the_outcomes_of_the_test_rows(name):
    train, _, test = split_features()
    index = test.schema.get_field_index(schema.TARGET)
    flipped = test.set_column(index, schema.TARGET, pa.array(1 - test[schema.TARGET].to_numpy()))
    assert (BASELINES[name](train, test, Feed()) == BASELINES[name](train, flipped, Feed())).all()


def test_what_knows_nothing_ranks_at_chance_and_what_knows_more_ranks_better():
    auc = {name: metrics.auc for name, metrics in judged().baselines.items()}
    assert auc["constant"] == 0.5
    assert auc["random"] == pytest.approx(0.5, abs=0.05)
    assert max(auc["logistic_regression"], auc["gradient_boosted_trees"]) > 0.55


def test_the_oracle_beats_every_baseline():
    oracle = judged().oracle
    assert oracle is not None
    assert all(oracle.auc > baseline.auc for baseline in judged().baselines.values())
    assert all(oracle.log_loss < baseline.log_loss for baseline in judged().baselines.values())


def test_the_share_of_the_oracle_is_that_of_the_lift_over_chance():
    evaluation = judged()
    assert evaluation.oracle is not None
    assert evaluation.oracle_share == pytest.approx((evaluation.ranker.auc - 0.5) / (evaluation.oracle.auc - 0.5))
    assert evaluation.model_copy(update={"oracle": None}).oracle_share is None


def test_an_evaluation_survives_json_with_its_nans():
    few = EvaluationConfig(min_impressions_per_user=10**6)
    train, _, test = split_features()
    evaluation = evaluate(item_ctr(test), train=train, test=test, feed=Feed(), config=few, gates=Gates())
    assert np.isnan(evaluation.ranker.precision_at_10)
    assert not evaluation.passed
    text = evaluation.model_dump_json()
    json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    again = Evaluation.model_validate_json(text)
    assert np.isnan(again.ranker.precision_at_10)
    assert again.model_dump_json() == text
