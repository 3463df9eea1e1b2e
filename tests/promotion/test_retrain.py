"""A retraining on a small world: the window, the lock, and a drifted taste that the new model has learnt."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from feedrank import schema, stages
from feedrank.config import Config
from feedrank.config.feed import Feed
from feedrank.config.monitoring import RetrainingConfig
from feedrank.errors import FeedrankError, StorageError
from feedrank.model.bundle import load_bundle
from feedrank.monitoring.reference import load_reference
from feedrank.monitoring.triggers import RetrainingLog
from feedrank.promotion.promote import BETTER_TAG, REJECTED_TAG, Promoter
from feedrank.promotion.retrain import RESULT_FILE, LocalRetrainings, RetrainingResult
from feedrank.promotion.serving_target import LocalTarget
from feedrank.promotion.window import chosen_rows
from feedrank.registry import Registry
from feedrank.tables import US_PER_DAY, date_range, read_partitioned, timestamps_us, write_partitioned

SHIFT = date(2024, 10, 31)


def table_of(days: int, rows_per_day: int) -> pa.Table:
    times = np.arange(days * rows_per_day) * (US_PER_DAY // rows_per_day)
    users = np.arange(len(times)) % 7
    return pa.table({schema.USER_ID: users, schema.TIMESTAMP: pa.array(times).cast(schema.TIMESTAMP_TYPE)})


@pytest.mark.parametrize("replay_share", [0.0, 0.2, 0.5])
def test_the_window_holds_the_wanted_share_of_older_rows(replay_share):
    features = table_of(days=100, rows_per_day=50)
    window = RetrainingConfig(recent_days=20, replay_share=replay_share)
    rows = chosen_rows(features, window=window, seed=1)
    first_recent = 80 * US_PER_DAY
    older = int((timestamps_us(rows) < first_recent).sum())
    taken = pa.array(np.isin(timestamps_us(features), timestamps_us(rows)))
    assert rows.equals(features.filter(taken)), "every row is as it was"
    assert rows.num_rows - older == 20 * 50
    assert older / rows.num_rows == pytest.approx(replay_share, abs=0.01)
    assert timestamps_us(rows)[0] == 0, "the beginning of the history stays"
    assert rows.equals(chosen_rows(features, window=window, seed=1))


def test_a_history_shorter_than_the_window_is_taken_as_it_is():
    features = table_of(days=5, rows_per_day=50)
    assert chosen_rows(features, window=RetrainingConfig(), seed=1).equals(features)


def settings_in(folder: Path, *, min_auc: float = 0.5) -> dict[str, Any]:
    return {
        "data": {
            "generator": {
                "num_users": 400,
                "num_items": 300,
                "num_interactions": 250_000,
                "start_date": "2024-10-08",
                "end_date": "2024-11-12",
                "drifts": [{"kind": "taste_shift", "start_date": str(SHIFT)}],
            },
            "validation": {"history": {"min_days": 40, "window_days": 60}},
        },
        "model": {
            "embedding_dim": 16,
            "hidden_dims": [16],
            "training": {"epochs": 3, "pretraining": {"rank": 8}},
            "evaluation": {"min_impressions_per_user": 2},
            "gates": {"min_auc": min_auc, "max_log_loss": 0.7, "min_precision_at_10": 0.0},
            "registry": {"tracking_uri": f"sqlite:///{folder}/mlflow.db"},
        },
        "monitoring": {
            "retraining": {"recent_days": 7, "replay_share": 0.7},
            "window": {"min_effective_rows": 30},
            "drift": {"engine": "scipy", "k": 1, "m": 1},
        },
        "promotion": {
            "state_directory": f"{folder}/promotion",
            "target": {"directory": f"{folder}/served"},
            "comparison": {"min_clicks": 50, "min_users": 50, "max_latency_ratio": 5},
        },
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("retraining")


@pytest.fixture(scope="module")
def config(folder: Path) -> Config:
    return Config.model_validate(settings_in(folder))


@pytest.fixture(scope="module")
def retrainings(folder: Path, config: Config) -> LocalRetrainings:
    """A champion from before the shift is served; the interactions go on after it, with a gate that nobody passes."""
    before = config.data.generator.model_copy(update={"drifts": ()})
    stages.generate_interactions(folder / "all", config=before)
    old = folder / "old"
    old.mkdir()
    for day in (folder / "all").glob("date=*"):
        if day.name < f"date={SHIFT}":
            (old / day.name).symlink_to(day)
    stages.build_features(old, output=folder / "features", config=config)
    stages.train_ranker(folder / "features", output=folder / "model", config=config)
    stages.evaluate_ranker(folder / "model", folder / "features", output=folder / "evaluation", config=config.model)
    stages.refit_ranker(folder / "model", folder / "features", output=folder / "refitted", gates=config.model.gates)
    stages.register_ranker(folder / "refitted", folder / "evaluation", config=config.model)
    promoter = Promoter(
        connect=lambda: Registry(config.model.registry),
        target=LocalTarget(config.promotion.target),
        directory=config.promotion.state_directory,
    )
    promoter.promote("v1.0.0", why="first")
    stages.generate_interactions(folder / "interactions", config=config.data.generator)
    return LocalRetrainings(
        interactions=folder / "interactions",
        output=folder / "retraining",
        record=RetrainingLog(folder / "monitoring", config=config.monitoring.retraining),
        config=Config.model_validate(settings_in(folder, min_auc=0.95)),
        promoter=promoter,
    )


def test_after_a_taste_shift_the_retrained_model_is_promoted_and_a_repeat_is_not(retrainings, folder):
    now = datetime(2024, 11, 13, tzinfo=UTC)
    trigger = retrainings.record.decide(["the scores drifted"], now=now)
    retrainings.start(trigger)
    result = RetrainingResult.model_validate_json((folder / "retraining" / RESULT_FILE).read_text())
    assert result.promoted, result.decision.reasons
    assert "it misses the gate auc" in result.decision.reasons[-1], "as the champion does on these rows"
    assert not result.decision.passed_gates
    assert retrainings.promoter.target.current_version() == "v1.0.1"
    served, registry = retrainings.promoter.target.link, retrainings.promoter.registry
    assert load_reference(served / "reference").info.model_version == "v1.0.1"
    (*_, record) = retrainings.promoter.log.history()
    assert "the scores drifted" in record.change.why
    assert retrainings.promoter.registry.tags(2)[BETTER_TAG] == "v1.0.0"
    assert [event.event for event in retrainings.record.events()] == ["requested", "began", "finished"]
    features = read_partitioned(folder / "retraining" / "features")
    assert date_range(features)[1] == date(2024, 11, 12)
    metadata = load_bundle(served.resolve()).metadata
    assert metadata.last_row == features[schema.TIMESTAMP][-1].as_py(), "what is served knows the latest row"
    assert metadata == registry.find("v1.0.1").metadata, "and is what is registered"

    retrainings.start(trigger)
    again = RetrainingResult.model_validate_json((folder / "retraining" / RESULT_FILE).read_text())
    assert not again.promoted, "the champion was fitted on all of these rows"
    assert "only 0 rows" in registry.tags(3)[REJECTED_TAG]
    assert retrainings.promoter.target.current_version() == "v1.0.1"
    with pytest.raises(FeedrankError, match="was not found better: it misses the gate auc"):
        retrainings.promoter.promote("v1.0.2", why="anyway")


def test_only_one_retraining_runs_and_a_failed_one_is_recorded(retrainings, tmp_path):
    record = RetrainingLog(tmp_path, config=retrainings.config.monitoring.retraining)
    broken = LocalRetrainings(
        interactions=tmp_path / "none",
        output=tmp_path / "retraining",
        record=record,
        config=retrainings.config,
        promoter=retrainings.promoter,
    )
    trigger = record.decide(["test"], now=datetime.now(UTC))
    with record.running("other", clock=lambda: datetime.now(UTC)), pytest.raises(StorageError):
        broken.start(trigger)
    with pytest.raises(FeedrankError):
        broken.start(trigger)
    assert record.events()[-1].outcome.startswith("failed: ")
    assert not record.decide(["again"], now=datetime.now(UTC)).start, "the cool-down holds"


def drifted_predictions(features: pa.Table, directory: Path) -> None:
    """A prediction log of the rows with an item feature that left its old range, and users of long ago."""
    moved = {"item_popularity": 3.0, "recency_score": -1.0}
    shifted = [
        pa.array(features[name].to_numpy() + moved.get(name, 0)).cast(field.type)
        for name, field in zip(Feed().names, Feed().fields, strict=True)
    ]
    rows = features.num_rows
    columns = {
        schema.PREDICTION_ID: [str(row) for row in range(rows)],
        schema.TIMESTAMP: pa.array(timestamps_us(features) - 2_000_000).cast(schema.TIMESTAMP_TYPE),
        schema.RECEIVED_AT: pa.array(timestamps_us(features) - 2_000_000).cast(schema.TIMESTAMP_TYPE),
        schema.USER_ID: features[schema.USER_ID],
        schema.ITEM_ID: features[schema.ITEM_ID],
        schema.SCORE: np.full(rows, 0.1, dtype=np.float32),
        schema.RANK: np.ones(rows, dtype=np.int16),
        schema.MODEL_VERSION: ["v1.0.1"] * rows,
        schema.LATENCY_MS: np.full(rows, 5.0, dtype=np.float32),
        schema.FEATURES_STRUCT: pa.StructArray.from_arrays(shifted, fields=list(Feed().fields)),
    }
    write_partitioned(pa.table(columns, schema=Feed().log), directory)


def test_the_monitoring_pipeline_alerts_and_runs_the_retraining_pipeline(retrainings, folder):
    from pipelines.local import run_local

    features = read_partitioned(folder / "retraining" / "history", start=date(2024, 11, 11))
    drifted_predictions(features, folder / "predictions")
    run = run_local(
        "monitoring_and_drift_detection",
        root=folder,
        parameters={
            "predictions": str(folder / "predictions"),
            "feedback": str(folder / "interactions"),
            "input_paths": [str(folder / "interactions")],
            "monitoring_directory": str(folder / "watched"),
            "at": "2024-11-13T00:00:00+00:00",
            "config_overrides": settings_in(folder),
        },
    )
    assert "item_popularity" in run.artifacts["monitoring_report"].read_text()
    assert {"load-reference", "monitor", "check-trigger", "choose-window", "train", "promote"} <= set(run.task_seconds)
    events = RetrainingLog(folder / "watched", config=retrainings.config.monitoring.retraining).events()
    assert [event.event for event in events] == ["requested", "finished"]
    newest = retrainings.promoter.registry.versions()[0]
    assert newest.model_version in run.artifacts["decision"].read_text()


def test_a_monitor_that_can_not_judge_leaves_its_report_and_fails_with_the_reason(retrainings, folder):
    from pipelines.local import run_local

    now = datetime(2024, 11, 13, tzinfo=UTC)
    features = read_partitioned(folder / "features").slice(0, 3)
    column = features.schema.get_field_index(schema.TIMESTAMP)
    times = pa.array([now - timedelta(hours=2)] * features.num_rows, schema.TIMESTAMP_TYPE)
    drifted_predictions(features.set_column(column, schema.TIMESTAMP, times), folder / "hardly anybody asked")
    parameters = {
        "predictions": str(folder / "hardly anybody asked"),
        "feedback": str(folder / "interactions"),
        "input_paths": [str(folder / "interactions")],
        "monitoring_directory": str(folder / "unwatched"),
        "at": now.isoformat(),
        "config_overrides": settings_in(folder),
    }
    with pytest.raises(FeedrankError, match=r"too few users for a verdict \(\d users, 3 predictions\)"):
        run_local("monitoring_and_drift_detection", root=folder / "unjudged", parameters=parameters)
    (report,) = (folder / "unjudged" / "pipelines").glob("*/monitor/monitoring_report")
    assert "not enough data" in report.read_text()
