"""What a model's metadata say about where it comes from: rows, settings, code."""

import hashlib
import os
import subprocess
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import pyarrow as pa

from feedrank import schema
from feedrank.config.model import ModelConfig
from feedrank.features.snapshot import SnapshotInfo
from feedrank.model.bundle import DateRange, EvaluatedFit, Fit, ModelMetadata, RowSpan
from feedrank.tables import timestamps_us

UNREGISTERED_VERSION = "v0.0.0"


def metadata_of(
    rows: pa.Table,
    *,
    snapshot: SnapshotInfo,
    config: ModelConfig,
    epochs: int,
    half_life_days: float | None,
    seconds: float,
    evaluated: EvaluatedFit | None = None,
) -> ModelMetadata:
    """The metadata of a ranker fitted on a feature table; version, run and metrics come with the registration."""
    span = span_of(rows)
    data_fingerprint = fingerprint_of(rows)
    return ModelMetadata(
        model_id=str(uuid5(NAMESPACE_URL, data_fingerprint + config.model_dump_json())),
        model_version=UNREGISTERED_VERSION,
        training_date=datetime.now(UTC),
        mlflow_run_id="",
        model_type=config.model_type,
        metrics={},
        feature_schema_version=schema.FEATURE_SCHEMA_VERSION,
        feature_fingerprint=snapshot.feature_fingerprint,
        freshness=snapshot.feed.freshness,
        training_data_date_range=DateRange(start=span.start.date().isoformat(), end=span.end.date().isoformat()),
        config_fingerprint=config_fingerprint(config),
        data_fingerprint=data_fingerprint,
        git_commit=_git_commit(),
        trained_on=snapshot.source,
        fit=Fit(**span.model_dump(), epochs=epochs, half_life_days=half_life_days, seconds=seconds),
        evaluated=evaluated,
    )


def span_of(rows: pa.Table) -> RowSpan:
    """How many rows, from when to when."""
    times = timestamps_us(rows)
    first, last = (datetime.fromtimestamp(int(time) / 1_000_000, UTC) for time in (times.min(), times.max()))
    return RowSpan(rows=rows.num_rows, start=first, end=last)


def fingerprint_of(table: pa.Table) -> str:
    """SHA-256 (16 hex digits) of a table's rows; equal data gives an equal fingerprint however it is chunked."""
    digest = hashlib.sha256()
    for name in table.column_names:
        digest.update(np.ascontiguousarray(table[name].to_numpy()).view(np.uint8).data)
    return digest.hexdigest()[:16]


def config_fingerprint(config: ModelConfig) -> str:
    """SHA-256 (16 hex digits) of what shapes a ranker: the configuration without gates, evaluation and registry."""
    shape = config.model_dump_json(exclude={"gates", "evaluation", "registry"})
    return hashlib.sha256(shape.encode()).hexdigest()[:16]


def _git_commit() -> str:
    """Of the image, which says so, or of the checkout."""
    if revision := os.environ.get("FEEDRANK_REVISION"):
        return revision
    try:
        command = ["git", "rev-parse", "--short=12", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
