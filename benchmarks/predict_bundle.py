"""Makes model bundles with random weights and a random history: what serving is tested and measured with."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.config.model import ModelConfig
from feedrank.features.snapshot import take_snapshot
from feedrank.model.bundle import ITEM_IDS, USER_IDS, DateRange, ModelMetadata, seal, write_bundle

END = datetime(2024, 11, 15, tzinfo=UTC)
"""The cut-off of the snapshots."""
DEFAULT_FEATURES = Feed()
DAYS = 90
EMBEDDING_SD = 0.2


@dataclass(frozen=True)
class Size:
    """How much the model and its snapshot know."""

    users: int
    items: int
    interactions: int


DEFAULT_SIZE = Size(10_000, 50_000, 1_000_000)
LARGE_SIZE = Size(100_000, 500_000, 3_000_000)


def random_interactions(size: Size, *, seed: int = 0) -> pa.Table:
    """Interactions of uniformly drawn users and items over the last days before `END`."""
    rng = np.random.default_rng(seed)
    rows = size.interactions
    start_us = round((END - timedelta(days=DAYS)).timestamp() * 1_000_000)
    times = start_us + np.sort(rng.integers(0, DAYS * 86_400_000_000, rows))
    clicks = (rng.random(rows) < 0.1).astype(np.int8)
    return pa.table(
        {
            schema.USER_ID: rng.integers(0, size.users, rows),
            schema.ITEM_ID: rng.integers(0, size.items, rows),
            schema.TIMESTAMP: pa.array(times).cast(schema.TIMESTAMP_TYPE),
            schema.CLICK: clicks,
            schema.LIKE: clicks,
            schema.SHARE: np.zeros(rows, dtype=np.int8),
            schema.DWELL_TIME: np.round(clicks * rng.exponential(30.0, rows).clip(0, 300), 3),
            schema.DEVICE: pa.array(rng.choice(np.array(schema.DEVICES), rows, p=(0.6, 0.3, 0.1))),
            schema.ACTION_TIME: pa.nulls(rows, schema.TIMESTAMP_TYPE),
        }
    )


def write_random_bundle(
    directory: Path,
    *,
    config: ModelConfig,
    size: Size,
    version: str = "v1.0.0",
    seed: int = 0,
    features: Feed = DEFAULT_FEATURES,
    trained_until: datetime = END,
) -> Path:
    """Writes a sealed bundle into a new folder.

    One id in ten of the snapshot is unknown to the model, and one in ten of the model's is not in the snapshot.
    """
    import torch

    from feedrank.model.inputs import inputs_of
    from feedrank.model.networks import build_ranker

    torch.manual_seed(seed)
    user_ids = np.setdiff1d(np.arange(size.users + size.users // 10), np.arange(0, size.users, 10))
    item_ids = np.setdiff1d(np.arange(size.items + size.items // 10), np.arange(0, size.items, 10))
    ranker = build_ranker(config, inputs_of(features), num_users=len(user_ids), num_items=len(item_ids))
    arrays = ranker.arrays()
    rng = np.random.default_rng(seed)
    for name in ("user_embedding.weight", "item_embedding.weight"):
        arrays[name] = rng.normal(0.0, EMBEDDING_SD, arrays[name].shape).astype(np.float32)
    arrays["input_mean"] = rng.uniform(0.0, 2.0, arrays["input_mean"].shape).astype(np.float32)
    arrays["input_std"] = rng.uniform(0.5, 2.0, arrays["input_std"].shape).astype(np.float32)
    directory.mkdir(parents=True)
    write_bundle(
        directory,
        metadata=_metadata(config, version, features=features, trained_until=trained_until),
        config=config,
        arrays={**arrays, USER_IDS: user_ids, ITEM_IDS: item_ids},
        snapshot=take_snapshot(random_interactions(size, seed=seed), cutoff=END, feed=features),
    )
    seal(directory)
    return directory


def _metadata(config: ModelConfig, version: str, *, features: Feed, trained_until: datetime) -> ModelMetadata:
    return ModelMetadata(
        model_id=str(uuid.uuid4()),
        model_version=version,
        training_date=END,
        mlflow_run_id="none",
        model_type=config.model_type,
        metrics={},
        feature_schema_version=schema.FEATURE_SCHEMA_VERSION,
        feature_fingerprint=features.fingerprint,
        freshness=features.freshness,
        training_data_date_range=DateRange(
            start=str((END - timedelta(days=DAYS)).date()), end=str(trained_until.date())
        ),
        config_fingerprint="random",
        data_fingerprint="random",
        git_commit="none",
    )
