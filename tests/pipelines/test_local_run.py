"""The pipelines as they run on one machine: data to a registered model, again, and stopped by bad data."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from feedrank import schema, stages
from feedrank.config.feed import Feed
from feedrank.errors import ConfigError, FeedrankError
from feedrank.features.snapshot import load_snapshot
from feedrank.model.bundle import load_bundle
from feedrank.registry import Registry, RegistryConfig
from feedrank.tables import read_partitioned
from pipelines.local import LocalRun, run_local

SMALL = {
    "data.generator.num_users": 2_000,
    "data.generator.num_items": 600,
    "data.generator.num_interactions": 20_000,
    "data.generator.start_date": "2024-10-01",
    "model.embedding_dim": 16,
    "model.hidden_dims": [16],
    "model.training.epochs": 1,
    "model.gates.min_auc": 0.0,
    "model.gates.max_log_loss": 10.0,
    "model.gates.min_precision_at_10": 0.0,
    # After one epoch on so few rows the two fits differ much.
    "model.gates.max_refit_log_loss_rise": 1.0,
    "model.gates.max_refit_bias": 10.0,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def overrides(root: Path) -> dict[str, object]:
    return {**SMALL, "model.registry.tracking_uri": f"sqlite:///{root}/mlflow.db"}


@pytest.fixture(scope="module")
def steps() -> list[str]:
    return []


@pytest.fixture(scope="module")
def whole_run(root: Path, overrides: dict[str, object], steps: list[str]) -> LocalRun:
    return run_local(
        "etl_and_feature_engineering", root=root, parameters={"config_overrides": overrides}, on_step=steps.append
    )


def test_a_run_leads_from_data_to_a_registered_model(whole_run, root, steps):
    artifacts = whole_run.artifacts
    assert read_partitioned(artifacts["interactions"]).num_rows == SMALL["data.generator.num_interactions"]
    assert read_partitioned(artifacts["features"]).schema.names == Feed().table.names
    assert load_snapshot(artifacts["features"] / "snapshot")
    evaluation = stages.load_evaluation(artifacts["evaluation"])
    assert evaluation.oracle is not None, "the interactions were generated, so their truth is known"
    assert {gate.name for gate in evaluation.gates} == {"auc", "log_loss", "precision_at_10"}
    assert load_bundle(artifacts["refitted"]).metadata.model_version == "v1.0.0"
    for report in ("validation_report", "evaluation_report"):
        assert "<html" in artifacts[report].read_text()
    (registered,) = Registry(RegistryConfig(tracking_uri=f"sqlite:///{root}/mlflow.db")).versions()
    assert registered.passed_gates == evaluation.passed == bool(registered.aliases)
    assert registered.run_id in artifacts["registration"].read_text()
    assert whole_run.task_seconds.keys() == {
        *("generate-or-ingest", "validate", "require", "compute-features"),
        *("train", "evaluate", "refit", "register", "require-2"),
    }
    assert any(step.startswith("epoch 1: ") for step in steps)


def test_training_again_on_the_same_features_is_a_new_version(whole_run, root, overrides):
    parameters = {
        "features_uri": str(whole_run.artifacts["features"]),
        "synthetic": True,
        "config_overrides": overrides,
    }
    again = run_local("model_training", root=root, parameters=parameters)
    first, second = (load_bundle(run.artifacts["refitted"]) for run in (whole_run, again))
    assert second.metadata.model_version == "v1.0.1"
    assert second.metadata.model_id == first.metadata.model_id, "same data, same configuration, same seed"
    scores = [stages.load_evaluation(run.artifacts["evaluation"]).ranker for run in (whole_run, again)]
    assert scores[0] == scores[1]


def test_a_model_that_misses_its_gates_is_registered_without_an_alias_and_fails_the_run(whole_run, root, overrides):
    parameters = {
        "features_uri": str(whole_run.artifacts["features"]),
        "synthetic": True,
        "config_overrides": {**overrides, "model.gates.min_auc": 0.99},
    }
    registry = Registry(RegistryConfig(tracking_uri=f"sqlite:///{root}/mlflow.db"))
    before = {version.model_version for version in registry.versions()}
    with pytest.raises(FeedrankError, match=r"the model missed its gates: auc 0\.\d+ \(limit 0\.99\)"):
        run_local("model_training", root=root, parameters=parameters)
    (added,) = [version for version in registry.versions() if version.model_version not in before]
    assert not added.passed_gates and not added.aliases


def test_bad_data_stops_before_training_with_the_reason(whole_run, tmp_path, overrides):
    day = next(whole_run.artifacts["interactions"].glob("date=*"))
    table = pq.read_table(next(day.glob("*.parquet")), partitioning=None)
    broken = table.set_column(table.column_names.index(schema.LIKE), schema.LIKE, [[1] * table.num_rows])
    pq.write_table(broken, tmp_path / "mine.parquet")
    parameters = {"input_paths": [str(tmp_path / "mine.parquet")], "config_overrides": overrides}
    with pytest.raises(FeedrankError, match=r"the batch failed validation: .*rows are bad"):
        run_local("etl_and_feature_engineering", root=tmp_path / "runs", parameters=parameters)
    assert {path.parent.name for path in (tmp_path / "runs").glob("pipelines/*/*/*")} == {
        "generate-or-ingest",
        "validate",
    }
    (outputs,) = (tmp_path / "runs").glob("pipelines/*/validate")
    assert "like_needs_click" in (outputs / "validation_report").read_text(), "KFP uploads it: the task succeeded"
    written = json.loads((outputs / "executor_output.json").read_text())
    assert written["artifacts"]["validation_metrics"]["artifacts"][0]["metadata"]["bad_share"] > 0.5
    assert str(outputs / "validated" / "report.html") in written["parameterValues"]["verdict"]


def test_the_log_of_a_task_begins_and_ends_with_what_a_person_needs(whole_run, tmp_path, overrides):
    with pytest.raises(FeedrankError):
        run_local("model_training", root=tmp_path, parameters={"features_uri": str(tmp_path), "synthetic": False})
    said = {}
    for log in (whole_run.log, tmp_path / "pipelines" / "model_training.log"):
        for part in log.read_text().split("Streamed logs:")[1:]:
            name = re.search(r"/([a-z0-9-]+)/executor_output.json", part)
            _, _, own = part.partition("\n    }\n")  # KFP prints what the task was given
            lines = [line.strip() for line in own.partition("- Task")[0].splitlines()[:-1] if line.strip()]
            said[name[1] if name else ""] = lines
    assert said.keys() == whole_run.task_seconds.keys()
    for lines in said.values():
        assert all(line.startswith(("feedrank: ", "error: ")) for line in lines), lines
        assert len(lines) >= 2
    assert said["validate"][0].startswith("feedrank: validates /")
    assert said["validate"][-1].startswith("feedrank: the batch passed: ")
    assert said["train"] == [f"feedrank: trains on {tmp_path}", said["train"][1]], "no traceback for our own errors"
    assert said["train"][1].startswith("error: ")
    assert said["evaluate"][-1].startswith("feedrank: AUC ")


def test_a_data_date_that_is_none_is_named(tmp_path, overrides):
    parameters = {"data_date": "2024-13-01", "config_overrides": overrides}
    with pytest.raises(FeedrankError, match="data_date: '2024-13-01' is no date; expected YYYY-MM-DD"):
        run_local("etl_and_feature_engineering", root=tmp_path, parameters=parameters)


def test_a_wrong_name_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match="no pipeline 'etl'; there are etl_and_feature_engineering"):
        run_local("etl", root=tmp_path, parameters={})
    with pytest.raises(ConfigError, match="no parameter 'inputs'; its parameters are input_paths"):
        run_local("etl_and_feature_engineering", root=tmp_path, parameters={"inputs": []})
    with pytest.raises(ConfigError, match="the parameter 'features_uri' is missing"):
        run_local("model_training", root=tmp_path, parameters={})
    assert not any(tmp_path.iterdir())
