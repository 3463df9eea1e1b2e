"""Every table and column of the system, spelled once.

Training, serving, monitoring, the request types and the documents derive their names and types from here.
All timestamps are UTC with microsecond resolution.
"""

import hashlib
import json
from collections.abc import Mapping

import pyarrow as pa

TIMESTAMP_TYPE = pa.timestamp("us", tz="UTC")

INTERACTION_ID = "interaction_id"
USER_ID = "user_id"
EARLIER_SELF = 10**12
"""What earlier releases added to a user's id in older rows of a retraining: their models still know such ids."""
ITEM_ID = "item_id"
TIMESTAMP = "timestamp"
CLICK = "click"
LIKE = "like"
SHARE = "share"
DWELL_TIME = "dwell_time"
DEVICE = "device"
TIME_OF_DAY = "time_of_day"
DAY_OF_WEEK = "day_of_week"
ACTION_TIME = "action_time"
"""When the click, like, share or dwell of an impression became known; null where nobody recorded it."""
DATE = "date"
"""Name of the partition column, YYYY-MM-DD of the UTC timestamp."""

DEVICES = ("mobile", "desktop", "tablet")
TIMES_OF_DAY = ("morning", "afternoon", "evening", "night")
MAX_DWELL_SECONDS = 300.0

INTERACTIONS = pa.schema(
    [
        pa.field(INTERACTION_ID, pa.string(), nullable=False),
        pa.field(USER_ID, pa.int64(), nullable=False),
        pa.field(ITEM_ID, pa.int64(), nullable=False),
        pa.field(TIMESTAMP, TIMESTAMP_TYPE, nullable=False),
        pa.field(CLICK, pa.int8(), nullable=False),
        pa.field(LIKE, pa.int8(), nullable=False),
        pa.field(SHARE, pa.int8(), nullable=False),
        pa.field(DWELL_TIME, pa.float64(), nullable=False),
        pa.field(DEVICE, pa.string(), nullable=False),
        pa.field(TIME_OF_DAY, pa.string(), nullable=False),
        pa.field(DAY_OF_WEEK, pa.int8(), nullable=False),
        pa.field(ACTION_TIME, TIMESTAMP_TYPE),
    ]
)
OPTIONAL_COLUMNS = (ACTION_TIME,)
"""Columns of interactions that a table or a file may lack: they read as null."""

TARGET = "target"
USER_HISTORICAL_CTR = "user_historical_ctr"
USER_AVG_DWELL_TIME = "user_avg_dwell_time"
USER_INTERACTION_COUNT = "user_interaction_count"
USER_DAYS_ACTIVE = "user_days_active"
ITEM_POPULARITY = "item_popularity"
ITEM_CTR = "item_ctr"
ITEM_AVG_DWELL_TIME = "item_avg_dwell_time"
ITEM_AGE_DAYS = "item_age_days"
HOUR_OF_DAY = "hour_of_day"
DEVICE_MOBILE = "device_mobile"
DEVICE_DESKTOP = "device_desktop"
DEVICE_TABLET = "device_tablet"
DEVICE_COLUMNS = (DEVICE_MOBILE, DEVICE_DESKTOP, DEVICE_TABLET)
USER_ITEM_PREVIOUS_INTERACTIONS = "user_item_previous_interactions"
RECENCY_SCORE = "recency_score"

FEATURE_FIELDS = pa.schema(
    [
        pa.field(USER_HISTORICAL_CTR, pa.float32()),
        pa.field(USER_AVG_DWELL_TIME, pa.float32()),
        pa.field(USER_INTERACTION_COUNT, pa.int32()),
        pa.field(USER_DAYS_ACTIVE, pa.int32()),
        pa.field(ITEM_POPULARITY, pa.float32()),
        pa.field(ITEM_CTR, pa.float32()),
        pa.field(ITEM_AVG_DWELL_TIME, pa.float32()),
        pa.field(ITEM_AGE_DAYS, pa.int32()),
        pa.field(HOUR_OF_DAY, pa.int8()),
        pa.field(DAY_OF_WEEK, pa.int8()),
        pa.field(DEVICE_MOBILE, pa.int8()),
        pa.field(DEVICE_DESKTOP, pa.int8()),
        pa.field(DEVICE_TABLET, pa.int8()),
        pa.field(USER_ITEM_PREVIOUS_INTERACTIONS, pa.int32()),
        pa.field(RECENCY_SCORE, pa.float32()),
    ]
)
FEATURES: tuple[str, ...] = tuple(FEATURE_FIELDS.names)
"""The model's input features, in the order of every feature matrix."""

FEATURE_TABLE = pa.schema(
    [
        pa.field(TARGET, pa.int8()),
        pa.field(USER_ID, pa.int64()),
        pa.field(ITEM_ID, pa.int64()),
        pa.field(TIMESTAMP, TIMESTAMP_TYPE),
        *FEATURE_FIELDS,
    ]
)
FEATURE_SCHEMA_VERSION = "3.0.0"

PREDICTION_ID = "prediction_id"
RECEIVED_AT = "received_at"
"""When the predictor met the request, by its own clock; `timestamp` is what the client says."""
SCORE = "score"
RANK = "rank"
MODEL_VERSION = "model_version"
LATENCY_MS = "latency_ms"
FEATURES_STRUCT = "features"

PREDICTION_LOG = pa.schema(
    [
        pa.field(PREDICTION_ID, pa.string()),
        pa.field(TIMESTAMP, TIMESTAMP_TYPE),
        pa.field(RECEIVED_AT, TIMESTAMP_TYPE),
        pa.field(USER_ID, pa.int64()),
        pa.field(ITEM_ID, pa.int64()),
        pa.field(SCORE, pa.float32()),
        pa.field(RANK, pa.int16()),
        pa.field(MODEL_VERSION, pa.string()),
        pa.field(LATENCY_MS, pa.float32()),
        pa.field(FEATURES_STRUCT, pa.struct(list(FEATURE_FIELDS))),
    ]
)


def column_fingerprint() -> str:
    """SHA-256 (hex, 16 digits) over names, order and types of the feature columns.

    For what lies beside a model, which names the constants.
    """
    return _fingerprint(_columns())


def feature_fingerprint(constants: Mapping[str, float | str]) -> str:
    """SHA-256 (hex, 16 digits) over the feature columns and the constants of their definitions.

    It is stored with every model and snapshot; a model is served and compared only on features of its own fingerprint.
    """
    return _fingerprint(f"{_columns()};{json.dumps(dict(constants), sort_keys=True)}")


def _columns() -> str:
    return f"{FEATURE_SCHEMA_VERSION};" + ",".join(f"{field.name}:{field.type}" for field in FEATURE_FIELDS)


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
