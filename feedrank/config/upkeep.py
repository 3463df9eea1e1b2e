"""`config/upkeep_config.yaml`: what `feedrank upkeep` keeps, and for how long."""

from pydantic import Field

from feedrank.config.base import Section


class LogUpkeepConfig(Section):
    """The prediction log. Today is never touched."""

    keep_days: int = Field(default=30, ge=1, description="in full")
    sample_share: float = Field(default=0.05, ge=0, le=1, description="of the requests of older days: so many are kept")
    sample_days: int = Field(default=365, ge=1, description="older than that, nothing is kept")
    max_share: float = Field(default=0.5, gt=0, le=1, description="of the file system that the log lies on")
    max_bytes: int | None = Field(default=None, ge=1, description="instead of max_share; on s3:// the only limit")
    vacuum_hours: int = Field(default=1, ge=1, description="files that no reader needs any more are removed after that")


class TableUpkeepConfig(Section):
    """Another table."""

    keep_days: int | None = Field(default=None, ge=1, description="null: for ever")
    vacuum_hours: int = Field(default=720, ge=1, description="so long a model's earlier version can be read")


class UpkeepConfig(Section):
    """The whole of `upkeep_config.yaml`."""

    log: LogUpkeepConfig = LogUpkeepConfig()
    interactions: TableUpkeepConfig = TableUpkeepConfig()
    quarantine: TableUpkeepConfig = TableUpkeepConfig(keep_days=90, vacuum_hours=24)
    monitoring_run_days: int = Field(default=60, ge=1, description="reports of the monitor's runs; the latest stays")
    rollback_steps: int = Field(default=5, ge=1, description="champions that a rollback can go back to")
    version_days: int = Field(default=90, ge=1, description="versions of the registry that were not served lately")
