"""The compactor: a process that turns closed spool files into Parquet, so that no request waits for it.

It lives until its standard input ends, that is, until the predictor closes the log or dies, and then does all that
is left. It prints a JSON line after each round. Run by `recorder.py` as `python -m feedrank.prediction_log.compactor`.
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
from pathlib import Path

import pyarrow as pa

from feedrank.prediction_log import spool
from feedrank.prediction_log.destination import Destination
from feedrank.prediction_log.rows import log_rows
from feedrank.prediction_log.spool_files import read_file

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
class Converted:
    """What became of a spool file."""

    rows: int
    damage: str | None


def convert(path: Path, destination: Destination) -> Converted:
    """Writes a spool file's rows to the log and deletes it. A damaged one is kept aside once its rest is written."""
    boot = path.parent.name
    contents = read_file(path)
    rows, damage = 0, contents.damage
    if contents.batches:
        try:
            table = log_rows(pa.Table.from_batches(contents.batches), boot=boot)
        except (pa.ArrowException, ValueError, KeyError, IndexError) as error:  # whole messages with wrong content
            damage = f"{path}: {type(error).__name__}: {error}"
        else:
            destination.write(table, name=f"part-{boot}-{path.stem}.parquet")
            rows = table.num_rows
    if damage is None:
        path.unlink(missing_ok=True)
    else:
        path.rename(path.with_suffix(spool.DAMAGED_SUFFIX))
    return Converted(rows, damage)


class Compactor:
    """Converts the spool files of one predictor process, and of those that died."""

    def __init__(self, root: Path, own: Path, destination: Destination) -> None:
        self._root, self._own, self._destination = root, own, destination
        self.progress = Progress()

    def convert_own(self) -> None:
        """Converts what the living predictor has closed."""
        for path in spool.closed_files(self._own):
            self._convert(path)

    def convert_dead(self) -> None:
        """Takes over the folders of dead predictors."""
        for directory in sorted(path for path in self._root.glob("[!.]*") if path.is_dir()):
            lock = spool.take_over(directory)
            if lock is None:
                continue
            try:
                for path in spool.closed_files(directory):
                    self.progress.recovered_rows += self._convert(path)
                spool.remove_if_empty(directory)
            finally:
                os.close(lock)

    def _convert(self, path: Path) -> int:
        converted = convert(path, self._destination)
        self.progress.rows += converted.rows
        self.progress.files += 1
        self.progress.damage = converted.damage or self.progress.damage
        return converted.rows

    def round(self, *, dead_too: bool) -> bool:
        """One round over the spool; False when it failed and must be tried again."""
        try:
            self.convert_own()
            if dead_too:
                self.convert_dead()
        except Exception as error:  # the store may fail in any way: report, and try again
            self.progress.error = f"{type(error).__name__}: {error}"
            return False
        self.progress.error = None
        return True

    def report(self) -> None:
        """Tells the predictor, if it still lives."""
        with contextlib.suppress(BrokenPipeError):
            os.write(sys.stdout.fileno(), json.dumps(asdict(self.progress)).encode() + b"\n")


def run(root: Path, own: str, destination: Destination) -> None:
    """Converts until standard input ends, then once more."""
    compactor = Compactor(root, root / own, destination)
    wait, next_take_over = 0.0, 0.0
    while not _input_ended(POLL_SECONDS + wait):
        dead_too = time.monotonic() >= next_take_over
        before = asdict(compactor.progress)
        if not compactor.round(dead_too=dead_too):
            wait = min(max(2 * wait, RETRY_SECONDS[0]), RETRY_SECONDS[1])
        else:
            wait = 0.0
            if dead_too:
                next_take_over = time.monotonic() + TAKE_OVER_SECONDS
        if asdict(compactor.progress) != before:
            compactor.report()
    compactor.round(dead_too=True)
    compactor.report()


def _input_ended(timeout_seconds: float) -> bool:
    ready, _, _ = select.select([sys.stdin.buffer], [], [], timeout_seconds)
    return bool(ready) and not os.read(sys.stdin.fileno(), 4096)


def main() -> None:
    """Entry point of the process."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the predictor decides when this ends
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser()
    for name in ("--spool", "--own", "--destination"):
        parser.add_argument(name, required=True)
    arguments = parser.parse_args()
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    os.nice(10)  # the requests come first
    run(Path(arguments.spool), arguments.own, Destination.of(arguments.destination))


if __name__ == "__main__":
    main()
