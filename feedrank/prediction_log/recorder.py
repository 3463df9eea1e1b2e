"""The predictor's end of the log: takes rankings without ever blocking, and sees to it that they are written."""

import contextlib
import json
import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa

from feedrank.clock import steady_clock
from feedrank.config.feed import Feed
from feedrank.config.serving import LogConfig
from feedrank.prediction_log import spool
from feedrank.prediction_log.buffers import RequestBuffer
from feedrank.prediction_log.spool import SpoolWriter
from feedrank.scoring import Ranking

logger = logging.getLogger(__name__)

RESTART_SECONDS = 1.0
RETRY_SECONDS = 0.1
SPARE_BUFFERS = 8
MEASURE_SECONDS = 0.5


@dataclass(frozen=True)
class LogStatus:
    """How the log is doing."""

    rows_queued: int
    """Rows taken since the start."""
    rows_written: int
    """Rows in the log's files since the start, what was recovered from earlier processes included."""
    rows_recovered: int
    rows_dropped: int
    queue_requests: int
    """In memory, not yet in the spool."""
    spool_bytes: int
    lag_seconds: float
    """Age of the oldest prediction that is not yet in the log's files."""
    error: str | None
    files_damaged: int
    """Spool files that were kept aside, of all processes."""

    @property
    def rows_pending(self) -> int:
        """Rows taken by this process and not yet in the log's files."""
        return max(self.rows_queued - self.rows_dropped - (self.rows_written - self.rows_recovered), 0)


class PredictionLog:
    """Records rankings. `record` belongs to the request path; a thread and a process do the rest."""

    def __init__(self, config: LogConfig) -> None:
        self._config = config
        self._max_requests, self._max_spool_bytes = config.queue_max_requests, config.spool_max_mb * 1_048_576
        self._boot = secrets.token_hex(8)
        self._root = config.spool_directory.absolute()
        self._writer = SpoolWriter(self._root, self._boot)
        self._lock = threading.Lock()
        self._buffer: RequestBuffer | None = None
        self._filled: deque[RequestBuffer] = deque()
        self._empty: deque[RequestBuffer] = deque(maxlen=SPARE_BUFFERS)
        self._requests = self._spooled = self._rows_queued = self._rows_dropped = 0
        self._seconds = steady_clock()
        self._file_opened, self._measured = self._seconds(), time.monotonic()
        self._spool = spool.Measure()
        self._spool_error: str | None = None
        self._compactor = CompactorProcess(self._root, self._boot, config)
        self._deadline = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        """No room: the policy `when_full` applies."""
        return self._requests - self._spooled >= self._max_requests or self._spool.bytes >= self._max_spool_bytes

    @property
    def sheds(self) -> bool:
        """Requests must be refused because their predictions can't be logged."""
        return self.full and self._config.when_full == "shed"

    def record(self, ranking: Ranking, *, received_us: int, model_version: str, latency_ms: float) -> None:
        """Takes a ranking that was asked for at `received_us`; when there is no room, it is counted as dropped."""
        rows = len(ranking.item_ids)
        self._rows_queued += rows
        if self.full:
            self._rows_dropped += rows
            return
        with self._lock:  # the other holder only swaps buffers
            if self._buffer is None or not self._buffer.has_room(ranking):
                self._swap(self._next_buffer(ranking.layout.feed))
            assert self._buffer is not None
            self._buffer.add(ranking, received_us=received_us, model_version=model_version, latency_ms=latency_ms)
        self._requests += 1

    def _swap(self, following: RequestBuffer | None) -> None:
        if self._buffer is not None:
            self._filled.append(self._buffer)
        self._buffer = following

    def _next_buffer(self, feed: Feed) -> RequestBuffer:
        while self._empty:
            if (spare := self._empty.popleft()).feed is feed:
                return spare
        return RequestBuffer(feed)

    def status(self) -> LogStatus:
        """The present state; cheap."""
        compactor = self._compactor
        report = compactor.report
        return LogStatus(
            rows_queued=self._rows_queued,
            rows_written=report.get("rows", 0),
            rows_recovered=report.get("recovered_rows", 0),
            rows_dropped=self._rows_dropped,
            queue_requests=self._requests - self._spooled,
            spool_bytes=self._spool.bytes,
            lag_seconds=0.0 if self._spool.oldest is None else time.time() - self._spool.oldest,
            error=self._spool_error or compactor.write_error or compactor.error,
            files_damaged=self._spool.damaged,
        )

    def close(self, *, timeout_seconds: float) -> LogStatus:
        """Writes all that was recorded; what can't be written in time stays in the spool for the next start."""
        self._deadline = time.monotonic() + timeout_seconds
        self._closing.set()
        self._thread.join(timeout_seconds)
        self._measure()
        self._compactor.finish(max(self._deadline - time.monotonic(), 0.1))
        with contextlib.suppress(OSError):
            self._spool = spool.measure(self._root)
        return self.status()

    def _run(self) -> None:
        while not self._closing.wait(self._config.flush_interval_ms / 1000):
            self._flush()
            self._maintain()
        while not self._flush() and time.monotonic() < self._deadline:
            time.sleep(RETRY_SECONDS)
        try:
            self._writer.release()
        except OSError as error:
            self._spool_error = str(error)

    def _flush(self) -> bool:
        """Moves the queue to the spool; on failure (False) it stays in memory for the next time."""
        with self._lock:
            if self._buffer is not None and self._buffer.requests:
                self._swap(self._next_buffer(self._buffer.feed))
        try:
            while self._filled:
                buffer = self._filled[0]
                if not self._writer.rows:
                    self._file_opened = self._seconds()
                self._writer.append(buffer.batch(first_counter=self._spooled))
                self._filled.popleft()
                self._spooled += buffer.requests
                buffer.clear()
                self._empty.append(buffer)
        except (OSError, pa.ArrowException) as error:
            if self._spool_error is None:
                logger.warning("predictions can't be spooled: %s", error)
            self._spool_error = f"spool: {error}"
            with contextlib.suppress(OSError):
                self._writer.close_file()  # once it is committed, a full disk has room again
            self._compactor.ask_to_commit()
            return False
        self._spool_error = None
        return True

    def _maintain(self) -> None:
        due = self._seconds() - self._file_opened >= self._config.file_interval_seconds
        try:
            if self._writer.rows and (due or self._writer.rows >= self._config.file_max_rows):
                self._writer.close_file()
        except OSError as error:
            self._spool_error = f"spool: {error}"
        if (now := time.monotonic()) - self._measured >= MEASURE_SECONDS:
            self._measured = now
            self._measure()

    def _measure(self) -> None:
        try:
            self._spool = spool.measure(self._root)
        except OSError as error:
            self._spool_error = f"spool: {error}"
        if self._spool.bytes:
            self._compactor.keep_running()


class CompactorProcess:
    """Starts the compactor when there is something to do, and again when it dies; keeps its latest report."""

    def __init__(self, root: Path, boot: str, config: LogConfig) -> None:
        self._command = [sys.executable, "-m", "feedrank.prediction_log.compactor"]
        self._command += ["--spool", str(root), "--own", boot, "--location", config.directory]
        self._command += ["--interval-seconds", str(config.commit_interval_seconds)]
        self._command += ["--max-mb", str(config.commit_max_mb)]
        self.report: dict[str, int] = {}
        self.write_error: str | None = None
        """Why the log's files can't be written."""
        self.error: str | None = None
        """Why the process itself is not well."""
        self._damage: str | None = None
        self._done: dict[str, int] = {}
        self._started = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def keep_running(self) -> None:
        """Starts the process if there is none."""
        if self._process is not None and self._process.poll() is None:
            return
        if time.monotonic() - self._started < RESTART_SECONDS:
            return
        if self._process is not None:
            self.error = f"compactor ended with {self._process.returncode}"
            logger.warning("the prediction log's %s; starting it again", self.error)
        self._started = time.monotonic()
        self._done = {key: self.report.get(key, 0) for key in ("rows", "recovered_rows", "files")}
        try:
            # A session of its own: an interrupt at the terminal is for the predictor, which then ends this.
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            self.error = f"compactor: {error}"
            return
        assert self._process.stdout is not None
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()

    def ask_to_commit(self) -> None:
        """Makes it commit what is closed before its time."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):  # it has died, or is ending
                os.write(self._process.stdin.fileno(), b"\n")

    def _listen(self, lines: IO[bytes]) -> None:
        for line in lines:
            report = json.loads(line)
            if report["error"] and not self.write_error:
                logger.warning("predictions can't be written to the log: %s", report["error"])
            if report["damage"] and report["damage"] != self._damage:
                logger.warning("a damaged spool file was kept aside as *%s: %s", spool.DAMAGED_SUFFIX, report["damage"])
            self.write_error, self._damage = report["error"], report["damage"]
            self.report = {key: report[key] + done for key, done in self._done.items()}
            self.error = None

    def finish(self, timeout_seconds: float) -> None:
        """Lets the process do what is left and end."""
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.error = f"not done within {timeout_seconds:.0f} s; the rest is in the spool"
            logger.warning("prediction log: %s", self.error)
