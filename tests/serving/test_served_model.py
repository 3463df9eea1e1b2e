"""What a model is served with: its own snapshot, or a later published one of the features that it understands."""

from datetime import timedelta
from pathlib import Path

import pytest

from benchmarks.predict_bundle import END, Size, random_interactions, write_random_bundle
from feedrank.config.feed import Feed
from feedrank.config.model import ModelConfig
from feedrank.errors import BundleError
from feedrank.features.forms import Count, Rate
from feedrank.features.snapshot import save_snapshot, take_snapshot
from serving.served_model import build
from tests.feeds import feed_with

SIZE = Size(users=40, items=60, interactions=2_000)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ModelConfig(embedding_dim=4, hidden_dims=(4,), cross_hidden_dim=3)
    return write_random_bundle(tmp_path_factory.mktemp("bundle") / "model", config=config, size=SIZE)


def published(folder: Path, config: Feed) -> Path:
    folder.mkdir(exist_ok=True)
    save_snapshot(take_snapshot(random_interactions(SIZE), cutoff=END + timedelta(days=1), feed=config), folder)
    return folder


def test_a_later_snapshot_of_the_same_constants_is_served(bundle, tmp_path):
    assert build(bundle, None).snapshot_cutoff == END
    assert build(bundle, published(tmp_path, Feed())).snapshot_cutoff == END + timedelta(days=1)


def test_a_snapshot_of_other_constants_is_never_served_and_both_sides_are_named(bundle, tmp_path):
    other = feed_with(
        item_popularity={"half_life": "1d"}, recency_score={"half_life": "1h"}, item_ctr={"prior_weight": 500.0}
    )
    with pytest.raises(BundleError) as caught:
        build(bundle, published(tmp_path, other))
    message = str(caught.value)
    assert f"{tmp_path}: features of another declaration than the model" in message
    for difference in (
        "item_ctr.prior_weight 500.0 instead of 20.0",
        "item_popularity.half_life 1d instead of 14d",
        "recency_score.half_life 1h instead of 24h",
        f"{other.fingerprint} instead of {Feed().fingerprint}",
    ):
        assert difference in message
    assert "user_historical_ctr" not in message


def test_a_snapshot_for_other_features_is_served_if_it_has_all_that_the_models_need(bundle, tmp_path):
    others = {"item_likes": Count(count="like", per=("item",)), "item_popularity": Feed().features["item_popularity"]}
    more = Feed(features=Feed().features | others | {"item_ctr": Rate(rate="click", per=("item",), prior_weight=500)})
    assert more != Feed()
    model = build(bundle, published(tmp_path, more))
    assert model.snapshot_cutoff == END + timedelta(days=1)
    with_own = build(bundle, published(tmp_path / "own", Feed())).scorer
    at = {"time_us": round((END + timedelta(days=1)).timestamp() * 1_000_000)}
    one, other = (scorer.rank(1, [1, 2, 3], **at) for scorer in (model.scorer, with_own))
    assert one.features().tolist() == other.features().tolist()
    assert one.scores.tolist() == other.scores.tolist()


def test_a_snapshot_of_another_rule_is_never_served_and_both_are_named(bundle, tmp_path):
    info = published(tmp_path, Feed()) / "snapshot.json"
    info.write_text(info.read_text().replace('"nightly"', '"live"'))
    with pytest.raises(BundleError, match=r"features\.freshness live, this code has 3\.0\.0 with nightly"):
        build(bundle, tmp_path)
