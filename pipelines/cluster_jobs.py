"""Jobs of a CronJob's template: a retraining that the monitor starts, and what people start from their machine."""

import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from feedrank.promotion.changes import PromotionError
from feedrank.promotion.serving_target import UnreachableError
from serving.cluster import api_client, ask, complaints, context_namespace

POLL_SECONDS = 1.0
SAY_AFTER_SECONDS = 20.0
"""How long a pod may take to start before it is said what it waits for."""
PATIENCE_SECONDS = 120.0
"""How long the API server may be out of reach while a Job runs."""


def create_job(
    cron_job: str,
    *,
    namespace: str,
    name: str,
    environment: dict[str, str],
    annotations: dict[str, str] | None = None,
    kube_context: str = "",
) -> None:
    """Creates a Job of a CronJob's template, with more environment variables; it goes when the release is uninstalled.

    Raises:
        PromotionError: there is no such CronJob, or the API server refuses.
        UnreachableError: it does not answer.
    """
    from kubernetes import client

    what = f"CronJob {namespace}/{cron_job}"
    batch = ask(what, lambda: client.BatchV1Api(api_client(kube_context)))
    owner = ask(what, lambda: batch.read_namespaced_cron_job(cron_job, namespace))
    template: Any = owner.spec.job_template
    for container in template.spec.template.spec.containers:
        kept = [variable for variable in container.env or [] if variable.name not in environment]
        container.env = kept + [client.V1EnvVar(name=key, value=value) for key, value in environment.items()]
    metadata = client.V1ObjectMeta(
        name=name,
        labels=template.metadata.labels,
        annotations=annotations,
        owner_references=[
            client.V1OwnerReference(api_version="batch/v1", kind="CronJob", name=cron_job, uid=owner.metadata.uid)
        ],
    )
    job = client.V1Job(metadata=metadata, spec=template.spec)
    ask(f"a Job of {what}", lambda: batch.create_namespaced_job(namespace, job))


def run_job(cron_job: str, *, kube_context: str, namespace: str, environment: dict[str, str]) -> int:
    """Starts a Job of a CronJob, prints its log until it ends, and returns its exit code.

    Raises:
        PromotionError: it could not be started, or the API server refuses to tell of it.
        UnreachableError: the API server does not answer.
    """
    namespace = namespace or context_namespace(kube_context)
    name = f"{cron_job}-{uuid.uuid4().hex[:6]}"
    create_job(cron_job, namespace=namespace, name=name, environment=environment, kube_context=kube_context)
    _say(f"Job {namespace}/{name} on {kube_context}")
    try:
        return _Followed(name, namespace, kube_context).end()
    except KeyboardInterrupt:
        _say(f"it goes on: kubectl --context {kube_context} -n {namespace} logs -f job/{name}")
        raise
    except PromotionError as error:
        raise type(error)(f"{error}; job/{name} in {namespace} may go on, see its log") from error


@dataclass
class _Followed:
    """A Job of one pod whose log is printed as it comes."""

    name: str
    namespace: str
    kube_context: str

    def end(self) -> int:
        """Waits for it; returns the exit code of its container."""
        pod = self._started()
        for chunk in self._log(pod):
            sys.stdout.write(chunk)
            sys.stdout.flush()
        return self._exit_code()

    def _started(self) -> str:
        """The name of the pod once its container runs or has ended; empty if the Job ended without."""
        say_at = time.monotonic() + SAY_AFTER_SECONDS
        while True:
            pods = self._pods()
            for pod in pods:
                if pod.status.phase not in (None, "Pending"):
                    return str(pod.metadata.name)
            if self._outcome() is not None:
                return ""
            if time.monotonic() > say_at:
                _say(f"it waits{complaints(pods) or ('' if pods else '; there is no pod yet')}")
                say_at = time.monotonic() + SAY_AFTER_SECONDS
            time.sleep(POLL_SECONDS)

    def _log(self, pod: str) -> Iterator[str]:
        if not pod:
            return
        import urllib3

        stream = self._ask(
            lambda: self._core.read_namespaced_pod_log(pod, self.namespace, follow=True, _preload_content=False)
        )
        try:
            for chunk in stream.stream():
                yield chunk.decode("utf-8", errors="replace")
        except urllib3.exceptions.HTTPError:
            _say(f"the log broke off; kubectl -n {self.namespace} logs job/{self.name}")

    def _exit_code(self) -> int:
        while (outcome := self._outcome()) is None:
            time.sleep(POLL_SECONDS)
        succeeded, why = outcome
        _say(f"Job {self.name} {'has succeeded' if succeeded else f'has failed: {why}'}")
        if succeeded:
            return 0
        ended = [s.state.terminated for pod in self._pods() for s in pod.status.container_statuses or []]
        return next((state.exit_code for state in ended if state is not None and state.exit_code), 1)

    def _outcome(self) -> tuple[bool, str] | None:
        """Whether it succeeded, and why not; None while it runs."""
        job = self._ask(lambda: self._batch.read_namespaced_job_status(self.name, self.namespace))
        for condition in job.status.conditions or []:
            if condition.type in ("Complete", "Failed") and condition.status == "True":
                return condition.type == "Complete", condition.message or condition.reason or ""
        return None

    def _pods(self) -> list[Any]:
        selector = f"batch.kubernetes.io/job-name={self.name}"
        found = self._ask(lambda: self._core.list_namespaced_pod(self.namespace, label_selector=selector))
        return list(found.items)

    def _ask(self, call: Any) -> Any:
        """As `ask`; a server that does not answer is asked again for a while, for the Job does not need us."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return ask(f"Job {self.name}", call)
            except UnreachableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)

    @property
    def _core(self) -> Any:
        from kubernetes import client

        return client.CoreV1Api(api_client(self.kube_context))

    @property
    def _batch(self) -> Any:
        from kubernetes import client

        return client.BatchV1Api(api_client(self.kube_context))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
