"""The registry on a real MLflow database: versions, aliases, and the way of a bundle in and out."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pyarrow as pa
import pytest

from benchmarks.predict_bundle import Size, random_interactions, write_random_bundle
from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.config.model import ModelConfig, RegistryConfig
from feedrank.errors import RegistryError
from feedrank.evaluation.evaluate import Evaluation, GateResult, Metrics, RocCurve
from feedrank.features.offline import compute_features
from feedrank.model.bundle import EPOCHS_FILE, load_bundle, seal
from feedrank.registered_model import VERSION_TAG, next_version
from feedrank.registry import Registry

CONFIG = ModelConfig(embedding_dim=4, hidden_dims=(4,), cross_hidden_dim=3)
SIZE = Size(users=40, items=60, interactions=2_000)
EPOCH = {"epoch": 1, "train_loss": 0.4, "validation_loss": 0.3, "validation_auc": 0.7, "seconds": 1.0}


def evaluation(*, passed: bool) -> Evaluation:
    metrics = Metrics(
        rows=10,
        gauc=0.7,
        gauc_users=5,
        normalized_entropy=0.9,
        auc=0.75,
        log_loss=0.3,
        precision_at_10=float("nan"),
        ndcg_at_10=0.2,
        calibration_error=0,
        users_at_10=0,
    )
    return Evaluation(
        ranker=metrics,
        slices={},
        baselines={"popularity": metrics},
        oracle=metrics,
        gates=[GateResult(name="auc", value=0.75, limit=0.7, passed=passed)],
        roc=RocCurve(fpr=[0, 1], tpr=[0, 1], threshold=[1, 0]),
    )


@pytest.fixture(scope="module")
def made_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = write_random_bundle(tmp_path_factory.mktemp("bundles") / "model", config=CONFIG, size=SIZE)
    (bundle / EPOCHS_FILE).write_text(json.dumps([EPOCH]))
    seal(bundle)
    return bundle


@pytest.fixture(scope="module")
def registry_config(tmp_path_factory: pytest.TempPathFactory) -> RegistryConfig:
    return RegistryConfig(tracking_uri=f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/new/mlflow.db")


@pytest.fixture
def registry(registry_config: RegistryConfig, request: pytest.FixtureRequest) -> Registry:
    """One database for all tests, as its set-up takes seconds; one model name for each."""
    return Registry(registry_config.model_copy(update={"model_name": request.node.name}))


def register(registry: Registry, bundle: Path, tmp_path: Path, *, passed: bool = True):
    folder = tmp_path / "evaluation"
    folder.mkdir(exist_ok=True)
    (folder / "report.html").write_text("<p>good</p>")
    return registry.register(bundle, evaluation_folder=folder, evaluation=evaluation(passed=passed), config=CONFIG)


def test_a_new_database_is_made_without_a_word_of_mlflow(tmp_path):
    config = f"RegistryConfig(tracking_uri='sqlite:///{tmp_path}/mlflow.db')"
    command = [sys.executable, "-c", f"from feedrank.registry import Registry, RegistryConfig; Registry({config})"]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_LOGGING_LEVEL"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    assert (tmp_path / "mlflow.db").exists()
    assert "INFO" not in done.stderr


@pytest.mark.parametrize(
    ("change", "version"),
    [
        ({}, "v1.2.4"),
        ({"config_fingerprint": "other"}, "v1.3.0"),
        ({"feature_fingerprint": "other"}, "v2.0.0"),
        ({"feature_fingerprint": "other", "config_fingerprint": "other"}, "v2.0.0"),
    ],
)
def test_the_version_tells_schema_configuration_and_retraining_apart(made_bundle, change, version):
    previous = load_bundle(made_bundle).metadata.model_copy(update={"model_version": "v1.2.3"})
    assert next_version(previous, previous.model_copy(update=change)) == version
    assert next_version(None, previous) == "v1.0.0"


def test_a_version_of_another_form_is_refused(made_bundle):
    metadata = load_bundle(made_bundle).metadata.model_copy(update={"model_version": "7"})
    with pytest.raises(RegistryError, match=r"'7' is not of the form v1\.2\.3"):
        next_version(metadata, metadata)


def test_the_first_good_version_is_champion_and_the_newest_good_one_challenger(registry, made_bundle, tmp_path):
    failed = register(registry, made_bundle, tmp_path, passed=False)
    first = register(registry, made_bundle, tmp_path)
    second = register(registry, made_bundle, tmp_path)
    assert (failed.model_version, failed.aliases, failed.passed_gates) == ("v1.0.0", (), False)
    assert first.model_version == "v1.0.1"
    assert [v.model_version for v in registry.versions()] == ["v1.0.2", "v1.0.1", "v1.0.0"]
    assert registry.alias("champion") == registry.version(first.number)
    assert registry.alias("challenger") == second
    assert registry.alias("other") is None
    assert {version.number: version for version in registry.versions()}[first.number] == registry.version(first.number)


def test_an_alias_costs_one_request(registry, made_bundle, tmp_path, monkeypatch):
    register(registry, made_bundle, tmp_path)
    register(registry, made_bundle, tmp_path)
    asked: list[str] = []
    for name in ("get_model_version", "search_model_versions", "search_registered_models"):
        monkeypatch.setattr(registry._client, name, lambda *_, name=name, **__: asked.append(name))
    assert registry.alias("challenger").model_version == "v1.0.1"
    assert asked == []


def test_a_version_made_in_mlflow_itself_is_passed_over(registry, made_bundle, tmp_path):
    register(registry, made_bundle, tmp_path)
    mlflow.MlflowClient(registry.config.tracking_uri).create_model_version(registry.config.model_name, str(tmp_path))
    assert [v.model_version for v in registry.versions()] == ["", "v1.0.0"]
    assert register(registry, made_bundle, tmp_path).model_version == "v1.0.1"
    with pytest.raises(RegistryError, match=r"it has v1\.0\.1, v1\.0\.0$"):
        registry.find("v9.0.0")


@pytest.mark.parametrize(
    "tags", [{VERSION_TAG: "v1.0.9"}, {VERSION_TAG: "v1.0.9", "metadata": "{}"}, {VERSION_TAG: "7"}]
)
def test_a_version_with_tags_like_ours_but_no_metadata_is_passed_over_with_a_warning(
    registry, made_bundle, tmp_path, caplog, tags
):
    register(registry, made_bundle, tmp_path)
    client = mlflow.MlflowClient(registry.config.tracking_uri)
    client.create_model_version(registry.config.model_name, str(tmp_path), tags=tags)
    assert register(registry, made_bundle, tmp_path).model_version == "v1.0.1"
    assert f"version 2 of {registry.config.model_name} was not registered by feedrank" in caplog.text


def test_registrations_at_the_same_time_get_versions_of_their_own(registry, made_bundle, tmp_path, monkeypatch):
    """Another process registers between this one's look at the latest version and its own registration."""
    others = [shutil.copytree(made_bundle, tmp_path / name) for name in ("one", "two")]
    quicker, log_run = [], registry._log_run

    def slowly(*arguments: object) -> None:
        if others:
            quicker.append(register(Registry(registry.config), others.pop(), tmp_path))
        log_run(*arguments)

    monkeypatch.setattr(registry, "_log_run", slowly)
    slower = register(registry, made_bundle, tmp_path)
    assert [model.model_version for model in (*quicker, slower)] == ["v1.0.0", "v1.0.1", "v1.0.2"]
    assert [model.model_version for model in registry.versions()] == ["v1.0.2", "v1.0.1", "v1.0.0"]
    assert load_bundle(made_bundle).metadata.model_version == "v1.0.2"
    assert load_bundle(made_bundle).metadata.mlflow_run_id == slower.run_id
    assert registry.alias("challenger") == slower
    assert registry.alias("champion") == registry.find("v1.0.0")


def test_the_bundle_says_its_version_and_comes_back_whole(registry, made_bundle, tmp_path):
    registered = register(registry, made_bundle, tmp_path)
    stamped = load_bundle(made_bundle)
    assert stamped.metadata.model_version == registered.model_version
    assert stamped.metadata.mlflow_run_id == registered.run_id
    assert stamped.metadata.metrics["auc"] == 0.75
    downloaded = load_bundle(registry.download(registered.number, tmp_path / "download"))
    assert downloaded.metadata.model_dump_json() == stamped.metadata.model_dump_json()
    assert downloaded.arrays.keys() == stamped.arrays.keys()
    assert all(np.array_equal(downloaded.arrays[name], stamped.arrays[name]) for name in stamped.arrays)


def test_mlflow_scores_as_the_bundle_does(registry, made_bundle, tmp_path):
    import mlflow

    registered = register(registry, made_bundle, tmp_path)
    features = compute_features(random_interactions(SIZE), feed=Feed()).slice(0, 500)
    rows = features.select([schema.USER_ID, schema.ITEM_ID, *Feed().names]).to_pandas()
    model = mlflow.pyfunc.load_model(f"models:/{registry.config.model_name}/{registered.number}")
    np.testing.assert_array_equal(model.predict(rows), load_bundle(made_bundle).score_table(pa.table(features)))


def test_the_run_keeps_configuration_epochs_metrics_and_report(registry, made_bundle, tmp_path):
    import mlflow

    registered = register(registry, made_bundle, tmp_path)
    client = mlflow.MlflowClient(registry.config.tracking_uri)
    run = client.get_run(registered.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["training.epochs"] == "20"
    assert run.data.metrics["validation_auc"] == 0.7
    assert run.data.metrics["test_auc"] == 0.75
    assert run.data.tags["model_version"] == registered.model_version
    assert [f.path for f in client.list_artifacts(registered.run_id, "evaluation")] == ["evaluation/report.html"]


def test_a_version_goes_with_its_files_unless_it_has_an_alias(registry, made_bundle, tmp_path):
    first, second = (register(registry, made_bundle, tmp_path) for _ in range(2))
    with pytest.raises(RegistryError, match="is champion; move the alias first"):
        registry.delete(registry.version(first.number))
    registry.set_alias("champion", second.number)
    artifacts = Path(registry.config.tracking_uri.removeprefix("sqlite:///")).parent / "mlflow-artifacts"
    before = sum(file.stat().st_size for file in artifacts.rglob("*") if file.is_file())
    freed = registry.delete(registry.version(first.number))
    assert freed >= sum(file.stat().st_size for file in made_bundle.rglob("*") if file.is_file())
    assert sum(file.stat().st_size for file in artifacts.rglob("*") if file.is_file()) == before - freed
    assert [version.number for version in registry.versions()] == [second.number]
    registry.download(second.number, tmp_path / "second")


def test_a_failed_registration_leaves_no_version_and_the_bundle_whole(
    registry, made_bundle, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(registry._client, "log_artifacts", no_space)
    with pytest.raises(OSError, match="No space"):
        register(registry, made_bundle, tmp_path)
    assert registry.versions() == []
    load_bundle(made_bundle)
    monkeypatch.undo()
    assert register(registry, made_bundle, tmp_path).model_version == "v1.0.0"


@pytest.mark.parametrize("address", ["sqlite:///{path}/file/mlflow.db", "http://127.0.0.1:9"])
def test_an_unreachable_registry_is_one_clear_sentence(tmp_path, address, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RegistryError, match=r"can't be reached.*registry\.tracking_uri"):
        Registry(RegistryConfig(tracking_uri=address.format(path=tmp_path)))
