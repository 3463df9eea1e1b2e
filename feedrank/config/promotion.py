"""`config/promotion_config.yaml`: when a challenger counts as better, where the champion is served, and retraining."""

from pathlib import Path

from pydantic import Field

from feedrank.config.base import Section


class ComparisonConfig(Section):
    """What a challenger must show on fresh rows to replace the champion."""

    min_gauc_gain: float = Field(default=0.001, ge=0, description="better in GAUC: by more than that, with confidence")
    min_log_loss_gain: float = Field(default=0.0005, ge=0, description="or better in log loss: by more than that")
    max_gauc_loss: float = Field(default=0.05, ge=0, description="what the GAUC may fall by, as estimated")
    max_log_loss_rise: float = Field(default=0.001, ge=0, description="what the log loss may rise by, as estimated")
    max_slice_gauc_loss: float = Field(default=0.05, ge=0, description="a slice's GAUC must not fall by more")
    max_latency_ratio: float = Field(default=1.5, gt=0, description="median scoring time against the champion's")
    confidence: float = Field(default=0.95, gt=0, lt=1, description="of the two-sided intervals")
    resamples: int = Field(default=400, ge=100, description="of the users, in the bootstrap")
    max_rows: int = Field(default=200_000, ge=1, description="users are drawn until so many rows are reached")
    min_users: int = Field(default=100, ge=2, description="with fewer there is no verdict")
    min_clicks: int = Field(default=100, ge=1, description="with fewer there is no verdict, on a slice neither")
    latency_requests: int = Field(default=200, ge=1, description="of 100 items, timed for each model")
    seed: int = 42


class TargetConfig(Section):
    """The folder or InferenceService that serves the champion, and how a new version is checked there."""

    directory: Path = Field(default=Path("runs/served"), description="holds versions/ and the link `current`")
    url: str = Field(default="", description="the predictor, asked whether the new version answers; empty: not asked")
    inference_service: str = Field(default="", description="KServe's, which then serves instead of the link")
    namespace: str = Field(default="", description="of the InferenceService; the pod's own if empty")
    storage_uri: str = Field(
        default="", description="where the pods fetch versions from, e.g. s3://BUCKET/PREFIX; a volume if empty"
    )
    kube_context: str = Field(default="", description="of the kubeconfig, outside of the cluster; the current if empty")
    token_env: str = Field(default="FEEDRANK_TOKEN", description="environment variable with the predictor's token")
    deadline_seconds: float = Field(default=60.0, gt=0, description="for the new version to answer")
    pod_deadline_seconds: float = Field(
        default=120.0, gt=0, description="more for each pod (or so many as surge at a time) that a roll-out replaces"
    )
    timeout_seconds: float = Field(default=5.0, gt=0, description="of one request")
    smoke_requests: int = Field(default=5, ge=1, description="answers in a row that must come from the new version")


class HoldOutConfig(Section):
    """The latest rows of a retraining, which judge it; the served model is fitted again on all rows."""

    hours: float = Field(default=6.0, gt=0, description="that gates and comparison judge, or more until there are")
    min_clicks: int = Field(default=100, ge=1, description="so many clicks, and")
    min_users: int = Field(default=30, ge=1, description="users with enough impressions for the @10 metrics,")
    max_share: float = Field(default=0.2, gt=0, lt=0.5, description="but at most this share of the rows")
    validation_share: float = Field(
        default=0.5, gt=0, le=1, description="rows before them that end the training, relative to them"
    )


class PromotionConfig(Section):
    """The whole of `promotion_config.yaml`."""

    state_directory: Path = Field(default=Path("runs/promotion"), description="journal and history")
    comparison: ComparisonConfig = ComparisonConfig()
    target: TargetConfig = TargetConfig()
    hold_out: HoldOutConfig = HoldOutConfig()
