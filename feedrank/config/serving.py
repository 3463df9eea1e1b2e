"""`config/serving_config.yaml`: limits, reloading and the prediction log of the predictor."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from feedrank.config.base import Section


class LimitsConfig(Section):
    """What a client may ask for, and when the predictor sheds load."""

    max_body_bytes: int = Field(default=1_048_576, ge=1024, description="of a body without its content coding")
    head_timeout_seconds: float = Field(default=10.0, gt=0, description="for a client to send a request's head")
    body_timeout_seconds: float = Field(default=10.0, gt=0, description="for a client to send its body")
    max_concurrency: int = Field(default=512, ge=1, description="requests in progress per worker; more get 503")
    max_connections: int = Field(
        default=4096, ge=1, description="open HTTP connections per worker; on more, requests get 503"
    )
    max_queue_delay_ms: float = Field(default=30.0, gt=0, description="a request that waited longer gets 503")
    retry_after_seconds: int = Field(default=1, ge=0, description="the Retry-After header of a 503")
    max_instances: int = Field(default=256, ge=1, description="requests in one V1 body")


class ReloadConfig(Section):
    """How a new model or snapshot is noticed."""

    poll_seconds: float = Field(default=2.0, gt=0)
    registry_poll_seconds: float = Field(default=30.0, gt=0, description="for models:/NAME@ALIAS")
    max_backoff_seconds: float = Field(default=60.0, gt=0, description="between retries of a model that can't be used")
    cache_directory: Path = Field(default=Path("runs/model-cache"), description="models from the registry")


class DrainConfig(Section):
    """What happens on SIGTERM."""

    delay_seconds: float = Field(default=5.0, ge=0, description="not ready, but still answering: routes must notice")
    timeout_seconds: float = Field(default=30.0, gt=0, description="for requests in progress, then for the log")


class LogConfig(Section):
    """The prediction log (`feedrank/prediction_log`)."""

    directory: str = Field(default="runs/predictions", description="a Delta table: a folder, or s3://bucket/prefix")
    spool_directory: Path = Field(default=Path("runs/prediction-spool"), description="local; survives a crash")
    flush_interval_ms: float = Field(default=100.0, gt=0, description="at most so much is lost after SIGKILL")
    file_interval_seconds: float = Field(default=10.0, gt=0)
    file_max_rows: int = Field(default=1_000_000, ge=1)
    commit_interval_seconds: float = Field(default=60.0, gt=0, description="between commits to the log")
    commit_max_mb: int = Field(default=64, ge=1, description="of spool files waiting: then it is committed before")
    queue_max_requests: int = Field(default=10_000, ge=1, description="in memory, while the spool can't be written")
    spool_max_mb: int = Field(default=2048, ge=1, description="on disk, while the log folder can't be written")
    when_full: Literal["drop", "shed"] = Field(default="drop", description="drop rows and count them, or answer 503")


class ServingConfig(Section):
    """The whole of `serving_config.yaml`."""

    model_name: str = Field(default="feedrank-ranker", min_length=1, description="in the V1 and V2 paths")
    model: str = Field(default="/mnt/models", description="a model folder, or models:/NAME@ALIAS")
    snapshot: str | None = Field(
        default=None, description="a snapshot folder or URI, used once it is newer than the model's own"
    )
    host: str = "0.0.0.0"
    http_port: int = Field(default=8080, ge=0, le=65535)
    grpc_port: int = Field(default=8081, ge=0, le=65535, description="0 for no gRPC")
    workers: int = Field(default=1, ge=1)
    token_file: Path | None = Field(default=None, description="bearer token that clients must send")
    limits: LimitsConfig = LimitsConfig()
    reload: ReloadConfig = ReloadConfig()
    drain: DrainConfig = DrainConfig()
    log: LogConfig = LogConfig()
