"""The live predictor of a policy: its process, and rankings over HTTP, many at a time."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa

from feedrank import delta, schema
from feedrank.client import request_body
from feedrank.clock import CLOCK_VARIABLE, ClockFile
from feedrank.data.generator.population import Ints
from feedrank.errors import FeedrankError
from feedrank.simulation.policies import order_of, to_utc
from feedrank.simulation.visits import Visits

CONCURRENCY = 16
"""Requests on their way at a time, which the predictor's clock gives the time of the first."""
DEADLINE_SECONDS = 120.0
POLL_SECONDS = 0.05
SETTINGS = {
    "LOG__FILE_INTERVAL_SECONDS": "1",
    "LOG__COMMIT_INTERVAL_SECONDS": "1",
    "DRAIN__DELAY_SECONDS": "0",
    "LIMITS__MAX_QUEUE_DELAY_MS": "60000",
}
"""A simulated day takes seconds, and a visit that is not served would be noise between the policies."""


@dataclass(frozen=True)
class Predictor:
    """A running predictor. It implements `Policy`."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    """Its prediction log."""
    output: Path
    """What it prints."""
    clock: ClockFile
    """By which it stamps what it logs."""

    def rank(self, visits: Visits) -> Ints:
        """See `Policy`."""
        return order_of(visits.candidates, asyncio.run(self._rank_all(visits)))

    def learn(self, interactions: pa.Table) -> None:
        """Nothing: the loop trains it, or nobody does."""

    def reload(self) -> None:
        """Makes it look for a new model or snapshot, and waits for it.

        Raises:
            FeedrankError: it can't use what is there.
        """
        answer = httpx.post(f"{self.url}/admin/reload", timeout=DEADLINE_SECONDS)
        if answer.status_code != 200:
            raise FeedrankError(f"{self.url}: the new model is refused: {answer.text}")
        if problem := answer.json().get("snapshot_problem"):
            raise FeedrankError(f"{self.url}: the new snapshot is refused: {problem}")

    def wait_until(self, *, ready: bool) -> None:
        """Waits until it answers; with `ready`, until its model is loaded.

        Raises:
            FeedrankError: it ended, or the deadline passed.
        """
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health").status_code == 200 or not ready:
                    return
            time.sleep(POLL_SECONDS)
        raise FeedrankError(f"{self.url}: the predictor is not ready; see {self.output}")

    def wait_logged(self, day: date, *, rows: int) -> None:
        """Waits until the log holds so many rows of a day.

        Raises:
            FeedrankError: it does not by the deadline.
        """
        found = 0
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            days = delta.open_table(self.log).days() if delta.is_table(self.log) else {}
            found = days[day].rows if day in days else 0
            if found >= rows:
                return
            time.sleep(POLL_SECONDS)
        raise FeedrankError(
            f"{self.log}: {day} has {found} rows of {rows} after {DEADLINE_SECONDS:.0f} s; see {self.output}"
        )

    async def _rank_all(self, visits: Visits) -> Ints:
        ranked = np.empty_like(visits.candidates)

        async def work(client: httpx.AsyncClient, row: int) -> None:
            body = request_body(
                int(visits.user_ids[row]),
                visits.candidates[row].tolist(),
                device=schema.DEVICES[visits.devices[row]],  # type: ignore[arg-type]
                timestamp=to_utc(int(visits.times_us[row])),
            )
            answer = await client.post("/predict", json=body)
            if answer.status_code != 200:
                raise FeedrankError(f"{self.url}: refused with {answer.status_code}: {answer.text}")
            ranked[row] = [item["item_id"] for item in json.loads(answer.content)["predictions"]]

        async with httpx.AsyncClient(base_url=self.url, timeout=DEADLINE_SECONDS) as client:
            for first in range(0, len(visits), CONCURRENCY):
                rows = range(first, min(first + CONCURRENCY, len(visits)))
                self.clock.set(int(visits.times_us[first]))
                await asyncio.gather(*(work(client, row) for row in rows))
        return ranked


@contextlib.contextmanager
def running_predictor(model: Path, *, folder: Path, snapshot: Path, port: int) -> Iterator[Predictor]:
    """Starts a predictor for a model folder (or a link to one) and ends it with the block.

    Args:
        model: may still be missing.
        folder: for its log and output.
        snapshot: the platform's online features, refreshed from day to day; must exist.
        port: on the loopback address.
    """
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "predictor.log"
    command = [sys.executable, "-m", "serving", "--model-dir", str(model), "--snapshot", str(snapshot)]
    command += ["--host", "127.0.0.1", "--http-port", str(port), "--grpc-port", "0"]
    command += ["--log-dir", str(folder / "predictions"), "--spool-dir", str(folder / "spool")]
    environment = os.environ | {f"FEEDRANK__SERVING__{key}": value for key, value in SETTINGS.items()}
    clock = ClockFile.create(folder / "clock", time_us=0)
    environment[CLOCK_VARIABLE] = str(folder / "clock")
    with output.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, env=environment)
    try:
        yield Predictor(f"http://127.0.0.1:{port}", process, folder / "predictions", output, clock)
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
