"""Real predictors as processes, and small random models for them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.predict_bundle import Size, write_random_bundle
from feedrank.config.model import ModelConfig

ROOT = Path(__file__).resolve().parents[2]
SIZE = Size(users=200, items=500, interactions=20_000)
START_SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Predictor:
    """A running `python -m serving`."""

    process: subprocess.Popen[bytes]
    http_port: int
    grpc_port: int
    log_directory: Path
    output: Path
    host: str = "127.0.0.1"
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=10)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.http_port}"

    def predict(self, user_id: int, item_ids: list[int], **context: Any) -> httpx.Response:
        body: dict[str, Any] = {"user_id": user_id, "item_ids": item_ids}
        return self.http.post("/predict", json=body | ({"context": context} if context else {}))

    def health(self) -> dict[str, Any]:
        return self.http.get("/health").json()

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a Prometheus metric's samples that have the labels."""
        from prometheus_client.parser import text_string_to_metric_families

        text = self.http.get("/metrics").text
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    def wait(self, condition: Callable[[], Any], *, seconds: float = START_SECONDS) -> None:
        """Waits until a condition is true; shows the server's output when it does not become so."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.output.read_text()
            with contextlib.suppress(httpx.TransportError):
                if condition():
                    return
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds} s\n{self.output.read_text()}")

    def wait_listening(self) -> None:
        self.wait(lambda: self.http.get("/").status_code == 200)

    def wait_ready(self) -> None:
        self.wait(lambda: self.http.get("/v2/health/ready").status_code == 200)

    def stop(self) -> int:
        """SIGTERM; returns the exit code. One that doesn't end is killed, and fails the test."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.http.close()
        return code


@contextlib.contextmanager
def running(
    folder: Path,
    model: str | Path,
    *options: str,
    environment: dict[str, str] | None = None,
    ready: bool = True,
    url_host: str = "127.0.0.1",
    program: Sequence[str] = ("-m", "serving"),
) -> Iterator[Predictor]:
    """A predictor for as long as the block lasts, met at `url_host`."""
    folder.mkdir(parents=True, exist_ok=True)
    http_port, grpc_port = free_port(), free_port()
    command = [sys.executable, *program, "--model-dir", str(model), "--host", "127.0.0.1"]
    command += ["--http-port", str(http_port), "--grpc-port", str(grpc_port)]
    command += ["--log-dir", str(folder / "log"), "--spool-dir", str(folder / "spool"), *options]
    defaults = {
        "DRAIN__DELAY_SECONDS": "0.3",
        "LOG__FILE_INTERVAL_SECONDS": "0.5",
        "LOG__COMMIT_INTERVAL_SECONDS": "0.5",
        "RELOAD__POLL_SECONDS": "0.2",
        "LIMITS__MAX_QUEUE_DELAY_MS": "60000",  # a busy machine is no overload
    }
    wanted = {f"FEEDRANK__SERVING__{key}": value for key, value in (defaults | (environment or {})).items()}
    output = folder / "output"
    with output.open("wb") as sink:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | wanted, stdout=sink, stderr=sink)
    predictor = Predictor(process, http_port, grpc_port, folder / "log", output, url_host)
    try:
        predictor.wait_listening()
        if ready:
            predictor.wait_ready()
        yield predictor
    finally:
        if process.poll() is None:
            predictor.stop()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles by version: two of two_tower, one of deep_mlp."""
    root = tmp_path_factory.mktemp("models")
    kinds = {"v1.0.0": "two_tower", "v1.0.1": "two_tower", "v2.0.0": "deep_mlp"}
    return {
        version: write_random_bundle(
            root / version, config=ModelConfig(model_type=kind), size=SIZE, version=version, seed=seed
        )
        for seed, (version, kind) in enumerate(kinds.items())
    }


@pytest.fixture(scope="session")
def predictor(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Predictor]:
    """One predictor that all tests which leave it as it is share."""
    with running(tmp_path_factory.mktemp("predictor"), models["v1.0.0"]) as started:
        yield started


def log_lines(predictor: Predictor) -> list[dict[str, Any]]:
    """What the predictor wrote to its own log."""
    return [json.loads(line) for line in predictor.output.read_text().splitlines()]
