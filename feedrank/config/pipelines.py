"""`config/pipelines_config.yaml`: images, schedules and resources of the Kubeflow pipelines."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from feedrank.config.base import Section

CRON_FIELDS = ("second", "minute", "hour", "day of month", "month", "day of week")


def _six_fields(schedule: str) -> str:
    """KFP takes five fields too, but reads the first as seconds: "0 2 * * *" would run every hour."""
    fields = schedule.split()
    if not fields:
        return ""
    if len(fields) != len(CRON_FIELDS):
        raise ValueError(f"a schedule has six fields ({', '.join(CRON_FIELDS)}), this one has {len(fields)}")
    for name, text in zip(CRON_FIELDS, fields, strict=True):
        if not re.fullmatch(r"[0-9A-Za-z*?/,-]+", text):
            raise ValueError(f"the field {name} is '{text}', expected numbers, names or any of * ? / , -")
    return schedule


Schedule = Annotated[str, AfterValidator(_six_fields)]


class ImagesConfig(Section):
    """The image of each stage; pin them by digest in production, as KFP's cache compares their names only."""

    data: str = Field(default="feedrank-data:0.1.0", min_length=1, description="ingest, validation, features")
    train: str = Field(default="feedrank-train:0.1.0", min_length=1, description="training, evaluation, registry")
    serve: str = Field(default="feedrank-serve:0.1.0", min_length=1)
    monitor: str = Field(default="feedrank-monitor:0.1.0", min_length=1)


class SchedulesConfig(Section):
    """Times in UTC: second, minute, hour, day of month, month, day of week; "" for no schedule."""

    etl_and_feature_engineering: Schedule = "0 0 2 * * *"
    monitoring_and_drift_detection: Schedule = "0 0 4 * * *"
    automated_retraining: Schedule = "0 0 0 * * 0"


class Resources(Section):
    """What a task's container asks for and may use, as Kubernetes quantities."""

    cpu_request: str = "500m"
    cpu_limit: str = "2"
    memory_request: str = "1Gi"
    memory_limit: str = "4Gi"


class ResourcesConfig(Section):
    """Resources by image."""

    data: Resources = Resources()
    train: Resources = Resources(cpu_request="1")
    monitor: Resources = Resources()


class RetriesConfig(Section):
    """A failed task is tried again on a cluster; on one machine it fails at once."""

    count: int = Field(default=2, ge=0)
    backoff_seconds: int = Field(default=30, ge=0, description="before the first retry, then twice as long each time")


class VolumeConfig(Section):
    """The claim (PVC) with prediction log, monitoring state and served versions, which tasks on a cluster mount."""

    claim: str = Field(default="", description="of the namespace that runs are started in; empty: none is mounted")
    mount_path: str = "/data"


class SecretKey(Section):
    """A value in a Secret of the namespace that runs are started in."""

    secret: str
    key: str
    optional: bool = Field(default=False, description="a task starts without it, too")


class RunsConfig(Section):
    """Parameters of the scheduled and triggered runs: where their data are, as the tasks see it."""

    input_paths: tuple[str, ...] = Field(
        default=(), description="all interactions; if empty `feedback`, but synthetic ones for an ETL without a volume"
    )
    mapping: str = Field(default="", description="how their columns map to ours, the YAML text of a mapping file")
    predictions: str = "/data/predictions"
    feedback: str = "/data/interactions"
    monitoring_directory: str = "/data/monitoring"


class ReleaseConfig(Section):
    """The Helm release, where several share a KFP server: its pipelines and schedules are named NAMESPACE.NAME.…"""

    name: str = Field(default="", description="empty: the names are those of the pipelines alone")
    namespace: str = Field(default="", description="of the release, and so of its volume, ConfigMap and Secrets")


class PipelinesConfig(Section):
    """The whole of `pipelines_config.yaml`."""

    host: str = Field(default="", description="KFP's API, e.g. http://ml-pipeline.kubeflow:8888; empty: no server")
    namespace: str = Field(default="", description="of experiments and runs, on a server with several users")
    release: ReleaseConfig = ReleaseConfig()
    runs: RunsConfig = RunsConfig()
    volume: VolumeConfig = VolumeConfig()
    config_map: str = Field(default="", description="with the files of config/, for tasks on a cluster; empty: none")
    secrets: dict[str, SecretKey] = Field(default={}, description="environment variables of the tasks from Secrets")
    environment: dict[str, str] = Field(default={}, description="further environment variables of the tasks")
    images: ImagesConfig = ImagesConfig()
    schedules: SchedulesConfig = SchedulesConfig()
    service_account: str = Field(default="pipeline-runner", min_length=1)
    resources: ResourcesConfig = ResourcesConfig()
    retries: RetriesConfig = RetriesConfig()
    task_timeout_seconds: int = Field(default=7200, ge=1, description="a pod that runs longer is stopped")
