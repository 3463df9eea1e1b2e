"""Erases people from predictions that are not in the log yet, where the spool is on this machine.

The compactor refuses their rows; here dead predictors' files are committed at once, those of living ones waited
for.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from feedrank import schema
from feedrank.config.serving import LogConfig
from feedrank.erasure.person import People
from feedrank.erasure.report import Erased, Left
from feedrank.prediction_log.compactor import Compactor, Pace
from feedrank.prediction_log.spool import CLOSED_SUFFIX, DAMAGED_SUFFIX, OPEN_SUFFIX
from feedrank.prediction_log.spool_files import read_file

MARGIN_SECONDS = 10.0


def erase_spooled(config: LogConfig, people: People) -> Iterator[Erased]:
    """Sees their rows out of the spool; a damaged file that may hold some goes as a whole."""
    root = config.spool_directory.absolute()
    before = {path: rows for path in _files(root) if (rows := _rows(path, people))}
    if not before:
        return
    for path in [path for path in before if path.suffix == DAMAGED_SUFFIX]:
        path.unlink(missing_ok=True)
    pace = Pace(config.commit_interval_seconds, config.commit_max_mb << 20)
    Compactor(root, root / "none", config.directory, pace).commit_dead()
    deadline = time.monotonic() + config.commit_interval_seconds + config.file_interval_seconds + MARGIN_SECONDS
    while any(_rows(path, people) for path in before if path.exists()) and time.monotonic() < deadline:
        time.sleep(1)
    yield Erased(place=str(root), rows=sum(before.values()), done="predictions refused on their way to the log")


def left_spooled(config: LogConfig, people: People) -> Iterator[Left]:
    """Files that still have some; what a living predictor writes of a user who comes back is refused soon."""
    for path in _files(config.spool_directory):
        if found := _rows(path, people):
            living = path.suffix != DAMAGED_SUFFIX
            why = "of a predictor that lives; refused when it is committed to the log" if living else ""
            yield Left(place=str(path), rows=found, ours=not living, why=why)


def _files(root: Path) -> list[Path]:
    suffixes = (OPEN_SUFFIX, CLOSED_SUFFIX, DAMAGED_SUFFIX)
    return sorted(path for path in root.glob("*/*") if path.suffix in suffixes)


def _rows(path: Path, people: People) -> int:
    """Requests of theirs in a file; of a damaged one also the places that look like their id."""
    try:
        contents = read_file(path)
        bytes_ = path.read_bytes() if path.suffix == DAMAGED_SUFFIX else b""
    except FileNotFoundError:
        return 0
    rows = sum(int(people.rows(batch.select([schema.USER_ID])).sum()) for batch in contents.batches)
    return rows or sum(bytes_.count(number.to_bytes(8, "little", signed=True)) for number in people.numbers)
