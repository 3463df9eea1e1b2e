"""The comparison of registered versions, and where its verdict is kept."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from promotion_world import CONFIG, EVALUATION, SMALL, World

from benchmarks.predict_bundle import END, random_interactions, write_random_bundle
from feedrank.config import Config
from feedrank.config.feed import Feed
from feedrank.errors import DataError
from feedrank.evaluation.evaluate import measure
from feedrank.features.offline import compute_features
from feedrank.model.bundle import load_bundle, seal, write_metadata
from feedrank.promotion.changes import PromotionError
from feedrank.promotion.compare import unseen
from feedrank.promotion.decide import decide
from feedrank.tables import write_partitioned
from tests.feeds import feed_with

OTHER = feed_with(
    item_popularity={"half_life": "2d"}, recency_score={"half_life": "1h"}, item_ctr={"prior_weight": 500.0}
)
SETTINGS = Config.model_validate(
    {"promotion": {"comparison": {"min_users": 20, "min_clicks": 30, "resamples": 100, "latency_requests": 5}}}
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A champion of other feature constants than the challenger's."""
    (tmp_path / "evaluation").mkdir()
    registry = World(tmp_path).registry()
    for name, features in (("old", OTHER), ("new", Feed())):
        bundle = write_random_bundle(
            tmp_path / name, config=CONFIG, size=SMALL, features=features, trained_until=END - timedelta(days=30)
        )
        (bundle / "epochs.json").write_text("[]")
        registry.register(bundle, evaluation_folder=tmp_path / "evaluation", evaluation=EVALUATION, config=CONFIG)
    return World(tmp_path)


def test_a_champion_of_other_feature_constants_is_compared_on_its_own_features(world):
    registry, table = world.registry(), random_interactions(SMALL)
    assert [version.model_version for version in registry.versions()] == ["v2.0.0", "v1.0.0"]
    write_partitioned(table, world.folder / "clean")
    rows, own = (compute_features(table, feed=config) for config in (Feed(), OTHER))
    decision = decide(
        registry,
        registry.find("v2.0.0"),
        rows.slice(rows.num_rows // 3),
        evaluated=world.folder / "new",
        missed_gates=[],
        interactions=world.folder / "clean",
        config=SETTINGS,
        now=datetime(2024, 12, 1, tzinfo=UTC),
    )
    champion = load_bundle(world.folder / "old")
    fresh, own_fresh = unseen(rows, champion), unseen(own, champion)
    scores = champion.score_table(own_fresh)
    assert decision.champion_metrics == measure(fresh, scores, config=SETTINGS.model.evaluation)
    assert decision.challenger_metrics != decision.champion_metrics, "equal weights, other features"
    assert "better_than" not in registry.tags(2)
    assert registry.tags(2)["rejected_because"] == "; ".join(decision.reasons)


def test_a_champion_of_features_that_this_release_does_not_compute_leaves_the_choice_to_a_person(world):
    registry = world.registry()
    (info,) = (world.folder / "mlflow-artifacts").rglob("old/snapshot/snapshot.json")
    info.write_text(json.dumps(json.loads(info.read_text()) | {"feature_schema_version": "1.0.0"}))
    seal(info.parents[1])
    decision = decide(
        registry,
        registry.find("v2.0.0"),
        compute_features(random_interactions(SMALL), feed=Feed()),
        evaluated=world.folder / "new",
        missed_gates=[],
        interactions=world.folder / "clean",
        config=SETTINGS,
        now=datetime(2024, 12, 1, tzinfo=UTC),
    )
    (reason,) = decision.reasons
    assert reason.startswith("not compared: the champion v1.0.0 was trained on features")
    assert "feedrank promote v2.0.0 --force" in reason
    assert "# v2.0.0 is **not known to be better** than v1.0.0" in decision.markdown()
    with pytest.raises(PromotionError, match=r"v2\.0\.0 was not found better: not compared"):
        world.promoter().promote("v2.0.0", why="hurry")
    world.promoter().promote("v2.0.0", why="looked at", force=True)
    assert world.champion() == "v2.0.0"


def test_a_challenger_is_not_judged_by_the_files_of_another_model(world):
    registry, new = world.registry(), world.folder / "new"
    metadata = load_bundle(new).metadata.model_copy(update={"model_id": "another"})
    write_metadata(new, metadata)
    seal(new)
    with pytest.raises(DataError, match=r"another is not the one that v2\.0\.0 was evaluated as"):
        decide(
            registry,
            registry.find("v2.0.0"),
            compute_features(random_interactions(SMALL), feed=Feed()),
            evaluated=new,
            missed_gates=[],
            interactions=world.folder / "clean",
            config=SETTINGS,
            now=datetime(2024, 12, 1, tzinfo=UTC),
        )
