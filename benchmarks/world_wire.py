"""What clients send and how the predictor is started: raw requests with the status that is right, real clients."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.predict_servers import free_port
from tests.serving.clients import AbsentError, Target, real_clients

START_SECONDS = 60
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
USER, ITEMS = 12, (1001, 1002, 1003)
"""Of the requests beside the project; the predictor knows them."""
REQUESTS: dict[str, tuple[int, bytes]] = {
    "ce_without_time.http": (200, b'"predictions"'),
    "gzip_predict.http": (200, b'"predictions"'),
    "h2c_predict.http": (200, b'"predictions"'),
    "head_health.http": (200, b"content-length"),
    "latin1_key.http": (422, b'"body"'),
    "v1_charset.http": (200, b'"predictions"'),
    "v2_binary_output_listed.http": (200, b"inference-header-content-length"),
    "v2_no_content_type.http": (200, b'"outputs"'),
}
"""The requests beside the project: status, and what the answer contains."""


@dataclass(frozen=True)
class Running:
    """A predictor on free ports."""

    host: str
    http_port: int
    grpc_port: int
    output: Path

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://[{self.host}]:{self.http_port}" if ":" in self.host else f"http://{self.host}:{self.http_port}"


@contextlib.contextmanager
def running(model: Path, folder: Path, *options: str, host: str = "127.0.0.1") -> Iterator[Running]:
    """`python -m serving` with these options; asked at `host`.

    Raises:
        RuntimeError: it ended, or did not answer in time; with the end of its log.
    """
    folder.mkdir(parents=True)
    http_port, grpc_port = free_port(), free_port()
    command = [sys.executable, "-m", "serving", "--model-dir", str(model), "--http-port", str(http_port)]
    command += ["--grpc-port", str(grpc_port), "--spool-dir", str(folder / "spool"), *options]
    if "--log-dir" not in options:
        command += ["--log-dir", str(folder / "log")]
    root = str(Path.cwd())
    environment = os.environ | {"PYTHONPATH": root, "FEEDRANK__SERVING__DRAIN__DELAY_SECONDS": "0"}
    environment["FEEDRANK_CONFIG_DIR"] = f"{root}/config"
    server = Running(host, http_port, grpc_port, folder / "output")
    with server.output.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env=environment, cwd=folder)
    try:
        _wait(server, process)
        yield server
    finally:
        process.terminate()
        code = process.wait(60)
    if code:
        raise RuntimeError(f"the predictor ended with {code}")


def _wait(server: Running, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{server.url}/v2/health/ready").status_code == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"no predictor: {server.output.read_text()[-300:]}")


def answered(server: Running, request: bytes, *, parts: int = 1) -> tuple[int, bytes]:
    """Sends the bytes in so many segments; the status and the whole answer."""
    with socket.create_connection((server.host, server.http_port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = -(-len(request) // parts)
        for start in range(0, len(request), size):
            connection.sendall(request[start : start + size])
            time.sleep(0.02 if parts > 1 else 0)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    found = STATUS.match(answer)
    return int(found[1]) if found else 0, answer


def is_right(server: Running, request: bytes, status: int, part: bytes) -> bool:
    """The same in one, two and many segments."""
    answers = [answered(server, request, parts=parts) for parts in (1, 2, 5)]
    return all(got == status and part in answer.lower() for got, answer in answers)


def starts(
    model: Path, folder: Path, options: Sequence[str], *, host: str = "127.0.0.1", path: str = "/health"
) -> bool:
    """Whether a predictor with these options answers, and ends when told to."""
    with running(model, folder, *options, host=host) as server:
        return httpx.get(server.url + path).status_code == 200


def numpy_client(server: Running) -> bool:
    """Ids as arrays have them."""
    import numpy as np

    from feedrank.client import Client

    with Client(server.url) as client:
        ranked = client.rank(np.int64(USER), np.array(ITEMS))  # type: ignore[arg-type]
    return sorted(entry.item_id for entry in ranked.predictions) == list(ITEMS)


def ask_clients(server: Running) -> tuple[dict[str, str], list[str]]:
    """What was wrong with each real client's answers ("" for nothing); and the clients that this machine lacks."""
    target = Target.asked(server.host, server.http_port, server.grpc_port, user_id=USER, item_ids=list(ITEMS))
    problems: dict[str, str] = {}
    absent = []
    for client in real_clients():
        try:
            wrong = [outcome for outcome in client.ask(target) if outcome.problem]
            problems[client.name] = json.dumps([f"{o.what}: {o.problem}" for o in wrong]) if wrong else ""
        except AbsentError as error:
            absent.append(f"{client.name}: {error}")
    return problems, absent
