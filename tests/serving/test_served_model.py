"""What a model is served with: its own snapshot, or a later published one of the features that it understands."""

from datetime import timedelta
from pathlib import Path

import pytest

from benchmarks.predict_bundle import END, Size, random_interactions, write_random_bundle
from feedrank.config.data import FeatureConfig
from feedrank.config.model import ModelConfig
from feedrank.errors import BundleError
from feedrank.features.snapshot import save_snapshot, take_snapshot
from serving.served_model import build

SIZE = Size(users=40, items=60, interactions=2_000)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ModelConfig(embedding_dim=4, hidden_dims=(4,), cross_hidden_dim=3)
    return write_random_bundle(tmp_path_factory.mktemp("bundle") / "model", config=config, size=SIZE)


def published(folder: Path, config: FeatureConfig) -> Path:
    save_snapshot(take_snapshot(random_interactions(SIZE), cutoff=END + timedelta(days=1), config=config), folder)
    return folder


def test_a_later_snapshot_of_the_same_constants_is_served(bundle, tmp_path):
    assert build(bundle, None).snapshot_cutoff == END
    assert build(bundle, published(tmp_path, FeatureConfig())).snapshot_cutoff == END + timedelta(days=1)


def test_a_snapshot_of_other_constants_is_never_served_and_both_sides_are_named(bundle, tmp_path):
    other = FeatureConfig(popularity_half_life_days=1, recency_half_life_hours=1, item_ctr_prior_weight=500)
    with pytest.raises(BundleError) as caught:
        build(bundle, published(tmp_path, other))
    message = str(caught.value)
    assert f"{tmp_path}: features of other constants than those of the model" in message
    for difference in (
        "item_ctr_prior_weight 500.0 instead of 20.0",
        "popularity_half_life_days 1.0 instead of 14.0",
        "recency_half_life_hours 1.0 instead of 24.0",
        f"{other.fingerprint} instead of {FeatureConfig().fingerprint}",
    ):
        assert difference in message
    assert "user_ctr_prior_weight" not in message


def test_a_snapshot_of_another_rule_is_never_served_and_both_are_named(bundle, tmp_path):
    info = published(tmp_path, FeatureConfig()) / "snapshot.json"
    info.write_text(info.read_text().replace('"nightly"', '"live"'))
    with pytest.raises(BundleError, match=r"features\.freshness live, this code has 3\.0\.0 with nightly"):
        build(bundle, tmp_path)
