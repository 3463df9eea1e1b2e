"""Load generators: wrk for the greatest throughput, and an open-loop one that does not omit what a slow server delays.

The open-loop generator sends each request at its own time, whatever became of those before it, and measures from
that time: a request that finds no free connection waits, and its wait counts. It is a process of its own:
`python -m benchmarks.predict_load --port 8080 --rate 1000 --seconds 10`.
"""

import argparse
import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import uvloop

ITEMS = 100


def request_body(user_id: int, item_ids: Iterable[int]) -> bytes:
    """The JSON of a request."""
    context = {"device": "mobile", "timestamp": "2024-11-16T10:30:00Z"}
    return json.dumps({"user_id": user_id, "item_ids": [int(i) for i in item_ids], "context": context}).encode()


def random_bodies(count: int, *, users: int, items: int, seed: int = 0) -> list[bytes]:
    """Requests of random users and distinct items."""
    rng = np.random.default_rng(seed)
    return [request_body(int(rng.integers(users)), rng.choice(items, ITEMS, replace=False)) for _ in range(count)]


def requests_per_second(
    port: int, path: str, bodies: Sequence[bytes], *, folder: Path, seconds: float = 5, connections: int = 4
) -> float:
    """What wrk gets from a server that answers every request with 200.

    Raises:
        RuntimeError: an answer was not 200.
    """
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: apt-get install wrk")
    script = folder / "post.lua"
    texts = ",\n".join("[==[" + body.decode() + "]==]" for body in bodies)
    script.write_text(
        f"local bodies = {{\n{texts}\n}}\nlocal requests, n = {{}}, 0\n"
        "function init(args)\n  for i, body in ipairs(bodies) do\n"
        f'    requests[i] = wrk.format("POST", "{path}", {{["Content-Type"] = "application/json"}}, body)\n  end\nend\n'
        "function request()\n  n = n % #requests + 1\n  return requests[n]\nend\n"
    )
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if bad := re.search(r"Non-2xx or 3xx responses: (\d+)", output):
        total = int(re.search(r"(\d+) requests in", output)[1])  # type: ignore[index]
        if int(bad[1]) > total / 100:
            raise RuntimeError(f"{bad[1]} of {total} answers on port {port} were no success")
    match = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert match is not None, output
    return float(match[1])


@dataclass
class LoadResult:
    """What an open-loop run saw."""

    offered: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    """Answers by status, and `failed` for requests without one."""
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    """Of 200 answers, from the time the request was due."""
    late_p99_ms: float = 0.0
    """How late the generator itself was."""
    achieved_per_second: float = 0.0


class _Connection(asyncio.Protocol):
    """One request at a time over one connection."""

    def __init__(self, load: "_OpenLoop") -> None:
        self._load = load
        self._buffer = bytearray()
        self._due = 0.0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is no subclass
        self._load.free(self)

    def send(self, request: bytes, due: float) -> None:
        assert self._transport is not None
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        length = int(head[head.index(b"content-length: ") + 16 :].split(b"\r\n", 1)[0])
        if len(self._buffer) < end + 4 + length:
            return
        self._buffer.clear()
        due, self._due = self._due, 0.0
        self._load.answered(head[9:12].decode(), due)
        if b"connection: close" in head:
            assert self._transport is not None
            self._transport.close()
        else:
            self._load.free(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._load.lost(self, had_request=self._due > 0)


class _OpenLoop:
    def __init__(self, host: str, port: int, requests: Sequence[bytes], rate: float, seconds: float) -> None:
        self._host, self._port, self._requests = host, port, requests
        self._interval, self._total = 1 / rate, round(rate * seconds)
        self._idle: deque[_Connection] = deque()
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._statuses: Counter[str] = Counter()
        self._latencies: list[float] = []
        self._late: list[float] = []
        self._open = 0
        self._stop = threading.Event()

    def free(self, connection: _Connection) -> None:
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self._idle.append(connection)

    def answered(self, status: str, due: float) -> None:
        self._statuses[status] += 1
        if status == "200":
            self._latencies.append(time.perf_counter() - due)

    def lost(self, connection: _Connection, *, had_request: bool) -> None:
        self._open -= 1
        if had_request:
            self._statuses["failed"] += 1
        if connection in self._idle:
            self._idle.remove(connection)
        asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: _Connection(self), self._host, self._port)
            self._open += 1
        except OSError:
            await asyncio.sleep(0.01)
            if self._open == 0 and self._waiting:  # nobody listens any more
                self._statuses["refused"] += len(self._waiting)
                self._waiting.clear()

    async def run(self, connections: int) -> LoadResult:
        await asyncio.gather(*(self._connect() for _ in range(connections)))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop.set)
        start = time.perf_counter()
        for number in range(self._total):
            if self._stop.is_set():
                self._total = number
                break
            due = start + number * self._interval
            delay = due - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            elif number % 16 == 0:
                await asyncio.sleep(0)  # behind: let answers in between
            self._late.append(max(time.perf_counter() - due, 0.0))
            request = self._requests[number % len(self._requests)]
            if self._idle:
                self._idle.popleft().send(request, due)
            else:
                self._waiting.append((request, due))
        deadline = time.perf_counter() + 5
        while sum(self._statuses.values()) < self._total and time.perf_counter() < deadline:
            await asyncio.sleep(0.01)
        return self._result(time.perf_counter() - start)

    def _result(self, seconds: float) -> LoadResult:
        latencies = np.array(self._latencies or [0.0]) * 1000
        answered = sum(self._statuses.values())
        if answered < self._total:
            self._statuses["failed"] += self._total - answered
        return LoadResult(
            offered=self._total,
            statuses=dict(self._statuses),
            p50_ms=round(float(np.percentile(latencies, 50)), 3),
            p99_ms=round(float(np.percentile(latencies, 99)), 3),
            max_ms=round(float(latencies.max()), 3),
            late_p99_ms=round(float(np.percentile(np.array(self._late) * 1000, 99)), 3),
            achieved_per_second=round(answered / seconds, 1),
        )


def start_open_loop(
    port: int, *, rate: float, seconds: float, users: int, items: int, connections: int = 64
) -> subprocess.Popen[str]:
    """Starts the generator; `finish` gives its result. SIGTERM ends it early, when what it has sent is answered."""
    command = [sys.executable, "-m", "benchmarks.predict_load", "--port", str(port), "--rate", str(rate)]
    command += ["--seconds", str(seconds), "--users", str(users), "--items", str(items)]
    command += ["--connections", str(connections)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(generator: subprocess.Popen[str]) -> LoadResult:
    """Waits for a generator."""
    output, _ = generator.communicate()
    return LoadResult(**json.loads(output))


def main() -> None:
    """The generator process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--items", type=int, default=50_000)
    arguments = parser.parse_args()
    bodies = random_bodies(1000, users=arguments.users, items=arguments.items)
    requests = [
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (len(body), body)
        for body in bodies
    ]
    load = _OpenLoop(arguments.host, arguments.port, requests, arguments.rate, arguments.seconds)
    result = asyncio.Runner(loop_factory=uvloop.new_event_loop).run(load.run(arguments.connections))
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
