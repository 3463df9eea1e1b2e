"""A feed that declares every form at once is trained, evaluated, served, logged beside another model and monitored."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.small_data import GENERATOR, interactions, small_model
from feedrank import schema, stages
from feedrank.config import Config
from feedrank.config.feed import Feed
from feedrank.config.monitoring import MonitoringConfig
from feedrank.config.serving import LogConfig
from feedrank.features.online import online_features
from feedrank.features.snapshot import take_snapshot
from feedrank.model.bundle import ModelBundle, feature_matrix, load_bundle
from feedrank.model.lineage import UNREGISTERED_VERSION
from feedrank.monitoring.rows import Sources
from feedrank.monitoring.run import monitor
from feedrank.prediction_log import PredictionLog, read_log
from feedrank.scoring import Scorer
from feedrank.tables import US_PER_DAY, timestamps_us, write_partitioned
from tests.feeds import EVERY_FORM

SERVED_DAYS = 3


@pytest.fixture(scope="module", params=["two_tower", "deep_mlp"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    config = Config(feed=EVERY_FORM, model=small_model(request.param, training={"epochs": 3}))
    write_partitioned(interactions(), folder / "interactions")
    stages.build_features(folder / "interactions", output=folder / "features", config=config)
    stages.train_ranker(folder / "features", output=folder / "model", config=config)
    stages.evaluate_ranker(
        folder / "model", folder / "features", output=folder / "evaluation", config=config.model, truth=GENERATOR
    )
    return folder


@pytest.fixture
def bundle(run: Path) -> ModelBundle:
    return load_bundle(run / "model")


def last_days(count: int) -> list[int]:
    return np.unique(timestamps_us(interactions()) // US_PER_DAY)[-count:].tolist()


def midnight(day: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)


def test_the_evaluation_knows_what_is_declared(run: Path, bundle: ModelBundle) -> None:
    evaluation = stages.load_evaluation(run / "evaluation")
    assert bundle.feed == EVERY_FORM
    assert set(EVERY_FORM.names) - {"on_mobile"} < set(evaluation.importance)
    assert "item_ctr" in evaluation.baselines
    assert "popularity" not in evaluation.baselines, "no feature counts an item's impressions"
    assert set(evaluation.slices) == {"new_users", "known_users", "new_items", "known_items", "on_mobile"}


def test_what_is_served_is_what_is_judged(run: Path, bundle: ModelBundle) -> None:
    test = stages.load_features(run / "features")[3]
    days = timestamps_us(test) // US_PER_DAY
    day = last_days(1)[0]
    rows = np.flatnonzero(days == day)
    scorer = Scorer.build(bundle, take_snapshot(interactions(), cutoff=midnight(day), feed=EVERY_FORM))
    served = [
        scorer.rank(
            test[schema.USER_ID][row].as_py(), [test[schema.ITEM_ID][row].as_py()],
            time_us=int(timestamps_us(test)[row]), device=0 if test["on_mobile"][row].as_py() else 1,
        )
        for row in rows.tolist()
    ]  # fmt: skip
    asked = test.take(pa.array(rows))
    features = np.concatenate([ranking.features() for ranking in served])
    np.testing.assert_allclose(features, feature_matrix(asked, EVERY_FORM), rtol=3e-7, atol=0)
    scores = np.concatenate([ranking.scores for ranking in served])
    np.testing.assert_allclose(scores, bundle.score_table(asked), atol=1e-5)


def test_a_request_of_many_items_has_the_features_that_the_definitions_give(bundle: ModelBundle) -> None:
    scorer, rng = Scorer.build(bundle, bundle.snapshot), np.random.default_rng(0)
    for user in range(0, 310, 10):
        items = rng.choice(520, 40, replace=False)
        time_us = bundle.snapshot.cutoff_us + int(rng.integers(0, 2 * US_PER_DAY))
        ranking = scorer.rank(user, items, time_us=time_us, device=user % 3)
        expected = online_features(
            bundle.snapshot, user_id=user, item_ids=ranking.item_ids, time_us=time_us, device=user % 3
        )
        np.testing.assert_allclose(ranking.features(), expected, rtol=3e-7, atol=0)


def test_models_of_two_declarations_share_a_log_and_each_is_monitored(
    run: Path, bundle: ModelBundle, tmp_path: Path
) -> None:
    """As a promotion goes: the first days are of a model of the default declaration."""
    default = tmp_path / "default"
    config = Config(model=small_model(training={"epochs": 1}))
    stages.build_features(run / "interactions", output=default / "features", config=config)
    stages.train_ranker(default / "features", output=default / "model", config=config)
    log = PredictionLog(LogConfig(directory=str(tmp_path / "log"), spool_directory=tmp_path / "spool"))
    days = last_days(SERVED_DAYS)
    for day in days:
        served = load_bundle(default / "model") if day == days[0] else bundle
        scorer = Scorer.build(served, take_snapshot(interactions(), cutoff=midnight(day), feed=served.feed))
        version = "v0.9.0" if day == days[0] else UNREGISTERED_VERSION
        of_day = interactions().filter(pa.array(timestamps_us(interactions()) // US_PER_DAY == day))
        for user, item, time_us in zip(
            of_day[schema.USER_ID].to_pylist(), of_day[schema.ITEM_ID].to_pylist(), timestamps_us(of_day), strict=True
        ):
            asked = scorer.rank(user, [item], time_us=int(time_us) - 1_000_000, device=0)
            log.record(asked, received_us=asked.time_us, model_version=version, latency_ms=0.1)
    status = log.close(timeout_seconds=60)
    assert (status.error, status.rows_pending, status.files_damaged) == (None, 0, 0)
    logged = read_log(tmp_path / "log")
    assert {field.name for field in logged.schema.field("features").type} == {*Feed().names, *EVERY_FORM.names}
    for row in logged.select([schema.MODEL_VERSION, schema.FEATURES_STRUCT]).to_pylist():
        names = Feed().names if row[schema.MODEL_VERSION] == "v0.9.0" else EVERY_FORM.names
        assert {name for name, value in row[schema.FEATURES_STRUCT].items() if value is not None} == set(names)
    result = monitor(
        reference_directory=bundle.reference_directory,
        sources=Sources(predictions=tmp_path / "log", feedback=run / "interactions"),
        output=tmp_path / "monitoring", config=MonitoringConfig(), now=midnight(days[-1] + 1), channels=(),
    )  # fmt: skip
    signals = {signal.name for window in result.windows for signal in window.signals}
    assert set(EVERY_FORM.names) < signals
    assert not set(Feed().names) - set(EVERY_FORM.names) & signals
