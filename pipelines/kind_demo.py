"""`make kind-demo`: the whole story on a kind cluster, from an empty namespace to a rollback.

The world is synthetic and ends yesterday. Its first weeks train the first champion; then the users' taste and devices
change. Requests of the last days are replayed against the predictor; the monitor finds the drift in its log and starts
a retraining, which learns from the days that arrived and promotes the better model. At last one command rolls it back.
"""

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import yaml
from pydantic import BaseModel
from rich.table import Table

from feedrank import storage
from feedrank.cli.console import console
from feedrank.client import Client
from feedrank.config.data import DriftScenario, GeneratorConfig
from feedrank.data.generator import generate
from feedrank.errors import FeedrankError
from pipelines import kind_alerts, kind_clock
from pipelines.kind_cluster import POLL_SECONDS, RELEASE, Cluster, install, make_namespace
from pipelines.replay import Replayed, replay

DIRECTORY = Path("runs/kind-demo")
CALM_DAYS, DRIFTED_DAYS, REPLAYED_DAYS = 32, 20, 3
"""What the platform shows follows the users' new taste after a week. A retraining as shipped learns from all of these
days, so enough of them must be after the drift for a gain that is beyond chance."""
ARRIVALS = "/data/arrived"


class KindDemoSummary(BaseModel):
    """`summary.json`: every figure that the demo shows."""

    seconds: float
    step_seconds: dict[str, float]
    first_version: str
    replayed: Replayed
    monitor: str
    alerts: list[str]
    retrained_version: str
    rolled_back_to: str


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
        values = self._values()
        with self.step("install the chart"):
            make_namespace(cluster)
            install(cluster, "--values", values, "--set", "bootstrap.enabled=false")
            kind_alerts.start(cluster)
        with self.step("make the world"):
            generator = yaml.safe_dump(self.world.model_dump(mode="json"), default_flow_style=True, width=10**6)
            command = ["feedrank", "generate", "--run-dir", "/data/world"]
            cluster.run_job("world", cron_job="retraining", command=command, FEEDRANK__DATA__GENERATOR=generator)
            self._arrive("calm-days", self.world.start_date, CALM_DAYS)
        with self.step("train and promote the first model"):
            install(cluster, "--values", values)
            (job,) = cluster.get("job", "--selector", "app.kubernetes.io/component=bootstrap")["items"]
            cluster.wait_for_job(job["metadata"]["name"])
        first = cluster.served_version()
        with self.step("helm test"):
            cluster.helm("test", RELEASE)
        with self.step("replay the requests of the last days"):
            replayed = self._replay()
        with self.step("ingest the days that arrived, renew the online features"):
            self._arrive("drifted-days", self.first_drifted, DRIFTED_DAYS)
            cluster.run_job("etl-now", cron_job="etl")
            self._wait_for_features()
        with self.step("monitor"):
            said = cluster.run_job("monitor-now", cron_job="monitor")
        console.print(said.strip(), highlight=False)
        alerts = kind_alerts.delivered(cluster)
        if not alerts:
            raise FeedrankError("the monitor's alert has not arrived; kubectl logs job/monitor-now")
        console.print(f"Slack's stand-in got: {alerts[0]}", highlight=False)
        with self.step("retrain, compare and promote"):
            retrained = self._wait_for_retraining(first)
        with self.step("roll back"):
            cluster.start_from_cron_job("rollback-now", cron_job="rollback", FEEDRANK_WHY="the end of the demo")
            cluster.wait_for_job("rollback-now")
        return KindDemoSummary(
            seconds=time.perf_counter() - started,
            step_seconds=self.seconds,
            first_version=first,
            replayed=replayed,
            monitor=next(line for line in said.splitlines() if line.startswith("Model ")),
            alerts=alerts,
            retrained_version=retrained,
            rolled_back_to=cluster.served_version(),
        )

    def _replay(self) -> Replayed:
        """Asks the predictor what a product asked in the last days, and at those times."""
        begins = datetime(self.first_replayed.year, self.first_replayed.month, self.first_replayed.day, tzinfo=UTC)
        with kind_clock.rehearsal(self.cluster, begins=begins) as set_clock, self.cluster.predictor() as url:
            return replay(url, generate(self.world), since=self.first_replayed, set_clock=set_clock)

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

    def _values(self) -> str:
        values = {
            "bootstrap": {"enabled": True, "source": "ingest"},
            "interactions": {"inputs": [ARRIVALS]},
            **kind_alerts.VALUES,
        }
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


def main() -> None:
    """Runs the demo and shows its summary."""
    console.rule("feedrank on kind")
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    try:
        summary = Demo(Cluster(), datetime.now(UTC).date()).play()
    except FeedrankError as failure:
        console.print(f"failed: {failure}", style="bold red", highlight=False)
        raise SystemExit(1) from failure
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
