"""The model registry: MLflow runs, versions and the aliases `champion` and `challenger`.

A model version's bundle is the artifact folder `bundle` of its run; `data` of an MLflow pyfunc model whose loader is
this module, so that MLflow can score with it and nothing is pickled.
"""

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from feedrank import mlflow_settings, schema, storage
from feedrank.config.model import ModelConfig, RegistryConfig
from feedrank.data.links import link_tree
from feedrank.errors import RegistryError
from feedrank.evaluation.evaluate import Evaluation
from feedrank.features.snapshot import load_info
from feedrank.model.bundle import (
    EPOCHS_FILE,
    METADATA_FILE,
    REFERENCE_FOLDER,
    SNAPSHOT_FOLDER,
    ModelMetadata,
    load_bundle,
    seal,
    write_metadata,
)
from feedrank.monitoring.reference import INFO_FILE, ReferenceInfo
from feedrank.registered_model import METADATA_TAG, VERSION_TAG, RegisteredModel, next_version, registered

CHAMPION, CHALLENGER = "champion", "challenger"
BUNDLE_ARTIFACT, EVALUATION_ARTIFACT = "model", "evaluation"
NO_ALIAS = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""MLflow's errors if it has no such model, or the model no such alias."""
LOG = logging.getLogger(__name__)


class Registry:
    """One registered model of one MLflow server or database."""

    def __init__(self, config: RegistryConfig) -> None:
        """Connects to `config.tracking_uri`.

        Raises:
            RegistryError: it can't be reached.
        """
        mlflow_settings.set_defaults()
        import mlflow

        self.config = config
        try:
            if config.tracking_uri.startswith("sqlite:///"):
                Path(config.tracking_uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
            self._client = mlflow.MlflowClient(tracking_uri=config.tracking_uri)
            self._experiment_id = self._experiment()
        except Exception as error:
            raise RegistryError(
                f"MLflow at {config.tracking_uri} can't be reached ({error}); "
                "check model_config.yaml: registry.tracking_uri"
            ) from error

    def register(
        self, bundle: Path, *, evaluation_folder: Path, evaluation: Evaluation, config: ModelConfig
    ) -> RegisteredModel:
        """Logs a trained and evaluated bundle as a run and registers it.

        The bundle's metadata receive the version, the run and the metrics. A version that passes its gates becomes
        the challenger, the first such one also the champion; later ones are promoted when they win the comparison.
        Of registrations at the same time, one that finds its version taken takes the next.
        """
        number = None
        while number is None:
            number = self._try_to_register(bundle, evaluation_folder, evaluation, config)
        if evaluation.passed:
            self._client.set_registered_model_alias(self.config.model_name, CHALLENGER, str(number))
            if self.alias(CHAMPION) is None:
                self._client.set_registered_model_alias(self.config.model_name, CHAMPION, str(number))
        return self.version(number)

    def _try_to_register(
        self, bundle: Path, evaluation_folder: Path, evaluation: Evaluation, config: ModelConfig
    ) -> int | None:
        """The number in MLflow; None if another registration has taken the version since the latest was read.

        MLflow gives each number once, in order, so the lowest one of a version is the one that has it.
        """
        previous = self._latest_metadata()
        metadata = load_bundle(bundle).metadata
        run = self._client.create_run(self._experiment_id)
        metadata = metadata.model_copy(
            update={
                "model_version": next_version(previous, metadata),
                "mlflow_run_id": run.info.run_id,
                "metrics": _headline(evaluation),
            }
        )
        try:
            _stamp(bundle, metadata)
            self._log_run(run.info.run_id, bundle, evaluation_folder, evaluation, config)
            number = self._create_version(run.info.run_id, bundle, metadata, evaluation)
            is_mine = self.find(metadata.model_version).number == number
            if not is_mine:
                self._client.delete_model_version(self.config.model_name, str(number))
        except BaseException:
            self._client.set_terminated(run.info.run_id, status="FAILED")
            raise
        self._client.set_terminated(run.info.run_id, status="FINISHED" if is_mine else "KILLED")
        return number if is_mine else None

    def _experiment(self) -> str:
        existing = self._client.get_experiment_by_name(self.config.experiment)
        if existing is not None:
            return str(existing.experiment_id)
        return str(self._client.create_experiment(self.config.experiment, artifact_location=self._artifact_location()))

    def _artifact_location(self) -> str | None:
        """Beside the database when there is no server; a server chooses its own."""
        if not self.config.tracking_uri.startswith("sqlite:///"):
            return None
        database = Path(self.config.tracking_uri.removeprefix("sqlite:///")).resolve()
        return (database.parent / "mlflow-artifacts").as_uri()

    def _log_run(
        self, run_id: str, bundle: Path, evaluation_folder: Path, evaluation: Evaluation, config: ModelConfig
    ) -> None:
        for name, value in _flat(config.model_dump(mode="json")).items():
            self._client.log_param(run_id, name, value)
        metadata = ModelMetadata.model_validate_json((bundle / METADATA_FILE).read_text(encoding="utf-8"))
        for tag in ("model_version", "data_fingerprint", "config_fingerprint", "feature_schema_version", "git_commit"):
            self._client.set_tag(run_id, tag, getattr(metadata, tag))
        for epoch in json.loads((bundle / EPOCHS_FILE).read_text(encoding="utf-8")):
            for name in ("train_loss", "validation_loss", "validation_auc"):
                self._client.log_metric(run_id, name, epoch[name], step=epoch["epoch"])
        for name, value in evaluation.ranker.model_dump().items():
            self._client.log_metric(run_id, f"test_{name}", value)
        if evaluation.oracle_share is not None:
            self._client.log_metric(run_id, "test_oracle_share", evaluation.oracle_share)
        self._client.log_artifacts(run_id, str(evaluation_folder), EVALUATION_ARTIFACT)

    def _create_version(self, run_id: str, bundle: Path, metadata: ModelMetadata, evaluation: Evaluation) -> int:
        import mlflow
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        ids = [ColSpec("long", schema.USER_ID), ColSpec("long", schema.ITEM_ID)]
        fields = load_info(bundle / SNAPSHOT_FOLDER).feed.fields
        kinds = {field.name: "float" if pa.types.is_floating(field.type) else "integer" for field in fields}
        inputs = Schema([*ids, *(ColSpec(kind, name) for name, kind in kinds.items())])
        mlflow.set_tracking_uri(self.config.tracking_uri)
        with warnings.catch_warnings(), mlflow.start_run(run_id=run_id, log_system_metrics=False):
            warnings.filterwarnings("ignore", message=".*input example", category=UserWarning)  # the signature is given
            logged = mlflow.pyfunc.log_model(
                name=BUNDLE_ARTIFACT,
                loader_module="feedrank.registry",
                data_path=str(bundle),
                signature=ModelSignature(inputs, Schema([ColSpec("float")])),
                pip_requirements=["feedrank"],
            )
        if not self._client.search_registered_models(f"name='{self.config.model_name}'"):
            self._client.create_registered_model(self.config.model_name)
        tags = {
            VERSION_TAG: metadata.model_version,
            "passed_gates": str(evaluation.passed).lower(),
            METADATA_TAG: metadata.model_dump_json(),
        }
        version = self._client.create_model_version(
            self.config.model_name, logged.model_uri, run_id=run_id, tags=tags, model_id=logged.model_id
        )
        return int(version.version)

    def versions(self) -> list[RegisteredModel]:
        """All versions, the newest first.

        Raises:
            RegistryError: MLflow can't be reached.
        """
        of_model = f"name='{self.config.model_name}'"
        with self._asking("the versions can't be read"):
            if not (models := self._client.search_registered_models(of_model)):
                return []
            page = self._client.search_model_versions(of_model)
            found = list(page)
            while page.token:
                page = self._client.search_model_versions(of_model, page_token=page.token)
                found += page
        aliases: dict[int, list[str]] = {}
        for alias, number in models[0].aliases.items():
            aliases.setdefault(int(number), []).append(alias)
        versions = [registered(version, aliases.get(int(version.version), [])) for version in found]
        return sorted(versions, key=lambda version: -version.number)

    def version(self, number: int) -> RegisteredModel:
        """One version by MLflow's running number."""
        version = self._client.get_model_version(self.config.model_name, str(number))
        return registered(version, version.aliases)

    def alias(self, alias: str) -> RegisteredModel | None:
        """The version with an alias; None if there is none.

        Raises:
            RegistryError: MLflow can't be reached.
        """
        from mlflow.exceptions import MlflowException

        with self._asking(f"the alias {alias} can't be read"):
            try:
                version = self._client.get_model_version_by_alias(self.config.model_name, alias)
            except MlflowException as error:
                if error.error_code in NO_ALIAS:
                    return None
                raise
            return registered(version, version.aliases)

    def download(self, number: int, directory: Path) -> Path:
        """Copies a version's bundle below `directory` and returns its folder."""
        import mlflow

        mlflow.set_tracking_uri(self.config.tracking_uri)
        uri = f"models:/{self.config.model_name}/{number}"
        folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(directory)))
        return bundle_below(folder)

    def find(self, model_version: str) -> RegisteredModel:
        """The version such as v1.2.3.

        Raises:
            RegistryError: there is none.
        """
        versions = self.versions()
        found = next((version for version in reversed(versions) if version.model_version == model_version), None)
        if found is None:
            known = ", ".join(version.model_version for version in versions if version.model_version) or "none"
            raise RegistryError(f"{self.config.model_name} has no version {model_version}; it has {known}")
        return found

    def set_alias(self, alias: str, number: int | None) -> None:
        """Moves an alias to a version, or takes it away.

        Raises:
            RegistryError: MLflow refuses, or can't be reached.
        """
        with self._asking(f"the alias {alias} can't be moved to version {number}"):
            if number is None:
                self._client.delete_registered_model_alias(self.config.model_name, alias)
            else:
                self._client.set_registered_model_alias(self.config.model_name, alias, str(number))

    def set_tag(self, number: int, key: str, value: str) -> None:
        """Sets a tag of a version.

        Raises:
            RegistryError: MLflow refuses, or can't be reached.
        """
        with self._asking(f"version {number} can't be tagged with {key}"):
            self._client.set_model_version_tag(self.config.model_name, str(number), key, value)

    def tags(self, number: int) -> dict[str, str]:
        """All tags of a version.

        Raises:
            RegistryError: there is no such version, or MLflow can't be reached.
        """
        with self._asking(f"version {number} can't be read"):
            return dict(self._client.get_model_version(self.config.model_name, str(number)).tags)

    def delete(self, version: RegisteredModel) -> int:
        """Removes a version, its run and their artifacts, and returns the artifacts' bytes; may be called again.

        Raises:
            RegistryError: it has an alias, or MLflow can't be reached.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        name, number = self.config.model_name, str(version.number)
        with self._asking(f"version {number} can't be removed"):
            found = self._client.get_model_version(name, number)
            if found.aliases:
                raise RegistryError(f"version {number} of {name} is {', '.join(found.aliases)}; move the alias first")
            places = [self._client.get_run(version.run_id).info.artifact_uri]
            source = found.source or ""
            if source.startswith("models:/"):
                logged = self._client.get_logged_model(source.removeprefix("models:/"))
                places.append(logged.artifact_location)
            artifacts = [get_artifact_repository(uri, tracking_uri=self.config.tracking_uri) for uri in places]
            freed = sum(_size(repository) for repository in artifacts)
            for repository in artifacts:
                repository.delete_artifacts()
            self._client.delete_model_version(name, number)
            self._client.delete_run(version.run_id)
        return freed

    def logged_bundles(self) -> list[tuple[str, Any]]:
        """A name, and MLflow's repository of the artifacts, of every model that was logged, be it a version or not.

        Raises:
            RegistryError: MLflow can't be reached.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        versions = {version.run_id: version.model_version for version in self.versions()}
        with self._asking("the logged models can't be listed"):
            page = self._client.search_logged_models([self._experiment_id])
            models = list(page)
            while page.token:
                page = self._client.search_logged_models([self._experiment_id], page_token=page.token)
                models += page
            uri = self.config.tracking_uri
            return [
                (
                    f"{versions.get(model.source_run_id or '') or 'no version'}, {model.model_id}",
                    get_artifact_repository(model.artifact_location, tracking_uri=uri),
                )
                for model in models
            ]

    def add_file(self, run_id: str, name: str, text: str) -> None:
        """Adds a text file to the artifacts of a version's run.

        Raises:
            RegistryError: MLflow refuses, or can't be reached.
        """
        with self._asking(f"{name} can't be stored with run {run_id}"):
            self._client.log_text(run_id, text, name)

    @contextlib.contextmanager
    def _asking(self, problem: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise RegistryError(f"MLflow at {self.config.tracking_uri}: {problem} ({error})") from error

    def _latest_metadata(self) -> ModelMetadata | None:
        versions = self.versions()
        for foreign in (version for version in versions if version.metadata is None):
            LOG.warning("%s", foreign.foreign(self.config.model_name))
        return next((version.metadata for version in versions if version.metadata is not None), None)


def bundle_below(folder: Path) -> Path:
    """The bundle folder within a downloaded MLflow model.

    Raises:
        RegistryError: there is none.
    """
    found = sorted(folder.rglob(METADATA_FILE))
    if not found:
        raise RegistryError(f"{folder}: the registered model holds no {METADATA_FILE}; register the model again")
    return found[0].parent


def _stamp(bundle: Path, metadata: ModelMetadata) -> None:
    """Replaces the bundle by itself with other metadata; a kill in between leaves the old one."""
    with storage.new_directory(bundle) as fresh:
        link_tree(bundle, fresh)
        write_metadata(fresh, metadata)
        _stamp_reference(fresh / REFERENCE_FOLDER / INFO_FILE, metadata.model_version)
        seal(fresh)


def _stamp_reference(path: Path, model_version: str) -> None:
    """Monitoring looks for this version in the prediction log."""
    if path.exists():
        info = ReferenceInfo.model_validate_json(path.read_text(encoding="utf-8"))
        storage.write_text(path, info.model_copy(update={"model_version": model_version}).model_dump_json(indent=2))


def _size(artifacts: Any, folder: str | None = None) -> int:
    """Bytes of all files of an artifact repository below a folder."""
    infos = artifacts.list_artifacts(folder)
    return sum(_size(artifacts, info.path) if info.is_dir else info.file_size or 0 for info in infos)


def _headline(evaluation: Evaluation) -> dict[str, float]:
    ranker = evaluation.ranker
    names = ("auc", "log_loss", "precision_at_10", "gauc", "ndcg_at_10")
    return {name: getattr(ranker, name) for name in names}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


class BundleModel:
    """What MLflow's pyfunc calls: click probabilities of rows with ids and features."""

    def __init__(self, bundle: Path) -> None:
        self._bundle = load_bundle(bundle)

    def predict(self, rows: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        """Scores [rows] of a frame with `user_id`, `item_id` and all features."""
        return self._bundle.score_table(pa.Table.from_pandas(rows, preserve_index=False))


def _load_pyfunc(path: str) -> BundleModel:
    """Called by MLflow with the folder of the model's data."""
    return BundleModel(bundle_below(Path(path)))
