"""Starts and stops the servers that `predict.py` measures."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

START_SECONDS = 120
POLL_SECONDS = 0.02


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    port: int
    path: str
    """Where requests go."""
    start_seconds: float
    folder: Path

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def resident_gib(self) -> float:
        """Proportional set size of the server and its helpers: shared pages count once."""
        root = psutil.Process(self.process.pid)
        return float(sum(p.memory_full_info().pss for p in (root, *root.children(recursive=True))) / 2**30)

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)

    def kill_all(self) -> None:
        """SIGKILL for the server and its helpers at once."""
        root = psutil.Process(self.process.pid)
        for process in (*root.children(recursive=True), root):
            process.kill()
        self.process.wait()


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: list[str], *, port: int, path: str, ready: str, folder: Path, environment: dict[str, str]
) -> Iterator[Server]:
    """A server from when it answers `ready` with 200 until the block ends.

    Raises:
        RuntimeError: it ended before, or took too long.
    """
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with (folder / "output").open("ab") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env=os.environ | environment)
    server = Server(process, port, path, 0.0, folder)
    try:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(server.url + ready).status_code == httpx.codes.OK:
                    break
            if process.poll() is not None or time.perf_counter() - started > START_SECONDS:
                end = (folder / "output").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the server did not start; the end of its output:\n{end}")
            time.sleep(POLL_SECONDS)
        server.start_seconds = time.perf_counter() - started
        yield server
    finally:
        if process.poll() is None:
            server.terminate()


@contextlib.contextmanager
def predictor(folder: Path, model: Path, **settings: str) -> Iterator[Server]:
    """Ours, one worker, logging on; `settings` are keys below FEEDRANK__SERVING__."""
    port = free_port()
    command = [sys.executable, "-m", "serving", "--model-dir", str(model), "--http-port", str(port), "--grpc-port", "0"]
    command += ["--log-dir", str(folder / "log"), "--spool-dir", str(folder / "spool")]
    environment = {f"FEEDRANK__SERVING__{key}": value for key, value in settings.items()}
    environment = {"FEEDRANK__SERVING__DRAIN__DELAY_SECONDS": "0.5"} | environment
    with running(
        command, port=port, path="/predict", ready="/v2/health/ready", folder=folder, environment=environment
    ) as server:
        yield server


@contextlib.contextmanager
def peer(folder: Path, kind: str, model: Path | None = None) -> Iterator[Server]:
    """A kind of `predict_peers.py`; the stock one needs a model."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.predict_peers", kind, "--port", str(port)]
    if model is not None:
        command += ["--bundle", str(model)]
    path = "/v1/models/ranker:predict" if kind == "stock" else "/predict"
    with running(command, port=port, path=path, ready="/", folder=folder, environment={}) as server:
        yield server
