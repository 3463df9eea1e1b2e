"""`make kind-demo`: the whole story on a kind cluster, from an empty namespace to a rollback.

The world is synthetic and ends yesterday. Its first weeks train the first champion; then the users' taste and devices
change. Requests of the last days are replayed against the predictor; the monitor finds the drift in its log and starts
a retraining, which learns from the days that arrived and promotes the better model. At last one command rolls it back.
"""

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import BaseModel
from rich.table import Table

from feedrank import storage
from feedrank.cli.console import console
from feedrank.client import Client, PredictionError
from feedrank.config.data import DriftScenario, GeneratorConfig
from feedrank.data.generator import generate
from feedrank.errors import FeedrankError
from pipelines.replay import Replayed, replay
from serving.kserve_target import SERVICE_LABEL

CONTEXT, NAMESPACE, RELEASE = "kind-feed", "feedrank", "feedrank"
CHART, VALUES = "helm/feedrank", "helm/feedrank/values-kind.yaml"
DIRECTORY = Path("runs/kind-demo")
CALM_DAYS, DRIFTED_DAYS, REPLAYED_DAYS = 40, 12, 3
"""What the platform shows follows the users' new taste after a week."""
ARRIVALS = "/data/arrived"
JOB_SECONDS = 900
POLL_SECONDS = 2.0


class KindDemoSummary(BaseModel):
    """`summary.json`: every figure that the demo shows."""

    seconds: float
    step_seconds: dict[str, float]
    first_version: str
    replayed: Replayed
    monitor: str
    retrained_version: str
    rolled_back_to: str


class Cluster:
    """kubectl and helm on one namespace."""

    def kubectl(self, *arguments: str, content: Any = None) -> str:
        """Runs kubectl; `content` is given as JSON on its standard input.

        Raises:
            FeedrankError: with what it said.
        """
        return _run(
            "kubectl", "--context", CONTEXT, "--namespace", NAMESPACE, *arguments,
            text=None if content is None else json.dumps(content),
        )  # fmt: skip

    def helm(self, *arguments: str) -> str:
        """Runs helm."""
        return _run("helm", "--kube-context", CONTEXT, "--namespace", NAMESPACE, *arguments)

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
        template = self.get("cronjob", f"{RELEASE}-{cron_job}")["spec"]["jobTemplate"]
        container = template["spec"]["template"]["spec"]["containers"][0]
        if command is not None:
            container["command"] = command
        container["env"] = [*container.get("env", []), *({"name": k, "value": v} for k, v in environment.items())]
        template["spec"]["backoffLimit"] = 0
        self.create_job(name, template["spec"], labels=template.get("metadata", {}).get("labels", {}))

    def create_job(self, name: str, spec: Any, *, labels: Mapping[str, str] = MappingProxyType({})) -> None:
        """Creates a Job, in place of an earlier one of the name."""
        self.kubectl("delete", "job", name, "--ignore-not-found")
        metadata = {"name": name, "labels": dict(labels)}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
        self.kubectl("create", "--filename", "-", content=job)

    def predictor_pods(self) -> list[Any]:
        """The pods of the InferenceService."""
        return list(self.get("pod", "--selector", f"{SERVICE_LABEL}={RELEASE}")["items"])

    def wait_for_rollout(self) -> None:
        """Returns when all of the predictor's pods are new and ready."""
        self.kubectl("rollout", "status", f"deployment/{RELEASE}-predictor", "--timeout=180s")

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
        command = ["kubectl", "--context", CONTEXT, "--namespace", NAMESPACE, "port-forward"]
        forward = subprocess.Popen(
            [*command, f"service/{RELEASE}-predictor", f"{port}:80"],
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
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
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


def world(today: date) -> GeneratorConfig:
    """The demo's world: it ends yesterday, and other users come to it for the last days."""
    drift_start = today - timedelta(days=DRIFTED_DAYS)
    return GeneratorConfig(
        num_users=2_000,
        num_items=1_500,
        num_interactions=300_000,
        start_date=drift_start - timedelta(days=CALM_DAYS),
        end_date=today - timedelta(days=1),
        drifts=tuple(DriftScenario(kind=kind, start_date=drift_start) for kind in ("taste_shift", "device_mix")),
    )


def install(cluster: Cluster, *values: str) -> None:
    """Installs or upgrades the release."""
    cluster.helm("upgrade", RELEASE, CHART, "--install", "--values", VALUES, "--wait", "--timeout", "5m", *values)


class Demo:
    """The steps, each timed."""

    def __init__(self, cluster: Cluster, today: date) -> None:
        self.cluster, self.world = cluster, world(today)
        self.first_drifted = today - timedelta(days=DRIFTED_DAYS)
        self.first_replayed = today - timedelta(days=REPLAYED_DAYS)
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Says what is done, and notes how long it took."""
        console.print(f"  {name} …", style="dim", highlight=False)
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started

    def play(self) -> KindDemoSummary:
        """From the installation to the rollback."""
        started, cluster = time.perf_counter(), self.cluster
        with self.step("install the chart"):
            _make_namespace(cluster)
            install(cluster, "--set", "bootstrap.enabled=false")
        with self.step("make the world"):
            generator = yaml.safe_dump(self.world.model_dump(mode="json"), default_flow_style=True, width=10**6)
            command = ["feedrank", "generate", "--run-dir", "/data/world"]
            cluster.run_job("world", cron_job="retraining", command=command, FEEDRANK__DATA__GENERATOR=generator)
            self._arrive("calm-days", self.world.start_date, CALM_DAYS)
        with self.step("train and promote the first model"):
            install(cluster, "--values", self._bootstrap_values())
            (job,) = cluster.get("job", "--selector", "app.kubernetes.io/component=bootstrap")["items"]
            cluster.wait_for_job(job["metadata"]["name"])
        first = cluster.served_version()
        with self.step("helm test"):
            cluster.helm("test", RELEASE)
        with self.step("replay the requests of the last days"), cluster.predictor() as url:
            replayed = replay(url, generate(self.world), since=self.first_replayed)
        with self.step("ingest the days that arrived, renew the online features"):
            self._arrive("drifted-days", self.first_drifted, DRIFTED_DAYS)
            cluster.run_job("etl-now", cron_job="etl")
            self._wait_for_features()
        with self.step("monitor"):
            said = cluster.run_job("monitor-now", cron_job="monitor")
        console.print(said.strip(), highlight=False)
        with self.step("retrain, compare and promote"):
            retrained = self._wait_for_retraining(first)
        with self.step("roll back"):
            command = ["feedrank", "rollback", "--why", "the end of the demo"]
            cluster.run_job("rollback", cron_job="retraining", command=command)
        return KindDemoSummary(
            seconds=time.perf_counter() - started,
            step_seconds=self.seconds,
            first_version=first,
            replayed=replayed,
            monitor=said.strip().splitlines()[0],
            retrained_version=retrained,
            rolled_back_to=cluster.served_version(),
        )

    def _arrive(self, name: str, first: date, days: int) -> None:
        """Puts days of the world where interactions arrive."""
        folders = [f"/data/world/interactions/date={first + timedelta(days=day)}" for day in range(days)]
        script = f'mkdir -p {ARRIVALS} && cp --recursive --link "$@" {ARRIVALS}'
        self.cluster.run_job(name, cron_job="retraining", command=["sh", "-euc", script, "arrive", *folders])

    def _wait_for_features(self) -> None:
        """Returns when the predictor uses features of all days.

        Raises:
            FeedrankError: it does not within a minute.
        """
        deadline = time.monotonic() + 60
        with self.cluster.predictor() as url, Client(url) as client:
            while (cutoff := client.health()["snapshot_cutoff"]) < self.world.end_date.isoformat():
                if time.monotonic() > deadline:
                    raise FeedrankError(f"the predictor still uses features as of {cutoff}; see its /health")
                time.sleep(POLL_SECONDS)

    def _bootstrap_values(self) -> str:
        values = {"bootstrap": {"enabled": True, "source": "ingest"}, "interactions": {"inputs": [ARRIVALS]}}
        path = DIRECTORY / "values.yaml"
        storage.write_text(path, yaml.safe_dump(values))
        return str(path)

    def _wait_for_retraining(self, first: str) -> str:
        """Waits for the Job that the monitor started.

        Raises:
            FeedrankError: there is none, it failed, or the first model is still served.
        """
        jobs = self.cluster.get("job", "--selector", "app.kubernetes.io/component=retraining")["items"]
        started = [j["metadata"]["name"] for j in jobs if "feedrank/reasons" in j["metadata"].get("annotations", {})]
        if not started:
            raise FeedrankError("the monitor has not started a retraining; kubectl logs job/monitor-now")
        said = self.cluster.wait_for_job(started[-1])
        console.print(said.strip(), highlight=False)
        served = self.cluster.served_version()
        if served == first:
            raise FeedrankError(f"the retrained model was not promoted, {first} is still served")
        return served


def _make_namespace(cluster: Cluster) -> None:
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    cluster.kubectl("apply", "--filename", "-", content=namespace)


def main() -> None:
    """Runs the demo and shows its summary."""
    console.rule("feedrank on kind")
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    summary = Demo(Cluster(), datetime.now(UTC).date()).play()
    storage.write_text(DIRECTORY / "summary.json", summary.model_dump_json(indent=2))
    table = Table("step", "seconds")
    for step, seconds in summary.step_seconds.items():
        table.add_row(step, f"{seconds:.1f}")
    table.add_row("all", f"{summary.seconds:.1f}", style="bold")
    console.print(table)
    console.print(
        f"served: {summary.first_version}, then {summary.retrained_version}, then {summary.rolled_back_to} again; "
        f"{summary.replayed.requests:,} requests, {summary.replayed.failed} failed",
        highlight=False,
    )
    console.print(f"figures: {DIRECTORY / 'summary.json'}", highlight=False)


if __name__ == "__main__":
    main()
