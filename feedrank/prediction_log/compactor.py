"""The compactor: a process that commits closed spool files to the log, so that no request waits for it.

It lives until its standard input ends, that is, until the predictor closes the log or dies, and then does all that
is left; a line of input asks for a commit at once. It prints a JSON line after each round. Run by `recorder.py` as
`python -m feedrank.prediction_log.compactor`.
"""

import argparse
import contextlib
import json
import os
import select
import signal
import sys
import time
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

import pyarrow as pa

from feedrank.clock import steady_clock
from feedrank.prediction_log import spool
from feedrank.prediction_log.commits import in_commits, write

POLL_SECONDS = 0.25
TAKE_OVER_SECONDS = 10.0
RETRY_SECONDS = (1.0, 30.0)
"""First and longest wait after a failed write."""


@dataclass
class Progress:
    """What the predictor is told."""

    rows: int = 0
    recovered_rows: int = 0
    files: int = 0
    error: str | None = None
    damage: str | None = None
    """Of the last file that was kept aside."""


@dataclass(frozen=True)
class Pace:
    """When the living predictor's files are committed: after so long, or when there are so many bytes of them."""

    interval_seconds: float
    max_bytes: int


class Compactor:
    """Commits the spool files of one predictor process, and of those that died."""

    def __init__(self, root: Path, own: Path, location: str, pace: Pace) -> None:
        self._root, self._own, self._location, self._pace = root, own, location, pace
        self._seconds = steady_clock()
        self._committed = self._seconds()
        self.progress = Progress()

    def commit_own(self, *, at_once: bool) -> None:
        """Commits what the living predictor has closed, if it is time."""
        files = spool.closed_files(self._own)
        waited = self._seconds() - self._committed
        many = sum(file.stat().st_size for file in files) >= self._pace.max_bytes
        if at_once or many or waited >= self._pace.interval_seconds:
            self._commit(files)
            self._committed = self._seconds()

    def commit_dead(self) -> None:
        """Takes over the folders of dead predictors."""
        for directory in sorted(path for path in self._root.glob("[!.]*") if path.is_dir()):
            lock = spool.take_over(directory)
            if lock is None:
                continue
            try:
                self.progress.recovered_rows += self._commit(spool.closed_files(directory))
                spool.remove_if_empty(directory)
            finally:
                os.close(lock)

    def _commit(self, files: list[Path]) -> int:
        rows = 0
        for group in in_commits(files, max_bytes=self._pace.max_bytes):
            written = write(group, self._location)
            rows += written.rows
            self.progress.rows += written.rows
            self.progress.files += len(group)
            self.progress.damage = next(reversed(written.damaged.values()), self.progress.damage)
        return rows

    def round(self, *, dead_too: bool, at_once: bool = False) -> bool:
        """One round over the spool; False when it failed and must be tried again."""
        try:
            self.commit_own(at_once=at_once)
            if dead_too:
                self.commit_dead()
        except Exception as error:  # the store may fail in any way: report, and try again
            self.progress.error = f"{type(error).__name__}: {error}"
            return False
        self.progress.error = None
        return True

    def report(self) -> None:
        """Tells the predictor, if it still lives."""
        with contextlib.suppress(BrokenPipeError):
            os.write(sys.stdout.fileno(), json.dumps(asdict(self.progress)).encode() + b"\n")


def run(root: Path, own: str, location: str, pace: Pace) -> None:
    """Commits until standard input ends, then once more."""
    compactor = Compactor(root, root / own, location, pace)
    wait, next_take_over = 0.0, 0.0
    while (asked := _asked(POLL_SECONDS + wait)) != Asked.TO_END:
        dead_too = time.monotonic() >= next_take_over
        before = asdict(compactor.progress)
        if not compactor.round(dead_too=dead_too, at_once=wait > 0 or asked == Asked.TO_COMMIT):
            wait = min(max(2 * wait, RETRY_SECONDS[0]), RETRY_SECONDS[1])
        else:
            wait = 0.0
            if dead_too:
                next_take_over = time.monotonic() + TAKE_OVER_SECONDS
        if asdict(compactor.progress) != before:
            compactor.report()
    compactor.round(dead_too=True, at_once=True)
    compactor.report()


class Asked(Enum):
    """What the predictor wants."""

    NOTHING = "nothing"
    TO_COMMIT = "to commit"
    TO_END = "to end"


def _asked(timeout_seconds: float) -> Asked:
    ready, _, _ = select.select([sys.stdin.buffer], [], [], timeout_seconds)
    if not ready:
        return Asked.NOTHING
    return Asked.TO_COMMIT if os.read(sys.stdin.fileno(), 4096) else Asked.TO_END


def main() -> None:
    """Entry point of the process."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the predictor decides when this ends
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser()
    for name in ("--spool", "--own", "--location"):
        parser.add_argument(name, required=True)
    parser.add_argument("--interval-seconds", type=float, required=True)
    parser.add_argument("--max-mb", type=int, required=True)
    arguments = parser.parse_args()
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    os.nice(10)  # the requests come first
    pace = Pace(arguments.interval_seconds, arguments.max_mb * 1_048_576)
    run(Path(arguments.spool), arguments.own, arguments.location, pace)


if __name__ == "__main__":
    main()
