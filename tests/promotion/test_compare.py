"""The decision on a challenger: better with confidence, nobody much worse, gates met, as fast."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from promotion_world import CONFIG, SMALL

from benchmarks.predict_bundle import END, random_interactions, write_random_bundle
from feedrank import schema
from feedrank.config import Config
from feedrank.config.feed import Feed
from feedrank.config.model import EvaluationConfig
from feedrank.config.promotion import ComparisonConfig, PromotionConfig
from feedrank.errors import DataError
from feedrank.evaluation.evaluate import KnownIds, measure
from feedrank.features.forms import Since
from feedrank.features.offline import compute_features
from feedrank.model.bundle import ModelBundle, load_bundle
from feedrank.promotion.bootstrap import Gain, Interval, paired_gain
from feedrank.promotion.compare import (
    Decision,
    Latency,
    compare,
    gains_on,
    merits,
    objections,
    sampled,
    unseen,
    with_features,
)
from feedrank.tables import timestamps_us, write_partitioned
from tests.feeds import feed_with

LIMITS = ComparisonConfig(min_users=20, min_clicks=30, resamples=100, latency_requests=10)
SETTINGS = Config(promotion=PromotionConfig(comparison=LIMITS))
NOW = datetime(2024, 12, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return compute_features(random_interactions(SMALL), feed=Feed())


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[ModelBundle]:
    folder: Path = tmp_path_factory.mktemp("bundles")
    return [
        load_bundle(
            write_random_bundle(folder / str(seed), config=CONFIG, size=SMALL, seed=seed, version=f"v1.0.{seed}")
        )
        for seed in range(2)
    ]


def trained_until(bundle: ModelBundle, day: datetime) -> ModelBundle:
    metadata = bundle.metadata
    span = metadata.training_data_date_range.model_copy(update={"end": day.date().isoformat()})
    changed = metadata.model_copy(update={"training_data_date_range": span})
    return ModelBundle(changed, bundle.config, bundle.arrays, bundle.directory, bundle.feed)


def gain(gauc: tuple[float, float, float], log_loss: tuple[float, float, float] = (-0.0004, 0.0, 0.0004)) -> Gain:
    intervals = [Interval(low=low, estimate=estimate, high=high) for low, estimate, high in (gauc, log_loss)]
    worse = Interval(low=-0.3, estimate=-0.2, high=-0.1)
    return Gain(rows=1000, users=100, clicks=300, gauc=intervals[0], auc=worse, log_loss=intervals[1])


AS_FAST = Latency(champion_ms=1.0, challenger_ms=1.1)
BETTER = gain((0.004, 0.01, 0.016))


@pytest.mark.parametrize(
    ("challenger", "by_slice", "latency", "words"),
    [
        (gain((-0.001, 0.002, 0.005)), {}, AS_FAST, "by the margin"),
        (gain((0.0005, 0.002, 0.003)), {}, AS_FAST, "by the margin"),
        (gain((0.004, 0.01, 0.016), (-0.01, -0.005, 0.0)), {}, AS_FAST, "its log loss is worse by 0.0050"),
        (gain((-0.09, -0.06, -0.03), (0.004, 0.01, 0.016)), {}, AS_FAST, "its GAUC is worse by 0.0600"),
        (BETTER, {"new_users": gain((-0.09, -0.06, -0.01))}, AS_FAST, "its GAUC on new users is worse by 0.0600"),
        (BETTER, {}, Latency(champion_ms=1.0, challenger_ms=1.6), "in 1.60 ms"),
        (gain((float("nan"),) * 3, (0.004, 0.01, 0.016)), {}, AS_FAST, "its GAUC is worse by nan"),
    ],
)
def test_what_speaks_against_a_challenger_is_said(challenger, by_slice, latency, words):
    (objection,) = objections(challenger, by_slice, latency, config=ComparisonConfig())
    assert words in objection


@pytest.mark.parametrize(
    ("challenger", "by_slice"),
    [
        (BETTER, {}),
        (gain((-0.001, 0.0, 0.001), (0.001, 0.002, 0.003)), {}),
        (gain((-0.05, -0.03, -0.01), (0.004, 0.01, 0.016)), {}),
        (BETTER, {"new_users": gain((-0.15, -0.06, 0.01)), "new_items": gain((-0.049, -0.048, -0.047))}),
    ],
)
def test_a_better_challenger_passes_though_a_slice_wavers(challenger, by_slice):
    assert objections(challenger, by_slice, AS_FAST, config=ComparisonConfig()) == []
    assert merits(challenger, config=ComparisonConfig())


def test_scores_nearer_to_the_clicks_win_and_a_slice_that_suffers_is_seen(rows):
    targets = rows[schema.TARGET].to_numpy()
    rng = np.random.default_rng(3)
    old = np.clip(0.1 + rng.normal(0, 0.05, len(targets)), 0.01, 0.99)
    new = np.clip(old + 0.05 * (2 * targets - 1), 0.01, 0.99)
    mobile, known = rows["device_mobile"].to_numpy() == 1, KnownIds.of_rows(rows)
    all_better, slices_better = gains_on(rows, old, new, known=known, feed=Feed(), config=LIMITS)
    assert all_better.gauc.low > 0.1
    assert {"device_mobile", "known_users"} <= set(slices_better)
    for_mobile_worse = np.where(mobile, np.clip(old - 0.05 * (2 * targets - 1), 0.01, 0.99), new)
    _, by_slice = gains_on(rows, old, for_mobile_worse, known=known, feed=Feed(), config=LIMITS)
    assert by_slice["device_mobile"].gauc.high < 0 < by_slice["device_desktop"].gauc.low


def test_clicks_at_the_places_that_the_champion_chose_flatter_its_gauc_by_less_than_the_limit():
    """Both know as much of what users like; each request's ten items are shown in the champion's order."""
    rng = np.random.default_rng(5)
    users, requests, shown = 300, 30, 10
    liking = rng.normal(-2, 1, (users, requests, shown))
    champion, challenger = (liking + rng.normal(0, 1, liking.shape) for _ in range(2))
    places = np.argsort(np.argsort(-champion, axis=2), axis=2) + 1
    clicks = rng.random(liking.shape) < places**-0.3 / (1 + np.exp(-liking))
    probability = [1 / (1 + np.exp(-scores.ravel())) for scores in (champion, challenger)]
    found = paired_gain(
        users=np.repeat(np.arange(users), requests * shown), targets=clicks.ravel().astype(np.int8),
        champion=probability[0], challenger=probability[1], resamples=100, confidence=0.95, seed=1,
    ).gauc  # fmt: skip
    assert -LIMITS.max_gauc_loss < found.estimate < found.high < -0.01


def test_models_are_compared_on_days_after_the_champions_training(rows, bundles):
    day = END - timedelta(days=30)
    old, new = trained_until(bundles[0], day), bundles[1]
    fresh = unseen(rows, old)
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    assert timestamps_us(fresh).min() >= midnight.timestamp() * 1e6
    decision = compare(old, new, rows, missed_gates=[], config=SETTINGS, now=NOW)
    assert decision.gain.rows == fresh.num_rows
    assert not decision.promote, "random weights are no better than random weights"
    assert decision.latency.challenger_ms > 0
    assert Decision.model_validate_json(decision.model_dump_json()) == decision
    assert "| all:" in decision.markdown()


def test_a_champion_of_other_constants_is_scored_on_features_of_its_own(rows, bundles, tmp_path):
    other = feed_with(
        item_popularity={"half_life": "2d"}, recency_score={"half_life": "1h"}, item_ctr={"prior_weight": 500.0}
    )
    write_partitioned(random_interactions(SMALL), tmp_path)
    last = rows.slice(rows.num_rows // 2)
    own = with_features(last, tmp_path, feed=other)
    assert own.select([schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.TARGET]).equals(
        last.select([schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.TARGET])
    )
    assert not own["item_ctr"].equals(last["item_ctr"])
    old = trained_until(bundles[0], END - timedelta(days=30))
    settings = {"missed_gates": [], "config": SETTINGS, "now": NOW}
    decision = compare(old, bundles[1], last, champion_rows=own, **settings)
    fresh, own_fresh = unseen(last, old), unseen(own, old)
    expected = measure(fresh, old.score_table(own_fresh), config=EvaluationConfig())
    assert decision.champion_metrics == expected
    assert expected != compare(old, bundles[1], last, **settings).champion_metrics
    assert with_features(last, tmp_path, feed=Feed()).equals(last)


def test_a_feature_that_changed_its_type_needs_a_new_name(rows, bundles):
    other = Feed(features=Feed().features | {"item_age_days": Since(since="impression", per=("item",), half_life="1d")})
    retyped = replace(bundles[1], feed=other)
    retyped_rows = rows.set_column(
        rows.schema.get_field_index("item_age_days"), "item_age_days", rows["item_age_days"].cast(pa.float32())
    )
    old = trained_until(bundles[0], END - timedelta(days=30))
    decision = compare(old, retyped, retyped_rows, champion_rows=rows, missed_gates=[], config=SETTINGS, now=NOW)
    assert decision.reasons[0].startswith("item_age_days is float instead of int32: the prediction log can't hold both")


def test_rows_that_are_not_the_last_of_the_interactions_are_not_compared(rows, tmp_path):
    write_partitioned(random_interactions(SMALL), tmp_path)
    with pytest.raises(DataError, match="compute the features again"):
        with_features(rows.slice(0, 100), tmp_path, feed=Feed())


def test_without_enough_fresh_rows_there_is_no_verdict(rows, bundles):
    decision = compare(*bundles, rows, missed_gates=["auc"], config=SETTINGS, now=NOW)
    assert not decision.promote
    assert decision.reasons[0] == "it misses the gate auc on its own test rows"
    assert "only 0 rows" in decision.reasons[1]


def test_a_sample_keeps_all_rows_of_its_users(rows):
    few = sampled(rows, config=LIMITS.model_copy(update={"max_rows": rows.num_rows // 3}))
    assert rows.num_rows // 5 < few.num_rows <= rows.num_rows // 3
    kept = np.isin(rows[schema.USER_ID].to_numpy(), few[schema.USER_ID].to_numpy())
    assert kept.sum() == few.num_rows
