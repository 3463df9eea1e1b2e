"""Several worker processes behind one port, and the folder that a worker set shares.

KServe's own multi-process mode kills a child that doesn't answer within 5 s of being started, which importing it can
take, and serves gRPC from the parent only. Here each worker is a whole server; the parent only keeps them alive.
"""

import contextlib
import fcntl
import logging
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from serving.worker_board import LEAVING, WorkerBoard

logger = logging.getLogger(__name__)

PREFIX = "feedrank-serving-"
POLL_SECONDS = 0.2
RESTART_SECONDS = 1.0
KILL_MARGIN_SECONDS = 10.0
HUNG_SECONDS = 20.0
"""A worker whose event loop has stood still for so long is replaced."""
START_SECONDS = 180.0
"""The same for one that has not begun: it imports, on a machine that may be busy."""
LONGEST_ROUND_SECONDS = 5.0
"""What a round counts at most: if all processes were frozen together, nobody hangs."""
BOARD = "board"
"""The file of the worker board in the runtime folder."""
SPARE_DESCRIPTORS = 512


@contextlib.contextmanager
def runtime_directory() -> Iterator[Path]:
    """A folder that only this user can enter, for as long as the block lasts; removes what killed servers left."""
    root = Path(tempfile.gettempdir())
    for path in root.glob(f"{PREFIX}*"):
        _remove_if_dead(path)
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
    lock = os.open(directory / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _remove_if_dead(path: Path) -> None:
    try:
        lock = os.open(path / "lock", os.O_RDWR)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except OSError:
        pass  # its server lives
    finally:
        os.close(lock)


def bind(host: str, port: int) -> socket.socket:
    """The listening socket; port 0 takes a free one, and `::` is all addresses of both families."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind((host, port))
    return listener


def allow_descriptors(connections: int) -> None:
    """Raises this process's limit of open files as far as it may, so that so many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


@dataclass
class _Worker:
    place: int
    process: subprocess.Popen[bytes]
    beats: int = 0
    silent_seconds: float = 0.0


class WorkerSet:
    """Keeps `count` copies of a command running until told to end."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        count: int,
        board: WorkerBoard,
        listener: socket.socket,
        drain_seconds: float,
    ) -> None:
        self._command = list(command)
        self._count = count
        self._board = board
        self._listener = listener
        self._drain_seconds = drain_seconds
        self._stopping = False

    def run(self) -> int:
        """Returns the exit code: 0 if all workers ended well when told to."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        workers = [self._start(place) for place in range(self._count)]
        for seconds in rounds():
            if self._stopping:
                break
            workers = [self._kept(worker, seconds) for worker in workers]
        return self._end(workers)

    def _kept(self, worker: _Worker, seconds: float) -> _Worker:
        """The worker, or another in its place if it has ended or hangs."""
        self._kill_if_hung(worker, seconds, start_patience=START_SECONDS)
        process = worker.process
        if process.poll() is None or self._stopping:
            return worker
        logger.warning("worker %s ended with %s; starting another", process.pid, process.returncode)
        self._board.clear(worker.place)
        time.sleep(RESTART_SECONDS)
        return self._start(worker.place)

    def _end(self, workers: Sequence[_Worker]) -> int:
        """Lets all end; one that hangs is not waited for as long as one that drains."""
        self._listener.close()
        for worker in workers:
            worker.process.terminate()
        deadline = time.monotonic() + self._drain_seconds + KILL_MARGIN_SECONDS
        for seconds in rounds():
            running = [worker for worker in workers if worker.process.poll() is None]
            if not running:
                break
            for worker in running:
                if time.monotonic() > deadline:
                    logger.warning("worker %s does not end; killing it", worker.process.pid)
                    worker.process.kill()
                else:
                    self._kill_if_hung(worker, seconds, start_patience=HUNG_SECONDS)
        return max(_exit_code(worker.process) for worker in workers)

    def _start(self, place: int) -> _Worker:
        inherited = self._listener.fileno()
        command = [*self._command, "--socket", str(inherited), "--place", str(place)]
        # A session of its own: an interrupt at the terminal reaches the workers through this process only.
        return _Worker(place, subprocess.Popen(command, pass_fds=[inherited], start_new_session=True))

    def _kill_if_hung(self, worker: _Worker, seconds: float, *, start_patience: float) -> None:
        """Kills a worker that has not beaten for too long; `seconds` have passed since the last look."""
        beats = self._board.beats(worker.place)
        worker.silent_seconds = worker.silent_seconds + seconds if beats == worker.beats else 0.0
        worker.beats = beats
        leaving = self._drain_seconds + KILL_MARGIN_SECONDS
        patience = {0: start_patience, LEAVING: leaving}.get(beats, HUNG_SECONDS)
        if worker.silent_seconds > patience:
            logger.warning("worker %s has hung for %.0f s; killing it", worker.process.pid, worker.silent_seconds)
            worker.process.kill()
            worker.silent_seconds = 0.0

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True


def rounds() -> Iterator[float]:
    """Sleeps before each round, and yields the seconds since the one before."""
    last = time.monotonic()
    while True:
        time.sleep(POLL_SECONDS)
        now = time.monotonic()
        yield min(now - last, LONGEST_ROUND_SECONDS)
        last = now


def _exit_code(ended: subprocess.Popen[bytes]) -> int:
    """0 too when the signal met it before it began to serve."""
    code = ended.wait()
    return 0 if code == -signal.SIGTERM else abs(code)


def worker_command(arguments: Sequence[str], runtime: Path) -> list[str]:
    """The command of a worker, but for its place and the inherited socket."""
    return [sys.executable, "-m", "serving", *arguments, "--runtime-directory", str(runtime)]
