"""A running predictor under constant load follows promotions and rollbacks without a failed request."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from promotion_world import World

from feedrank.promotion.changes import PromotionError

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 180
ROLLBACK_SECONDS = 5.0
"""On a machine that does nothing else; the predictor loads with low priority."""


@dataclass
class Load:
    """One client that asks as fast as it is answered."""

    port: int
    versions: list[tuple[float, str]] = field(default_factory=list)
    """When an answer came, and of which version."""
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Load":
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        body = json.dumps({"user_id": 3, "item_ids": list(range(1, 51))})
        while not self._stop.wait(0.005):
            try:
                connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                content = json.loads(answer.read())
                if answer.status != 200:
                    self.failures.append(f"{answer.status}: {content}")
                else:
                    self.versions.append((time.monotonic(), content["model_version"]))
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.failures.append(repr(error))
                connection.close()


@pytest.fixture
def served(world: World) -> Iterator[World]:
    """The world with v1.0.0 served by a real predictor."""
    world.promoter().promote("v1.0.0", why="first")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "serving", "--model-dir", str(world.target.link), "--host", "127.0.0.1"]
    command += ["--http-port", str(port), "--grpc-port", "0"]
    command += ["--log-dir", str(world.folder / "log"), "--spool-dir", str(world.folder / "spool")]
    # The poll is slow, so what the test sees is that the promotion tells the predictor.
    environment = os.environ | {
        "FEEDRANK__SERVING__RELOAD__POLL_SECONDS": "30",
        "FEEDRANK__SERVING__DRAIN__DELAY_SECONDS": "0",
    }
    output = world.folder / "predictor.txt"
    with output.open("wb") as sink:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=sink, stderr=sink)
    try:
        wait_ready(port, process, output)
        yield replace(world, url=f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(60)


def wait_ready(port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"the predictor did not start\n{output.read_text()}")


def test_under_load_no_request_fails_and_a_rollback_answers_within_seconds(served, capsys):
    promoter = served.promoter()
    port = int(served.url.rsplit(":", 1)[1])
    with Load(port) as load:
        promoter.promote(why="better", who="test")
        slowness = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        started = time.monotonic()
        promoter.rollback(why="worse after all", who="test")
        returned = time.monotonic() - started
        time.sleep(0.3)
    assert load.failures == []
    order = [version for _, version in load.versions]
    assert [v for i, v in enumerate(order) if i == 0 or order[i - 1] != v] == ["v1.0.0", "v1.0.2", "v1.0.0"]
    answered = next(at for at, v in load.versions if at > started and v == "v1.0.0") - started
    with capsys.disabled():
        print(
            f"\nrollback: old version answers after {answered:.2f} s, command {returned:.2f} s, {len(order)} requests"
        )
    assert answered < ROLLBACK_SECONDS * slowness
    assert served.champion() == "v1.0.0"


def test_a_model_that_the_predictor_can_not_use_is_undone_and_the_old_one_goes_on(served):
    class Breaking(type(served.target)):
        """What is staged passes its checksums, but is no model that can be served."""

        def stage(self, bundle, version):
            from feedrank.model.bundle import seal

            for array in (bundle / "arrays").glob("*embedding*"):
                array.write_bytes(b"not an array")
            seal(bundle)
            super().stage(bundle, version)

    promoter = replace(served.promoter(), target=Breaking(replace_deadline(served.target.config, 3)))
    port = int(served.url.rsplit(":", 1)[1])
    with Load(port) as load, pytest.raises(PromotionError, match=r"v1\.0\.0 is served as before"):
        promoter.promote(why="try")
    assert load.failures == []
    assert {version for _, version in load.versions} == {"v1.0.0"}
    assert served.target.current_version() == "v1.0.0"
    assert served.champion() == "v1.0.0"


def replace_deadline(config, seconds):
    return config.model_copy(update={"deadline_seconds": seconds})


def test_a_rollback_stands_even_when_the_predictor_is_down(world):
    for version in ("v1.0.0", "v1.0.1"):
        world.promoter().promote(version, why="test", force=True)
    down = replace(world, url="http://127.0.0.1:9")
    promoter = replace(down.promoter(), target=type(world.target)(replace_deadline(down.target.config, 0.3)))
    record = promoter.rollback(why="it crashes")
    assert "the predictor is down" in record.note
    assert (world.target.current_version(), world.champion()) == ("v1.0.0", "v1.0.0")
