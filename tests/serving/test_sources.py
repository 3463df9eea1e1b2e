"""Where models come from: folders, links and a real MLflow registry."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from feedrank.errors import BundleError, RegistryError
from feedrank.model.bundle import load_bundle
from serving.sources import FolderSource, RegistrySource, SnapshotSource, find_bundle


def test_a_folder_changes_when_its_content_does(models: dict[str, Path], tmp_path: Path):
    folder = tmp_path / "model"
    shutil.copytree(models["v1.0.0"], folder)
    source = FolderSource(folder)
    first = source.revision()
    assert source.revision() == first
    shutil.rmtree(folder)
    shutil.copytree(models["v1.0.1"], folder)
    assert source.revision().key != first.key


def test_a_bundle_is_found_below_a_folder_and_through_a_link(models: dict[str, Path], tmp_path: Path):
    outer = tmp_path / "downloaded" / "artifacts"
    shutil.copytree(models["v1.0.0"], outer / "model")
    link = tmp_path / "champion"
    link.symlink_to(tmp_path / "downloaded")
    assert FolderSource(link).revision().directory == outer / "model"
    shutil.copytree(models["v1.0.1"], outer / "other")
    with pytest.raises(BundleError, match="2 model bundles"):
        find_bundle(tmp_path / "downloaded")
    with pytest.raises(BundleError, match="no model bundle"):
        FolderSource(tmp_path / "nowhere").revision()


def test_a_snapshot_comes_from_a_folder_or_a_uri(models: dict[str, Path], tmp_path: Path):
    folder = models["v1.0.0"] / "snapshot"
    assert SnapshotSource(str(folder), tmp_path).revision().directory == folder
    fetched = SnapshotSource(f"file://{folder}", tmp_path).revision()
    assert {f.name for f in fetched.directory.iterdir()} == {f.name for f in folder.iterdir()}
    assert SnapshotSource(f"file://{folder}", tmp_path).revision() == fetched
    for missing in (str(tmp_path / "nowhere"), f"file://{tmp_path}/nowhere"):
        assert SnapshotSource(missing, tmp_path).revision() is None, "none was published yet"
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="file: the snapshot can't be read"):
        SnapshotSource(str(tmp_path / "file"), tmp_path).revision()


@pytest.fixture
def registry(tmp_path: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of an MLflow registry with four versions of a model `ranker`: v1.0.0, v1.0.1, and both again."""
    import mlflow

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.create_experiment("feedrank", artifact_location=(tmp_path / "artifacts").as_uri())
    client.create_registered_model("ranker")
    for version in ("v1.0.0", "v1.0.1") * 2:
        run = client.create_run(experiment)
        client.log_artifacts(run.info.run_id, str(models[version]), "model/data")
        client.create_model_version("ranker", f"{run.info.artifact_uri}/model", run.info.run_id)
    return client


def test_an_alias_of_the_registry_is_followed(registry: Any, tmp_path: Path) -> None:
    uri, cache = registry.tracking_uri, tmp_path / "cache"
    source = RegistrySource("models:/ranker@champion", uri, cache, keep=2)
    with pytest.raises(RegistryError, match="models:/ranker@champion: can't be fetched"):
        source.revision()
    keys = []
    for number, version in enumerate(("v1.0.0", "v1.0.1"), start=1):
        registry.set_registered_model_alias("ranker", "champion", str(number))
        revision = source.revision()
        assert load_bundle(revision.directory).metadata.model_version == version
        keys.append(revision.key)
    assert [key.partition(":")[0] for key in keys] == ["ranker/1", "ranker/2"]
    shutil.rmtree(tmp_path / "artifacts")  # what was fetched is not fetched again
    assert RegistrySource("models:/ranker/1", uri, cache, keep=2).revision().key.startswith("ranker/1:")


def test_the_versions_of_a_registry_that_were_wanted_last_stay_in_the_cache(registry: Any, tmp_path: Path) -> None:
    source = RegistrySource("models:/ranker@champion", registry.tracking_uri, tmp_path / "cache", keep=2)
    for number in ("1", "2", "1", "3"):  # a rollback to 1, and 3 after it
        registry.set_registered_model_alias("ranker", "champion", number)
        source.revision()
    folder = tmp_path / "cache" / "ranker"
    assert {path.name for path in folder.glob("[!.]*")} == {"1", "3"}
    (folder / ".2.gone").mkdir()  # a removal that was cut off
    registry.set_registered_model_alias("ranker", "champion", "4")
    source.revision()
    assert {path.name for path in folder.glob("[!.]*")} == {"3", "4"}
    assert not (folder / ".2.gone").exists()
