"""Every table and column of the system, spelled once.

Training, serving, monitoring, the request types and the documents derive their names and types from here.
All timestamps are UTC with microsecond resolution.
"""

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
HOUR_OF_DAY = "hour_of_day"
FEATURE_KEYS = pa.schema(
    [
        pa.field(TARGET, pa.int8()),
        pa.field(USER_ID, pa.int64()),
        pa.field(ITEM_ID, pa.int64()),
        pa.field(TIMESTAMP, TIMESTAMP_TYPE),
    ]
)
"""The columns of a feature table before the features, which the feed declares."""
FEATURE_SCHEMA_VERSION = "3.0.0"

PREDICTION_ID = "prediction_id"
RECEIVED_AT = "received_at"
"""When the predictor met the request, by its own clock; `timestamp` is what the client says."""
SCORE = "score"
RANK = "rank"
MODEL_VERSION = "model_version"
LATENCY_MS = "latency_ms"
FEATURES_STRUCT = "features"

PREDICTION_KEYS = pa.schema(
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
    ]
)
"""The columns of the prediction log before the struct of the features, which the feed declares."""
