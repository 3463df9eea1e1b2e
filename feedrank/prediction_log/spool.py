"""The spool: predictions on local disk until they are in the log.

Each predictor process has a folder `SPOOL/BOOT/`, locked while it lives, with Arrow streams of one row per request:
`NUMBER.open` while it is appended to, `NUMBER.arrows` when it is closed, `NUMBER.damaged` when something in it could
not be read (`spool_files.py`) and a person should look at it.
"""

import contextlib
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from feedrank.prediction_log.buffers import ITEM_IDS
from feedrank.prediction_log.spool_files import END_MARK

OPEN_SUFFIX, CLOSED_SUFFIX, DAMAGED_SUFFIX, LOCK_NAME = ".open", ".arrows", ".damaged", "lock"


class SpoolWriter:
    """Appends batches to the spool folder of one process. Not safe for several threads."""

    def __init__(self, root: Path, boot: str) -> None:
        self.directory = root / boot
        self.rows = 0
        """Log rows in the open file."""
        self._number = 0
        self._lock = -1
        self._file = -1
        self._size = 0
        self._schema = pa.schema([])

    def append(self, batch: pa.RecordBatch) -> None:
        """Adds a batch, all or nothing.

        Raises:
            OSError: it can't be written; the spool is as it was.
        """
        if not batch.schema.equals(self._schema, check_metadata=True):  # another model's features
            self.close_file()
            self._schema = batch.schema
        if self._file < 0:
            self._open()
        if not self._size:
            self._write(batch.schema.serialize())
        self._write(batch.serialize())
        self.rows += len(batch[ITEM_IDS].values)

    def _write(self, message: pa.Buffer | bytes) -> None:
        rest = memoryview(message)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(message)

    def close_file(self) -> None:
        """Hands the open file, if there is one, to the compactor."""
        if self._file >= 0:
            with contextlib.suppress(OSError):  # a full disk: the mark only helps to find damage
                self._write(END_MARK)
            os.close(self._file)
            path = self._path(OPEN_SUFFIX)
            path.rename(path.with_suffix(CLOSED_SUFFIX))
            self._file, self.rows = -1, 0

    def _path(self, suffix: str) -> Path:
        return self.directory / f"{self._number:08d}{suffix}"

    def _open(self) -> None:
        if self._lock < 0:
            self._claim()
        self._number += 1
        flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_TRUNC
        self._file, self._size = os.open(self._path(OPEN_SUFFIX), flags, 0o600), 0

    def _claim(self) -> None:
        """Makes the folder, and holds its lock before another process can see it."""
        hidden = self.directory.with_name(f".{self.directory.name}")
        hidden.mkdir(parents=True, exist_ok=True)
        lock = os.open(hidden / LOCK_NAME, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            hidden.rename(self.directory)
        except OSError:
            os.close(lock)
            raise
        self._lock = lock

    def release(self) -> None:
        """Gives the folder up when all is written."""
        self.close_file()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def closed_files(directory: Path) -> list[Path]:
    """The files that may be converted, oldest first."""
    return sorted(directory.glob(f"*{CLOSED_SUFFIX}"))


def take_over(directory: Path) -> int | None:
    """Locks the folder of a dead process and closes its open file; None while the process lives.

    A folder in which no lock is to be seen, such as a volume's `lost+found`, is not ours: None, too.
    """
    if not os.access(directory / LOCK_NAME, os.F_OK):
        return None
    try:
        lock = os.open(directory / LOCK_NAME, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    for path in directory.glob(f"*{OPEN_SUFFIX}"):
        path.rename(path.with_suffix(CLOSED_SUFFIX))
    return lock


def remove_if_empty(directory: Path) -> None:
    """Removes a folder that holds nothing but its lock; the caller must hold it."""
    if [path.name for path in directory.iterdir()] == [LOCK_NAME]:
        (directory / LOCK_NAME).unlink()
        directory.rmdir()


@dataclass(frozen=True)
class Measure:
    """What lies in the spool of all processes."""

    bytes: int = 0
    oldest: float | None = None
    """When the oldest file that is still to be converted was begun (seconds since 1970)."""
    damaged: int = 0
    """Files that were kept aside."""


def measure(root: Path) -> Measure:
    """The spool's present state."""
    stats, damaged = [], 0
    for path in root.glob("*/*[0-9]*.*"):
        if path.suffix == DAMAGED_SUFFIX:
            damaged += 1
        elif path.exists():
            stats.append(path.stat())
    return Measure(sum(s.st_size for s in stats), min((s.st_ctime for s in stats), default=None), damaged)
