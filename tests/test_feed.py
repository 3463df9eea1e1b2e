"""The declaration of the feed: what it refuses and says, and what earlier releases had instead."""

import json
from pathlib import Path

import pytest

from benchmarks.predict_bundle import Size, write_random_bundle
from benchmarks.small_data import small_model
from feedrank.config import load_config
from feedrank.config.feed import Feed
from feedrank.errors import ConfigError
from feedrank.model.bundle import SNAPSHOT_FOLDER, load_bundle, seal
from feedrank.monitoring.reference import ReferenceInfo
from feedrank.scoring import Scorer
from feedrank.tables import read_parquet
from tests.feeds import EVERY_FORM, feed_with

CONSTANTS = {
    "freshness": "nightly", "outcome_delay_minutes": 7.0, "initial_ctr": 0.2, "initial_ctr_weight": 50.0,
    "user_ctr_prior_weight": 9.0, "item_ctr_prior_weight": 8.0, "popularity_half_life_days": 3.5,
    "recency_half_life_hours": 12.0,
}  # fmt: skip
"""`features` of data_config.yaml in the releases that had no declaration."""


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ("x: {ratio: click, per: [user]}", "features.x: expected one of the forms count, rate, mean"),
        ("x: {rate: view, per: [user]}", r"features.x.rate.rate: .*'click', 'like' or 'share'.*\(got 'view'\)"),
        ("x: {rate: click}", "features.x.rate.per: Field required"),
        ("x: {rate: click, per: [user], weight: 3}", "features.x.rate.weight: unknown key"),
        ("x: {count: click, per: [author]}", "features.x.count.per.0: .*'user' or 'item'"),
        ("x: {count: click, per: [user, user]}", "expected user, item or both"),
        ("x: {count: click, per: []}", "expected user, item or both"),
        ("x: {since: click, per: [user]}", "features.x.since.half_life: Field required"),
        ("x: {count: click, per: [user], half_life: 2w}", "half_life: .*pattern"),
        ("x: {count: click, per: [user], half_life: 0d}", "half_life: .*at least a minute"),
        ("x-y: {clock: hour}", "'x-y' is no name of a feature"),
        ("click: {clock: hour}", "'click' is the name of another column"),
        ("{}", "features: .*at least 1"),
    ],
)
def test_a_wrong_declaration_is_refused_with_its_place(tmp_path: Path, features: str, expected: str) -> None:
    (tmp_path / "feed.yaml").write_text(f"features:\n  {features}\n")
    with pytest.raises(ConfigError, match=f"feed.yaml: .*{expected}"):
        load_config(tmp_path, environ={})


def test_the_order_of_a_declaration_says_nothing_and_null_takes_a_feature_out(tmp_path: Path) -> None:
    declared = {name: form.model_dump() for name, form in Feed().features.items()}
    shuffled = Feed(features=dict(sorted(declared.items(), reverse=True)))
    assert (shuffled.names, shuffled.fingerprint) == (Feed().names, Feed().fingerprint)
    fewer = Feed(features=declared | {"recency_score": None})
    assert set(Feed().names) - set(fewer.names) == {"recency_score"}
    assert fewer.differences(Feed()) == "recency_score is missing"
    assert Feed().differences(fewer) == "recency_score is new"


def test_one_constant_can_be_overridden_by_the_environment() -> None:
    feed = load_config(environ={"FEEDRANK__FEED__FEATURES__ITEM_CTR__PRIOR_WEIGHT": "50"}).feed
    assert feed == feed_with(item_ctr={"prior_weight": 50.0})
    assert feed.differences(Feed()) == "item_ctr.prior_weight 50.0 instead of 20.0"


def test_a_threshold_of_an_undeclared_feature_is_refused(tmp_path: Path) -> None:
    (tmp_path / "monitoring_config.yaml").write_text("drift: {thresholds: {author_ctr: 0.2}}")
    with pytest.raises(ConfigError, match=r"unknown feature author_ctr; feed\.yaml declares user_historical_ctr"):
        load_config(tmp_path, environ={})


def test_every_form_survives_json() -> None:
    assert Feed.model_validate_json(EVERY_FORM.model_dump_json()) == EVERY_FORM


def test_a_model_of_a_release_without_a_declaration_is_served_as_it_was(tmp_path: Path) -> None:
    """The snapshot had constants instead, other totals, and one half-life, which its column did not name."""
    import pyarrow.parquet as pq

    feed = ReferenceInfo._upgraded({"feature_config": CONSTANTS})["feed"]
    size = Size(users=40, items=60, interactions=3_000)
    bundle = write_random_bundle(tmp_path / "model", config=small_model(), size=size, features=feed)
    expected = Scorer.build(load_bundle(bundle), load_bundle(bundle).snapshot).rank(3, [1, 2, 3], time_us=10**15)
    info = bundle / SNAPSHOT_FOLDER / "snapshot.json"
    stored, metadata = json.loads(info.read_text()), json.loads((bundle / "model_metadata.json").read_text())
    totals = stored.pop("totals")
    del stored["feed"]
    stored |= {"feature_config": CONSTANTS, "feature_fingerprint": "of 3.0.0", "clicks": totals["all_clicks"]}
    info.write_text(json.dumps(stored))
    (bundle / "model_metadata.json").write_text(json.dumps(metadata | {"feature_fingerprint": "of 3.0.0"}))
    items = read_parquet(bundle / SNAPSHOT_FOLDER / "items.parquet")
    items = items.rename_columns([n.removesuffix("_84h") for n in items.column_names])
    pq.write_table(items, bundle / SNAPSHOT_FOLDER / "items.parquet", write_page_checksum=True)
    seal(bundle)
    upgraded = load_bundle(bundle)
    assert upgraded.feed == feed
    assert upgraded.feed.features["item_popularity"].half_life == "3.5d"
    assert upgraded.metadata.feature_fingerprint == feed.fingerprint
    ranking = Scorer.build(upgraded, upgraded.snapshot).rank(3, [1, 2, 3], time_us=10**15)
    assert ranking.scores.tolist() == expected.scores.tolist()
    assert ranking.features().tolist() == expected.features().tolist()
