"""The platform on one machine as the chart installs it: a volume of limited size, the commands, the predictor.

The configuration is `config/*.yaml`, to the letter. What the chart fills in (paths and addresses) comes by the
environment. The registry's database lies off the volume, as that of the chart's MLflow does.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import httpx

from benchmarks.month.clock import MonthClock
from benchmarks.month.schedule import backoff_limit
from benchmarks.month.told import Told
from feedrank.features.snapshot import load_info
from feedrank.simulation.predictor import free_port

PROJECT = Path(__file__).parents[2]
DEADLINE_SECONDS = 120.0
SNAPSHOT_SECONDS = 30.0
POLL_SECONDS = 0.1
FILE_SECONDS = 0.3
"""In which the predictor sees that a file of its log is due."""
COMMIT_SECONDS = 61
"""More than a commit of the log waits for."""


@dataclass(frozen=True)
class Outcome:
    """What became of a command."""

    argv: tuple[str, ...]
    at: datetime
    code: int
    seconds: float
    text: str


@dataclass
class Platform:
    """All that a release has. `running` starts it."""

    folder: Path
    clock: MonthClock
    told: Told
    volume_mb: int
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.volume = self.folder / "data"
        self.online, self.exports = self.volume / "online", self.volume / "exports"
        self.config = self.folder / "config"
        self.url = f"http://127.0.0.1:{free_port()}"
        self._predictor: subprocess.Popen[bytes] | None = None
        places = {
            "SERVING__SNAPSHOT": self.online / "current",
            "SERVING__LOG__DIRECTORY": self.volume / "predictions",
            "SERVING__LOG__SPOOL_DIRECTORY": self.folder / "spool",
            "SERVING__RELOAD__CACHE_DIRECTORY": self.folder / "model-cache",
            "MODEL__REGISTRY__TRACKING_URI": f"sqlite:///{self.folder}/mlflow/mlflow.db",
            "PROMOTION__STATE_DIRECTORY": self.volume / "promotion",
            "PROMOTION__TARGET__DIRECTORY": self.volume / "served",
            "PROMOTION__TARGET__URL": self.url,
            "MONITORING__PERFORMANCE__METRICS_URL": f"{self.url}/metrics",
        }
        self.environment = {f"FEEDRANK__{key}": str(value) for key, value in places.items()} | {
            "FEEDRANK_CONFIG_DIR": str(self.config),
            "FEEDRANK_SLACK_WEBHOOK": self.told.url,
            "PYTHONPATH": str(PROJECT),
        }

    @contextlib.contextmanager
    def running(self) -> Iterator["Platform"]:
        """Mounts the volume and starts what runs commands; needs root."""
        for path in (self.volume, self.folder / "spool", self.folder / "mlflow"):
            path.mkdir(parents=True)
        shutil.copytree(PROJECT / "config", self.config)
        with contextlib.ExitStack() as stack:
            size = f"size={self.volume_mb}m"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", self.volume], check=True)
            stack.callback(subprocess.run, ["umount", "--lazy", self.volume], check=False)
            self.exports.mkdir()
            warm = [sys.executable, "-m", "benchmarks.month.warm"]
            environment = os.environ | self.clock.environment | {"PYTHONPATH": str(PROJECT)}
            self._warm = stack.enter_context(
                subprocess.Popen(
                    warm,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=(self.folder / "warm.log").open("wb"),
                    env=environment,
                    text=True,
                )
            )
            self._answer()
            stack.callback(self.stop_predictor)
            yield self

    def run(self, *argv: str, environment: dict[str, str] | None = None) -> Outcome:
        """One `feedrank` command."""
        at, output = self.clock.now(), self.folder / "output.log"
        output.unlink(missing_ok=True)
        assert self._warm.stdin is not None
        request = {"argv": argv, "environment": environment or self.environment, "output": str(output)}
        self._warm.stdin.write(json.dumps(request) + "\n")
        self._warm.stdin.flush()
        answer = self._answer()
        outcome = Outcome(argv, at, answer["code"], answer["seconds"], output.read_text(errors="replace"))
        self.outcomes.append(outcome)
        with (self.folder / "commands.log").open("a") as log:
            log.write(f"### {at:%F %T} {' '.join(argv)}: {outcome.code} in {outcome.seconds:.1f} s ")
            log.write(f"({answer['cpu_seconds']:.1f} s CPU)\n{outcome.text}\n")
        return outcome

    def _answer(self) -> dict[str, float]:
        assert self._warm.stdout is not None
        answer: dict[str, float] = json.loads(self._warm.stdout.readline())
        return answer

    def job(self, name: str, *steps: list[str]) -> bool:
        """A Job of the chart: its pod's steps, and the pod again if one fails; whether it succeeded."""
        run_dir = ["--run-dir", str(self.volume)]
        for _ in range(1 + backoff_limit(name)):
            if all(self.run(*step, *run_dir).code == 0 for step in (["migrate"], *steps)):
                return True
        return False

    def first_model(self) -> bool:
        """The bootstrap."""
        steps = [["ingest", str(self.exports)], *([step] for step in ("validate", "features"))]
        steps += [[step] for step in ("train", "evaluate", "register")]
        promote = ["promote", "--if-none", "--who", "bootstrap", "--why", "the first model"]
        return self.job("bootstrap", *steps) and self.run(*promote).code == 0

    def etl(self) -> bool:
        """The nightly ETL."""
        features = ["features", "--publish", str(self.online)]
        return self.job("etl", ["ingest", str(self.exports)], ["validate", "--drift-expected"], features)

    def start_predictor(self) -> None:
        """As the chart's container does."""
        command = [sys.executable, "-m", "serving", "--model", str(self.volume / "served" / "current")]
        command += ["--host", "127.0.0.1", "--http-port", self.url.rpartition(":")[2], "--grpc-port", str(free_port())]
        environment = os.environ | self.environment | self.clock.predictor_environment
        with (self.folder / "predictor.log").open("ab") as sink:
            self._predictor = subprocess.Popen(command, stdout=sink, stderr=sink, env=environment, cwd=PROJECT)

    def stop_predictor(self) -> None:
        """As Kubernetes does."""
        if self._predictor is not None:
            self._predictor.terminate()
            self._predictor.wait()

    def health(self) -> dict[str, str | list[str]]:
        """What `/health` answers; empty while nothing does."""
        try:
            answer: dict[str, str | list[str]] = httpx.get(f"{self.url}/health", timeout=DEADLINE_SECONDS).json()
        except httpx.TransportError:
            return {}
        return answer

    def wait_ready(self) -> bool:
        """Whether a model is served by the deadline."""
        return self._until(lambda: self.health().get("status") in ("healthy", "degraded"))

    def wait_for_snapshot(self) -> None:
        """Until the predictor uses what is published, or has had the time for it."""
        published = load_info(self.online / "current").cutoff.isoformat()
        self._until(lambda: self.health().get("snapshot_cutoff") == published, seconds=SNAPSHOT_SECONDS)

    def wait_logged(self) -> None:
        """Lets the minutes pass after which the predictor has logged all that it answered."""
        for _ in range(10):
            time.sleep(FILE_SECONDS)
            self.clock.reach_later(seconds=COMMIT_SECONDS)
            if self._until(lambda: not self.pending_rows(), seconds=5.0):
                return

    def pending_rows(self) -> int:
        """Predictions that are not yet in the log."""
        text = httpx.get(f"{self.url}/metrics", timeout=DEADLINE_SECONDS).text
        rows = dict(re.findall(r"^feedrank_log_rows_(\w+)_total (\S+)", text, re.MULTILINE))
        queued, dropped, written, recovered = (
            float(rows.get(name, 0)) for name in ("queued", "dropped", "written", "recovered")
        )
        return int(queued - dropped - (written - recovered))

    @staticmethod
    def _until(reached: Callable[[], bool], *, seconds: float = DEADLINE_SECONDS) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if reached():
                return True
            time.sleep(POLL_SECONDS)
        return False

    def log_share(self) -> float:
        """Bytes of the prediction log, over those of the volume."""
        files = (path.stat().st_size for path in (self.volume / "predictions").rglob("*") if path.is_file())
        return sum(files) / shutil.disk_usage(self.volume).total
