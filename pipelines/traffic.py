"""The demo's second act: a real predictor with a registered model, real requests, and what its log holds of them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import BaseModel
from rich.table import Table

from feedrank import schema
from feedrank.cli.console import console
from feedrank.client import Client, PredictionError
from feedrank.errors import FeedrankError
from feedrank.model.bundle import ModelBundle, load_bundle
from feedrank.prediction_log import read_log

CONNECTIONS = 2
ITEMS_PER_REQUEST = 100
START_SECONDS = 60.0
SHOWN_ROWS = 5
SHOWN_COLUMNS = schema.PREDICTION_KEYS.names


class Traffic(BaseModel):
    """What the clients saw and what the log kept."""

    requests: int
    failed: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    logged_rows: int


def serve_traffic(bundle: Path, *, directory: Path, seconds: float) -> Traffic:
    """Starts a predictor, ranks random items for random known users, stops it, and reads its log below `directory`."""
    log = directory / "predictions"
    rows_before = read_log(log).num_rows if log.is_dir() else 0
    with predictor(bundle, log=log, spool=directory / "prediction-spool") as url:
        started = time.perf_counter()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            model = load_bundle(bundle)
            outcomes = list(pool.map(lambda seed: _client(url, model, seed, seconds), range(CONNECTIONS)))
        elapsed = time.perf_counter() - started
    latencies = np.concatenate([latency for latency, _ in outcomes])
    logged = read_log(log)
    _show(logged.slice(rows_before, SHOWN_ROWS))
    return Traffic(
        requests=len(latencies),
        failed=sum(failed for _, failed in outcomes),
        requests_per_second=len(latencies) / elapsed,
        p50_ms=float(np.percentile(latencies, 50)),
        p99_ms=float(np.percentile(latencies, 99)),
        logged_rows=logged.num_rows - rows_before,
    )


@contextlib.contextmanager
def predictor(bundle: Path, *, log: Path, spool: Path) -> Iterator[str]:
    """A predictor on a free port for as long as the block lasts; yields its URL.

    Raises:
        FeedrankError: it did not become ready; its output is below the log's folder.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    output = log.with_name("predictor.log")
    command = [sys.executable, "-m", "serving", "--model-dir", str(bundle), "--host", "127.0.0.1", "--grpc-port", "0"]
    command += ["--http-port", str(port), "--log-dir", str(log), "--spool-dir", str(spool)]
    environment = {**os.environ, "FEEDRANK__SERVING__DRAIN__DELAY_SECONDS": "0"}
    with output.open("wb") as sink:
        process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, process, output)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    with Client(url) as client:
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(PredictionError):
                if client.health().get("model_version"):
                    return
            time.sleep(0.1)
    raise FeedrankError(f"the predictor is not ready after {START_SECONDS:.0f} s; its output is in {output}")


def _client(url: str, model: ModelBundle, seed: int, seconds: float) -> tuple[list[float], int]:
    """Latencies (ms) of one connection's requests, and how many failed."""
    rng = np.random.default_rng(seed)
    users, items = model.snapshot.users.ids, model.snapshot.items.ids
    latencies, failed = [], 0
    deadline = time.perf_counter() + seconds
    with Client(url) as client:
        while time.perf_counter() < deadline:
            user = int(rng.choice(users))
            wanted = np.unique(rng.choice(items, ITEMS_PER_REQUEST)).tolist()
            started = time.perf_counter()
            try:
                client.rank(user, wanted)
            except PredictionError:
                failed += 1
            latencies.append((time.perf_counter() - started) * 1000)
    return latencies, failed


def _show(rows: pa.Table) -> None:
    table = Table(*SHOWN_COLUMNS, title="first rows of the prediction log")
    for row in rows.select(SHOWN_COLUMNS).to_pylist():
        table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)
