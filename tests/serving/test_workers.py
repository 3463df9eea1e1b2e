"""Several workers behind one port: who takes traffic, and who is replaced."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest
import tritonclient.grpc as triton_grpc
from conftest import Predictor, running

from serving import workers as worker_sets
from serving.worker_board import WorkerBoard
from serving.workers import BOARD, HUNG_SECONDS, LONGEST_ROUND_SECONDS, START_SECONDS, WorkerSet, bind, rounds

WORKER = "--place"
BEATS = 20
"""Of a worker that has started: two seconds."""


def workers(predictor: Predictor) -> set[int]:
    return {worker.pid for worker in workers_of(psutil.Process(predictor.process.pid))}


def workers_of(parent: psutil.Process) -> list[psutil.Process]:
    """Its children that are workers: it may have others, as this process has the predictor that tests share."""
    return [
        child for child in parent.children() if child.status() != psutil.STATUS_ZOMBIE and WORKER in child.cmdline()
    ]


def asked(predictor: Predictor, path: str = "/v2/health/ready", *, times: int = 40) -> set[int]:
    """The statuses of answers, each on a connection of its own, so that any worker may give them."""
    return {httpx.get(predictor.url + path, timeout=20).status_code for _ in range(times)}


def alive(board: WorkerBoard) -> int:
    return min(board.beats(place) for place in range(2))


def test_a_worker_without_a_model_takes_no_traffic_unless_all_are_without(models, tmp_path):
    link = tmp_path / "champion"
    link.symlink_to(tmp_path / "nowhere")
    with running(tmp_path / "run", link, "--workers", "2", ready=False) as predictor:
        assert asked(predictor, "/health", times=5) == {503}, "somebody answers the probes"
        link.unlink()
        link.symlink_to(models["v1.0.0"])
        predictor.wait(lambda: predictor.metric("feedrank_ready_workers") == 2)
        assert asked(predictor) == {200}
        link.unlink()  # a worker that starts now finds no model
        killed, left = sorted(workers(predictor))
        board = board_of(left)
        psutil.Process(killed).kill()
        deadline = time.monotonic() + START_SECONDS
        while alive(board) < BEATS and time.monotonic() < deadline:
            assert asked(predictor, times=10) == {200}
            rpc = triton_grpc.InferenceServerClient(f"127.0.0.1:{predictor.grpc_port}")
            assert rpc.is_server_ready()
            rpc.close()
        assert alive(board) >= BEATS, "the new one lives"
        psutil.Process(left).kill()
        predictor.wait(lambda: asked(predictor, "/health", times=5) == {503})
        link.symlink_to(models["v1.0.1"])
        predictor.wait(lambda: len(workers(predictor)) == 2 and asked(predictor, times=5) == {200})
        assert predictor.stop() == 0


def board_of(worker: int) -> WorkerBoard:
    command = psutil.Process(worker).cmdline()
    return WorkerBoard(Path(command[command.index("--runtime-directory") + 1]) / BOARD, count=2)


def test_a_hung_worker_is_replaced_while_the_other_answers(models, tmp_path):
    with running(tmp_path, models["v1.0.0"], "--workers", "2") as predictor:
        predictor.wait(lambda: predictor.metric("feedrank_ready_workers") == 2)
        before = workers(predictor)
        predictor.http.close()  # whose connection may be the hung one's
        hung = min(before)
        psutil.Process(hung).send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 6 * HUNG_SECONDS
        while hung in workers(predictor) and time.monotonic() < deadline:
            assert asked(predictor, times=1) == {200}
            time.sleep(0.5)
        assert hung not in workers(predictor)
        assert "has hung for" in predictor.output.read_text()
        with httpx.Client(base_url=predictor.url, timeout=20) as predictor.http:
            predictor.wait(lambda: len(workers(predictor) - {hung}) == 2)
            assert before - {hung} < workers(predictor), "the other went on"
            assert asked(predictor) == {200}


BEATING = """
import sys, time
from pathlib import Path
from serving.worker_board import WorkerBoard
board, place = WorkerBoard(Path(sys.argv[1]), count=2), int(sys.argv[-1])
while True:
    board.beat(place, has_model=True)
    time.sleep(0.02)
"""


@pytest.fixture
def worker_set(tmp_path, monkeypatch):
    """Makes a set of two whose patience is short, and puts this process's handlers back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(worker_sets, "HUNG_SECONDS", 2.0)
    board = WorkerBoard(tmp_path / BOARD, count=2)
    with bind("127.0.0.1", 0) as listener:

        def make(program: str) -> tuple[WorkerSet, WorkerBoard]:
            command = [sys.executable, "-c", program, str(tmp_path / BOARD)]
            return WorkerSet(command, count=2, board=board, listener=listener, drain_seconds=300), board

        yield make
    for number, handler in handlers.items():
        signal.signal(number, handler)


def wait(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def freeze(process: psutil.Process) -> None:
    """SIGSTOP; waits for it, as a SIGTERM that comes before it is in force would still end the process."""
    process.send_signal(signal.SIGSTOP)
    wait(lambda: process.status() == psutil.STATUS_STOPPED)


def meanwhile(act: Callable[[list[psutil.Process]], None]) -> None:
    """Calls `act` with both workers in another thread, and then tells this process to end."""

    def run() -> None:
        try:
            wait(lambda: len(workers_of(psutil.Process())) == 2)
            act(workers_of(psutil.Process()))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=run).start()


def test_a_worker_that_is_stopped_before_its_first_beat_does_not_hold_the_end(worker_set):
    running_set, _ = worker_set("import time; time.sleep(600)")
    meanwhile(lambda children: freeze(children[0]))
    started = time.monotonic()
    assert running_set.run() == signal.SIGKILL
    assert time.monotonic() - started < 60, "far less than the drain"


def test_a_worker_that_hangs_while_it_drains_is_not_waited_for(worker_set):
    running_set, board = worker_set(BEATING)

    def stop_one(children: list[psutil.Process]) -> None:
        wait(lambda: alive(board) > 0)
        freeze(children[1])

    meanwhile(stop_one)
    started = time.monotonic()
    assert running_set.run() == signal.SIGKILL
    assert time.monotonic() - started < 60


def test_processes_that_were_frozen_together_do_not_hang(monkeypatch):
    class Clock:
        now = 0.0

        def sleep(self, _seconds: float) -> None:
            self.now += 3600.0

        def monotonic(self) -> float:
            return self.now

    monkeypatch.setattr(worker_sets, "time", Clock())
    assert next(rounds()) == LONGEST_ROUND_SECONDS < HUNG_SECONDS
