"""A release of the chart on a cluster, by kubectl and helm: what the kind demo, its benchmark and its tests share."""

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from feedrank.client import Client, PredictionError
from feedrank.errors import FeedrankError
from serving.kserve_target import SERVICE_LABEL

CONTEXT = os.environ.get("KUBE_CONTEXT", "kind-feed")
NAMESPACE, RELEASE = "feedrank", "feedrank"
CHART, VALUES = "helm/feedrank", "helm/feedrank/values-kind.yaml"
JOB_SECONDS = 900
POLL_SECONDS = 2.0
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


@dataclass(frozen=True)
class Cluster:
    """kubectl and helm on one namespace, and a release in it."""

    namespace: str = NAMESPACE
    release: str = RELEASE

    def kubectl(self, *arguments: str, content: Any = None) -> str:
        """Runs kubectl; `content` is given as JSON on its standard input.

        Raises:
            FeedrankError: with what it said.
        """
        return _run(
            "kubectl", "--context", CONTEXT, "--namespace", self.namespace, *arguments,
            text=None if content is None else json.dumps(content),
        )  # fmt: skip

    def helm(self, *arguments: str) -> str:
        """Runs helm."""
        return _run("helm", "--kube-context", CONTEXT, "--namespace", self.namespace, *arguments)

    def get(self, *what: str) -> Any:
        """An object, or a list of them."""
        return json.loads(self.kubectl("get", *what, "--output", "json"))

    def allowed(self, verb: str, what: str, *, user: str) -> bool:
        """Whether a user may do something; `what` is a resource, or RESOURCE/NAME."""
        try:
            return self.kubectl("auth", "can-i", verb, what, "--as", user).strip() == "yes"
        except FeedrankError:  # kubectl ends with 1 when the answer is no
            return False

    def start_job(self, name: str, *, cron_job: str, command: list[str] | None = None, **environment: str) -> None:
        """Starts a Job of a CronJob's template, with another command and environment if given."""
        owner = self.get("cronjob", f"{self.release}-{cron_job}")
        template = owner["spec"]["jobTemplate"]
        container = template["spec"]["template"]["spec"]["containers"][0]
        if command is not None:
            container["command"] = command
        container["env"] = [*container.get("env", []), *({"name": k, "value": v} for k, v in environment.items())]
        template["spec"]["backoffLimit"] = 0
        uid = owner["metadata"]["uid"]
        reference = {"apiVersion": "batch/v1", "kind": "CronJob", "name": owner["metadata"]["name"], "uid": uid}
        labels = template.get("metadata", {}).get("labels", {})
        self.create_job(name, template["spec"], labels=labels, ownerReferences=[reference])

    def start_from_cron_job(self, name: str, *, cron_job: str, **environment: str) -> None:
        """Starts a Job as docs/runbook.md says, with parameters in the environment; in place of an earlier one."""
        self.kubectl("delete", "job", name, "--ignore-not-found")
        source = f"--from=cronjob/{self.release}-{cron_job}"
        job = json.loads(self.kubectl("create", "job", source, name, "--dry-run=client", "--output", "json"))
        settings = [f"{key}={value}" for key, value in environment.items()]
        if settings:
            given = self.kubectl("set", "env", "--local", "--filename", "-", *settings, "--output", "json", content=job)
            job = json.loads(given)
        self.kubectl("create", "--filename", "-", content=job)

    def create_job(self, name: str, spec: Any, **metadata: Any) -> None:
        """Creates a Job, in place of an earlier one of the name."""
        self.kubectl("delete", "job", name, "--ignore-not-found")
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, **metadata}, "spec": spec}
        self.kubectl("create", "--filename", "-", content=job)

    def pod_spec(self, command: list[str], *, files: str = "") -> dict[str, Any]:
        """A pod that runs a command once in the predictor's image, as restricted as the predictor; `files` names a
        ConfigMap that it sees at /files."""
        predictor = self.get("inferenceservice", self.release)["spec"]["predictor"]
        container = predictor["containers"][0]
        volumes: dict[str, tuple[str, dict[str, Any]]] = {"tmp": ("/tmp", {"emptyDir": {}})}
        if files:
            volumes["files"] = ("/files", {"configMap": {"name": files}})
        return {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": predictor["securityContext"],
            "containers": [
                {
                    "name": "main",
                    "image": container["image"],
                    "command": command,
                    "securityContext": container["securityContext"],
                    "volumeMounts": [{"name": name, "mountPath": path} for name, (path, _) in volumes.items()],
                }
            ],
            "volumes": [{"name": name, **source} for name, (_, source) in volumes.items()],
        }

    def predictor_pods(self) -> list[Any]:
        """The pods of the InferenceService, without those that are ending."""
        pods = self.get("pod", "--selector", f"{SERVICE_LABEL}={self.release}")["items"]
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def end_a_pod(self) -> None:
        """Deletes a pod of the predictor; returns when another is ready in its place."""
        self.kubectl("delete", "pod", self.predictor_pods()[0]["metadata"]["name"])
        self.wait_for_rollout()

    def wait_for_rollout(self) -> None:
        """Returns when all of the predictor's pods are new and ready."""
        self.kubectl("rollout", "status", f"deployment/{self.release}-predictor", "--timeout=180s")

    def wait_for_job(self, name: str) -> str:
        """Waits for a Job's end; returns what its last container printed.

        Raises:
            FeedrankError: it failed, or took too long.
        """
        deadline = time.monotonic() + JOB_SECONDS
        while time.monotonic() < deadline:
            status = self.get("job", name)["status"]
            if status.get("succeeded"):
                return self.kubectl("logs", f"job/{name}")
            if any(c["type"] == "Failed" and c["status"] == "True" for c in status.get("conditions", [])):
                logs = self.kubectl("logs", f"job/{name}", "--all-containers", "--tail=30")
                raise FeedrankError(f"job {name} failed:\n{logs}")
            time.sleep(POLL_SECONDS)
        raise FeedrankError(f"job {name} did not end within {JOB_SECONDS} s; kubectl describe job {name}")

    def run_job(self, name: str, *, cron_job: str, command: list[str] | None = None, **environment: str) -> str:
        """Starts a Job and waits for its end; returns what it printed."""
        self.start_job(name, cron_job=cron_job, command=command, **environment)
        return self.wait_for_job(name)

    @contextlib.contextmanager
    def predictor(self) -> Iterator[str]:
        """The predictor's Service on a local port for as long as the block lasts; yields its address."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = ["kubectl", "--context", CONTEXT, "--namespace", self.namespace, "port-forward"]
        forward = subprocess.Popen(
            [*command, f"service/{self.release}-predictor", f"{port}:80"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_answering(url)
            yield url
        finally:
            forward.terminate()
            forward.wait()

    def served_version(self) -> str:
        """What the predictor says."""
        with self.predictor() as url, Client(url) as client:
            return str(client.health()["model_version"])


def _run(*command: str, text: str | None = None) -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise FeedrankError(f"{command[0]} is not on the PATH; install it, then try again") from error
    if done.returncode:
        raise FeedrankError(f"{' '.join(command[:8])} …: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _wait_until_answering(url: str) -> None:
    deadline = time.monotonic() + 60
    with Client(url) as client:
        while True:
            try:
                client.health()
            except PredictionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return


def is_ready(item: Any) -> bool:
    """Whether an object's conditions say so."""
    conditions = item.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def install(cluster: Cluster, *values: str) -> None:
    """Installs or upgrades the release."""
    cluster.helm(
        "upgrade", cluster.release, CHART, "--install", "--values", VALUES, "--wait", "--timeout", "5m", *values
    )


def make_namespace(cluster: Cluster) -> None:
    """Makes the namespace, which admits pods of the standard "restricted" only."""
    metadata = {"name": cluster.namespace, "labels": RESTRICTED}
    cluster.kubectl("apply", "--filename", "-", content={"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
