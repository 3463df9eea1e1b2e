"""Retrainings as Jobs of a CronJob's template: on a cluster without a KFP server."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from feedrank.config.monitoring import RetrainingConfig
from feedrank.monitoring.results import TriggerDecision
from feedrank.monitoring.triggers import TRIGGER_ENV, RetrainingLog
from serving.cluster import api_client, ask, own_namespace


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
        from kubernetes import client

        name, what = self.config.cron_job, f"CronJob {self.config.cron_job}"
        namespace = own_namespace("")
        batch = ask(what, lambda: client.BatchV1Api(api_client()))
        cron_job = ask(what, lambda: batch.read_namespaced_cron_job(name, namespace))
        template: Any = cron_job.spec.job_template
        for container in template.spec.template.spec.containers:
            variable = client.V1EnvVar(name=TRIGGER_ENV, value=trigger.model_dump_json())
            container.env = [*(container.env or []), variable]
        metadata = client.V1ObjectMeta(
            name=f"{name}-{trigger.request_id[:8]}",
            labels=template.metadata.labels,
            annotations={"feedrank/reasons": "; ".join(trigger.reasons)},
            owner_references=[  # it goes when the release is uninstalled
                client.V1OwnerReference(api_version="batch/v1", kind="CronJob", name=name, uid=cron_job.metadata.uid)
            ],
        )
        job = client.V1Job(metadata=metadata, spec=template.spec)
        ask(f"a Job of {what}", lambda: batch.create_namespaced_job(namespace, job))
