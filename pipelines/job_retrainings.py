"""Retrainings as Jobs of a CronJob's template: on a cluster without a KFP server."""

from dataclasses import dataclass
from datetime import UTC, datetime

from feedrank.config.monitoring import RetrainingConfig
from feedrank.monitoring.results import TriggerDecision
from feedrank.monitoring.triggers import TRIGGER_ENV, RetrainingLog
from pipelines.cluster_jobs import create_job
from serving.cluster import own_namespace


@dataclass(frozen=True)
class JobRetrainings:
    """They run in Jobs; `start` returns when the API server has taken one (see `Retrainings`)."""

    config: RetrainingConfig
    record: RetrainingLog

    def start(self, trigger: TriggerDecision) -> None:
        """See `Retrainings`.

        Raises:
            PromotionError: the Job could not be created; the next monitor then asks again.
        """
        with self.record.starting(trigger.request_id, clock=lambda: datetime.now(UTC)):
            self._create(trigger)

    def _create(self, trigger: TriggerDecision) -> None:
        create_job(
            self.config.cron_job,
            namespace=own_namespace(""),
            name=f"{self.config.cron_job}-{trigger.request_id[:8]}",
            environment={TRIGGER_ENV: trigger.model_dump_json()},
            annotations={"feedrank/reasons": "; ".join(trigger.reasons)},
        )
