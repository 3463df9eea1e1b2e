"""What a recurring run of a KFP server does, to tell whether it is the wanted one."""

from dataclasses import dataclass
from typing import Any

MAX_CONCURRENCY = 1
MADE_BY = "kept by feedrank pipelines upload"
"""The description of our recurring runs."""


@dataclass(frozen=True)
class Schedule:
    """A recurring run, without its id and history."""

    pipeline_id: str
    version_id: str
    cron: str
    parameters: dict[str, Any]
    service_account: str
    paused: bool = False
    max_concurrency: int = MAX_CONCURRENCY
    no_catchup: bool = True


def schedule_of(job: Any) -> Schedule:
    """From the server's answer, which leaves out what is empty."""
    version, cron = job.pipeline_version_reference, job.trigger and job.trigger.cron_schedule
    return Schedule(
        pipeline_id=version.pipeline_id if version else "",
        version_id=(version and version.pipeline_version_id) or "",
        cron=(cron and cron.cron) or "",
        parameters=(job.runtime_config and job.runtime_config.parameters) or {},
        service_account=job.service_account or "",
        paused=job.mode == "DISABLE",
        max_concurrency=int(job.max_concurrency or 0),
        no_catchup=bool(job.no_catchup),
    )
