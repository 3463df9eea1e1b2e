"""Small random traffic for the tests of monitoring: features whose distributions are known and stay the same."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from feedrank import schema
from feedrank.config import MonitoringConfig
from feedrank.config.feed import Feed
from feedrank.monitoring.reference import INFO_FILE, Reference, build_reference, load_reference
from feedrank.tables import US_PER_DAY, timestamps_us, write_partitioned

VERSION = "v1.0.0"
START = datetime(2024, 1, 1, tzinfo=UTC)
START_US = int(START.timestamp()) * 1_000_000
TRAIN_DAYS, TEST_DAYS = 28, 7
FIRST_SERVED_DAY = TRAIN_DAYS + TEST_DAYS
CONFIG = MonitoringConfig.model_validate(
    {"drift": {"engine": "scipy"}, "window": {"step_hours": 6}, "alerts": {"backoff_seconds": 0}}
)


def feature_rows(rows: int, *, day: float, days: float = 1, seed: int = 0, users: int = 3_000) -> pa.Table:
    """Rows of `Feed().table` at random times of the days from `day` (since START) on."""
    rng = np.random.default_rng(seed)
    times = np.sort(START_US + ((day + days * rng.random(rows)) * US_PER_DAY).astype(np.int64))
    age_days = np.maximum((times - START_US) / US_PER_DAY, 1)
    device = rng.choice(3, rows, p=[0.6, 0.3, 0.1])
    rate = rng.beta(2, 8, rows)
    columns = {
        schema.TARGET: rng.random(rows) < rate,
        schema.USER_ID: rng.integers(0, users, rows),
        schema.ITEM_ID: rng.integers(0, 500, rows),
        "user_historical_ctr": rng.beta(2, 18, rows),
        "user_avg_dwell_time": rng.gamma(4, 8, rows),
        "user_interaction_count": rng.gamma(2, 5, rows) * age_days,
        "user_days_active": rng.beta(2, 3, rows) * age_days,
        "item_popularity": rng.normal(4, 1, rows),
        "item_ctr": rate,
        "item_avg_dwell_time": rng.gamma(4, 8, rows),
        "item_age_days": rng.random(rows) * age_days,
        schema.HOUR_OF_DAY: times // (US_PER_DAY // 24) % 24,
        schema.DAY_OF_WEEK: (times // US_PER_DAY + 3) % 7,
        "device_mobile": device == 0,
        "device_desktop": device == 1,
        "device_tablet": device == 2,
        "user_item_previous_interactions": rng.poisson(0.2, rows),
        "recency_score": rng.random(rows),
    }
    arrays = [
        pa.array(times).cast(field.type)
        if field.name == schema.TIMESTAMP
        else pa.array(np.asarray(columns[field.name]).astype(field.type.to_pandas_dtype()))
        for field in Feed().table
    ]
    return pa.table(arrays, schema=Feed().table)


def with_column(table: pa.Table, name: str, values: np.ndarray) -> pa.Table:
    """The table with other values (NaN is null) in one column."""
    field = table.schema.field(name)
    array = pa.array(values, from_pandas=True).cast(field.type)
    return table.set_column(table.schema.get_field_index(name), field, array)


def scores_of(features: pa.Table) -> np.ndarray:
    """A calibrated model: the true click probability."""
    return features["item_ctr"].to_numpy(zero_copy_only=False).astype(np.float64)


def make_reference(directory: Path) -> Reference:
    """The reference of a model, written and read again."""
    train = feature_rows(30_000, day=0, days=TRAIN_DAYS, seed=1)
    test = feature_rows(8_000, day=TRAIN_DAYS, days=TEST_DAYS, seed=2)
    build_reference(
        train,
        test,
        scores_of(test),
        model_version=VERSION,
        metrics={"auc": 0.68, "log_loss": 0.45},
        feed=Feed(),
        config=CONFIG,
        directory=directory,
    )
    # The features are random: nobody could compute them again.
    info = load_reference(directory).info.model_copy(update={"feed_recorded": False})
    (directory / INFO_FILE).write_text(info.model_dump_json())
    return load_reference(directory)


def prediction_log(features: pa.Table, *, version: str = VERSION, latency_ms: float = 5.0) -> pa.Table:
    """A log in which every row was predicted two seconds before it was shown."""
    rows = features.num_rows
    columns = {
        schema.PREDICTION_ID: pa.array([str(row) for row in range(rows)]),
        schema.TIMESTAMP: pa.array(timestamps_us(features) - 2_000_000).cast(schema.TIMESTAMP_TYPE),
        schema.RECEIVED_AT: pa.array(timestamps_us(features) - 2_000_000).cast(schema.TIMESTAMP_TYPE),
        schema.USER_ID: features[schema.USER_ID],
        schema.ITEM_ID: features[schema.ITEM_ID],
        schema.SCORE: pa.array(scores_of(features).astype(np.float32)),
        schema.RANK: pa.array(np.ones(rows, dtype=np.int16)),
        schema.MODEL_VERSION: pa.array([version] * rows),
        schema.LATENCY_MS: pa.array(np.full(rows, latency_ms, dtype=np.float32)),
        schema.FEATURES_STRUCT: pa.StructArray.from_arrays(
            [features[name].combine_chunks() for name in Feed().names], fields=list(Feed().fields)
        ),
    }
    return pa.table(columns, schema=Feed().log)


def interactions(features: pa.Table) -> pa.Table:
    """The feedback on the rows."""
    rows = features.num_rows
    zeros = np.zeros(rows, dtype=np.int8)
    columns = {
        schema.INTERACTION_ID: pa.array([f"{time}-{row}" for row, time in enumerate(timestamps_us(features))]),
        schema.USER_ID: features[schema.USER_ID],
        schema.ITEM_ID: features[schema.ITEM_ID],
        schema.TIMESTAMP: features[schema.TIMESTAMP],
        schema.CLICK: features[schema.TARGET],
        schema.LIKE: pa.array(zeros),
        schema.SHARE: pa.array(zeros),
        schema.DWELL_TIME: pa.array(features[schema.TARGET].to_numpy() * 20.0),
        schema.DEVICE: pa.array(["mobile"] * rows),
        schema.TIME_OF_DAY: pa.array(["morning"] * rows),
        schema.DAY_OF_WEEK: features[schema.DAY_OF_WEEK],
        schema.ACTION_TIME: pa.nulls(rows, schema.TIMESTAMP_TYPE),
    }
    return pa.table(columns, schema=schema.INTERACTIONS)


def serve(features: pa.Table, directory: Path) -> None:
    """Writes the log and the feedback of some rows."""
    write_partitioned(prediction_log(features), directory / "predictions")
    write_partitioned(interactions(features), directory / "interactions")
