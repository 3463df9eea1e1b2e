"""The model bundle: one folder with all that serves, watches and compares a ranker. Its only reader and writer.

model_metadata.json   who the model is (spec 2.7)
model_config.json     the configuration it was trained with
epochs.json           the figures of each epoch
arrays/NAME.npy       weights, and the known `user_ids` and `item_ids` (sorted)
snapshot/             the online features (`features/snapshot.py`)
reference/            what monitoring compares with (`monitoring/reference.py`)
checksums.json        SHA-256 of every other file
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from feedrank import schema, storage
from feedrank.config.feed import Feed
from feedrank.config.model import ModelConfig, ModelType
from feedrank.errors import BundleError, OtherFeaturesError
from feedrank.features.aggregates import Floats
from feedrank.features.events import Ints
from feedrank.features.snapshot import Snapshot, SnapshotInfo, TableVersion, load_info, load_snapshot, save_snapshot
from feedrank.model import forward
from feedrank.model.inputs import inputs_of

USER_IDS, ITEM_IDS = "user_ids", "item_ids"
METADATA_FILE, CONFIG_FILE, CHECKSUMS_FILE = "model_metadata.json", "model_config.json", "checksums.json"
EPOCHS_FILE = "epochs.json"
SNAPSHOT_FOLDER, REFERENCE_FOLDER, ARRAYS_FOLDER = "snapshot", "reference", "arrays"


class DateRange(BaseModel):
    """First and last day, both included."""

    start: str
    end: str


class RowSpan(BaseModel):
    """Rows from the first to the last time, both included."""

    rows: int
    start: datetime
    end: datetime


class Fit(RowSpan):
    """The rows that weights were fitted on, and how."""

    epochs: int
    seconds: float
    half_life_days: float | None = None
    """After so long a row counted for half; None: all counted alike."""


class EvaluatedFit(BaseModel):
    """The held-out fit of the same settings and seed: metrics, gates and comparison are its, not the served fit's."""

    model_config = ConfigDict(protected_namespaces=())

    model_id: str
    fit: Fit
    tested_on: RowSpan


class ModelMetadata(BaseModel):
    """`model_metadata.json`."""

    model_config = ConfigDict(protected_namespaces=(), ser_json_inf_nan="strings")

    model_id: str
    model_version: str
    training_date: datetime
    mlflow_run_id: str
    model_type: ModelType
    metrics: dict[str, float]
    feature_schema_version: str
    feature_fingerprint: str
    freshness: str = "unknown"
    """`features.freshness` of the training; unknown for releases before there was a choice."""
    training_data_date_range: DateRange
    config_fingerprint: str
    data_fingerprint: str
    git_commit: str
    trained_on: TableVersion | None = None
    """The interactions that the features were computed from; None as in their snapshot."""
    fit: Fit | None = None
    """None in the bundles of releases before it was recorded."""
    evaluated: EvaluatedFit | None = None
    """None if the bundle itself was evaluated."""

    @property
    def evaluated_id(self) -> str:
        """The model_id of the fit that was evaluated."""
        return self.model_id if self.evaluated is None else self.evaluated.model_id

    @property
    def fit_sentence(self) -> str:
        """Which rows the weights know, and what the figures are of."""
        days = f"{self.training_data_date_range.start} to {self.training_data_date_range.end}"
        if self.fit is None or self.evaluated is None:
            return f"fitted on {days}"
        tested, half_life = self.evaluated.tested_on, self.fit.half_life_days
        memory = "" if half_life is None else f", {half_life:g} days older rows counting half,"
        return (
            f"fitted on all {self.fit.rows:,} rows from {days}{memory} in {self.fit.epochs} epochs "
            f"({self.fit.seconds:.0f} s); "
            f"its figures are those of the same settings fitted on the rows up to {self.evaluated.fit.end:%F %R} and "
            f"tested on {tested.rows:,} rows from {tested.start:%F %R} to {tested.end:%F %R}"
        )

    @property
    def last_row(self) -> datetime:
        """Time of the last row that the weights know."""
        if self.fit is not None:
            return self.fit.end
        midnight = datetime.fromisoformat(self.training_data_date_range.end).replace(tzinfo=UTC)
        return midnight + timedelta(days=1, microseconds=-1)


@dataclass(frozen=True)
class ModelBundle:
    """A ranker in memory. `arrays` are read-only and may be mapped from the files."""

    metadata: ModelMetadata
    config: ModelConfig
    arrays: Mapping[str, NDArray[Any]]
    directory: Path
    feed: Feed
    """The features that it was trained on, and understands."""

    @cached_property
    def snapshot(self) -> Snapshot:
        """The online features beside the model."""
        return load_snapshot(self.directory / SNAPSHOT_FOLDER)

    def understood(self, snapshot: Snapshot, source: Path) -> Snapshot:
        """A published snapshot for this model's features, which may be others than those that it was made for.

        Raises:
            BundleError: it lacks what one of them is computed from, or is of another rule; names both sides.
        """
        lacking = {*self.feed.aggregates} - {*snapshot.feed.aggregates}
        if lacking or snapshot.feed.rule != self.feed.rule:
            self.check_features(snapshot.info, source)
        return snapshot.read_as(self.feed)

    def check_features(self, info: SnapshotInfo, source: Path) -> None:
        """Refuses features of another declaration than the model was trained with, by the snapshot beside them.

        Raises:
            BundleError: names both sides.
        """
        if differences := info.feed.differences(self.feed):
            raise BundleError(
                f"{source}: features of another declaration than the model {self.metadata.model_version} has: "
                f"{differences} ({info.feature_fingerprint} instead of {self.metadata.feature_fingerprint}); "
                "compute the features with the model's declaration (feed.yaml), or train a model with the new one and "
                "promote it"
            )

    @property
    def reference_directory(self) -> Path:
        """Where monitoring's reference lies."""
        return self.directory / REFERENCE_FOLDER

    def score_table(self, features: pa.Table) -> Floats:
        """Click probabilities [rows] of a feature table (`Feed.table`)."""
        return score_table(self.arrays, self.config.model_type, self.feed, features)


def score_table(arrays: Mapping[str, NDArray[Any]], model_type: ModelType, feed: Feed, features: pa.Table) -> Floats:
    """Click probabilities [rows] of a feature table (`Feed.table`) by a ranker's arrays with their ids."""
    return forward.scores(
        arrays,
        model_type,
        inputs_of(feed),
        user_rows=rows_of(arrays[USER_IDS], features[schema.USER_ID].to_numpy()),
        item_rows=rows_of(arrays[ITEM_IDS], features[schema.ITEM_ID].to_numpy()),
        raw=inputs_of(feed).of(feature_matrix(features, feed)),
    )


def rows_of(known_ids: Ints, ids: Ints) -> Ints:
    """Row of each id in the sorted known ids; `len(known_ids)` for an unknown one."""
    if not len(known_ids):
        return np.zeros(len(ids), dtype=np.int64)
    rows = np.minimum(np.searchsorted(known_ids, ids), len(known_ids) - 1)
    return np.where(known_ids[rows] == ids, rows, len(known_ids))


def feature_matrix(features: pa.Table, feed: Feed) -> Floats:
    """The features as float32 [rows, features], in the order of `Feed.names`."""
    matrix = np.empty((features.num_rows, len(feed.names)), dtype=np.float32)
    for index, name in enumerate(feed.names):
        matrix[:, index] = features[name].to_numpy()
    return matrix


def write_bundle(
    directory: Path,
    *,
    metadata: ModelMetadata,
    config: ModelConfig,
    arrays: Mapping[str, NDArray[Any]],
    snapshot: Snapshot,
) -> None:
    """Writes a bundle without its reference into an empty folder; `seal` it when all is there."""
    for name, array in arrays.items():
        path = directory / ARRAYS_FOLDER / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array)
    (directory / SNAPSHOT_FOLDER).mkdir()
    save_snapshot(snapshot, directory / SNAPSHOT_FOLDER)
    storage.write_text(directory / CONFIG_FILE, config.model_dump_json(indent=2))
    write_metadata(directory, metadata)


def write_metadata(directory: Path, metadata: ModelMetadata) -> None:
    """Replaces `model_metadata.json`; the bundle must be sealed (again) afterwards."""
    storage.write_text(directory / METADATA_FILE, metadata.model_dump_json(indent=2))


def seal(directory: Path) -> None:
    """Writes the checksums of all files of a bundle; a bundle without them is refused as half-written."""
    sums = {str(file.relative_to(directory)): sha256(file) for file in _files(directory)}
    storage.write_text(directory / CHECKSUMS_FILE, json.dumps(sums, indent=2, sort_keys=True))


def load_bundle(directory: Path) -> ModelBundle:
    """Reads and checks a bundle.

    Raises:
        OtherFeaturesError: it is of another feature schema or rule than this code.
        BundleError: the folder or a file is missing, or differs from its checksum.
    """
    verify(directory)
    metadata = _read(directory / METADATA_FILE, ModelMetadata)
    own = load_info(directory / SNAPSHOT_FOLDER)
    if metadata.freshness != own.feed.freshness:
        raise BundleError(
            f"{directory}: the model was trained on features.freshness {metadata.freshness}, its snapshot is "
            f"{own.feed.freshness}; train again"
        )
    if metadata.feature_fingerprint == own.earlier_fingerprint:
        metadata = metadata.model_copy(update={"feature_fingerprint": own.feature_fingerprint})
    if metadata.feature_fingerprint != own.feature_fingerprint:
        raise OtherFeaturesError(
            f"{directory}: the model was trained on feature schema {metadata.feature_schema_version} "
            f"({metadata.feature_fingerprint}), this code has {schema.FEATURE_SCHEMA_VERSION} "
            f"({own.feature_fingerprint} with the declaration of its snapshot); train again or serve it with the code "
            "it was trained with"
        )
    folder = directory / ARRAYS_FOLDER
    arrays = {file.stem: np.load(file, mmap_mode="r") for file in sorted(folder.glob("*.npy"))}
    return ModelBundle(metadata, _read(directory / CONFIG_FILE, ModelConfig), arrays, directory, own.feed)


def verify(directory: Path) -> None:
    """Checks every file of a bundle against its checksum.

    Raises:
        BundleError: names the first file that is missing or differs.
    """
    path = directory / CHECKSUMS_FILE
    try:
        expected = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(
            f"{path}: missing, so {directory} is no complete model bundle; train or copy it again"
        ) from error
    except ValueError as error:
        raise BundleError(f"{path}: not valid JSON; copy the bundle again") from error
    if not isinstance(expected, dict):
        raise BundleError(f"{path}: no mapping of files to checksums; copy the bundle again")
    for name, checksum in expected.items():
        file = directory / name
        if not file.is_file():
            raise BundleError(f"{file}: missing from the model bundle; copy it again")
        if sha256(file) != checksum:
            raise BundleError(f"{file}: differs from its checksum, so it is truncated or changed; copy it again")


Model = TypeVar("Model", bound=BaseModel)


def _read(path: Path, kind: type[Model]) -> Model:
    """Passes over keys that this release does not have (any more): an upgrade must not refuse the champion."""
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"), extra="ignore")
    except (OSError, ValidationError) as error:
        raise BundleError(f"{path}: {error}") from error


def _files(directory: Path) -> list[Path]:
    return sorted(f for f in directory.rglob("*") if f.is_file() and f.name != CHECKSUMS_FILE)


def sha256(path: Path) -> str:
    """The checksum of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
