"""Takes rows out of a table for good: out of its newest version, and out of the files of all earlier ones.

A `delete` would write its condition, and so the user's id, into the log of commits, which stays. Here files are
replaced one by one, and no commit says whose rows they were.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import PurePosixPath
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feedrank.delta.files import DataFile, data_files
from feedrank.delta.layout import Note
from feedrank.delta.snapshot import Snapshot
from feedrank.delta.store import Location, errors
from feedrank.delta.table import ATTEMPTS, open_table
from feedrank.errors import StorageError
from feedrank.schema import DATE
from feedrank.tables import COMPRESSION, day_of

BATCH_ROWS = 1 << 18
IN_WORK_SECONDS = 3600.0
"""A file that no version of the table knows may be part of a commit to come, unless it is older than that."""
NOTE = Note({"erased": "rows of erased users"})
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """Some rows of any table: `of` gives their mask, [rows], from the columns that it needs, where they are there."""

    columns: tuple[str, ...]
    of: Callable[[pa.RecordBatch], Mask]

    def count(self, file: pq.ParquetFile) -> int:
        """How many a file has."""
        names = [name for name in self.columns if name in file.schema_arrow.names]
        if not names:
            return 0
        return sum(int(self.of(batch).sum()) for batch in file.iter_batches(BATCH_ROWS, columns=names))

    def others(self, file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
        """All other rows of a file."""
        plain = filterable(file.schema_arrow)
        for batch in (batch.cast(plain) for batch in file.iter_batches(BATCH_ROWS)):
            if (kept := batch.filter(pa.array(~self.of(batch)))).num_rows:
                yield kept


def filterable(columns: pa.Schema) -> pa.Schema:
    """The columns with their texts in the form that Arrow can filter; a merge writes them in another."""
    plain = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    return pa.schema([field.with_type(plain.get(field.type, field.type)) for field in columns])


@dataclass
class Purged:
    """What became of a table's files on the disk or in the store."""

    rows: int = 0
    """Taken out of the newest version."""
    files: int = 0
    """Of earlier versions, removed."""
    waiting: list[str] = field(default_factory=list)
    """Files with such rows that no version knows and that are too young to be left over."""


def erase_rows(location: Location, rows: Rows) -> Purged:
    """Takes rows out of a table and removes every file of earlier versions that has some; those can't be read any more.

    Day by day, so that little more room is needed than a day takes. Appends and readers of other days go on.

    Raises:
        StorageError: the store doesn't answer, or another run keeps replacing the same files.
    """
    table = open_table(location)
    done = Purged()
    with errors(location):
        for folder in sorted({str(PurePosixPath(path).parent) for path in table.paths}):
            done.rows += _erase_day(location, folder, rows)
        _purge(location, rows, done)
    return done


def files_with(location: Location, rows: Rows) -> dict[str, int]:
    """The files below a table that have such rows, be they part of it or not, and how many."""
    with errors(location):
        files = open_table(location).files
        paths = [info.path.lstrip("/") for info in data_files(files)]
        return _counts(paths, rows, files)


def commits(location: Location) -> Iterator[tuple[str, str]]:
    """The name and the text of every commit in the log."""
    with errors(location):
        files = open_table(location).files
        for info in files.get_file_info(pafs.FileSelector("_delta_log")):
            if info.extension == "json":
                with files.open_input_stream(info.path) as stream:
                    yield info.path.lstrip("/"), stream.read().decode()


def _counts(paths: Sequence[str], rows: Rows, files: pafs.SubTreeFileSystem) -> dict[str, int]:
    found = {path: _count(path, rows, files) for path in paths}
    return {path: count for path, count in found.items() if count}


def _count(path: str, rows: Rows, files: pafs.SubTreeFileSystem) -> int:
    try:
        with pq.ParquetFile(path, filesystem=files) as file:
            return rows.count(file)
    except FileNotFoundError:  # a vacuum was faster
        return 0


def _erase_day(location: Location, folder: str, rows: Rows) -> int:
    """The rows taken out of the files of one day."""
    for attempt in range(1, ATTEMPTS + 1):
        table = open_table(location)
        with_rows = _counts(_paths_in(table, folder), rows, table.files)
        if not with_rows:
            return 0
        added = [file for path in with_rows if (file := _rewritten(path, rows, table.files)) is not None]
        try:
            table.commit(added, removed=list(with_rows), note=NOTE, beside_appends=True)
        except StorageError:  # a compaction has replaced one of them
            for file in added:
                table.files.delete_file(file.path)
            if attempt == ATTEMPTS:
                raise
            continue
        _remove(with_rows, table.files)
        return sum(with_rows.values())
    raise AssertionError


def _paths_in(table: Snapshot, folder: str) -> list[str]:
    return [path for path in table.paths if str(PurePosixPath(path).parent) == folder]


def _rewritten(path: str, rows: Rows, files: pafs.SubTreeFileSystem) -> DataFile | None:
    """The file's other rows as a new one beside it; None if there are none."""
    fresh, count = f"{PurePosixPath(path).parent}/part-{uuid4()}.parquet", 0
    with pq.ParquetFile(path, filesystem=files) as file, files.open_output_stream(fresh) as stream:
        with pq.ParquetWriter(stream, filterable(file.schema_arrow), compression=COMPRESSION) as writer:
            for batch in rows.others(file):
                writer.write_batch(batch)
                count += batch.num_rows
        size = stream.tell()
    if not count:
        files.delete_file(fresh)
        return None
    return DataFile(fresh, _day(path), count, size, json.dumps({"numRecords": count}))


def _day(path: str) -> date:
    day = day_of(PurePosixPath(path).parent.name)
    assert day is not None, f"{path} is in no folder {DATE}=YYYY-MM-DD"
    return day


def _purge(location: Location, rows: Rows, done: Purged) -> None:
    """Removes the files of earlier versions that have such rows, and those that writers left that died."""
    table = open_table(location)
    current, replaced = {*table.paths}, {*table.replaced()}
    others = {info.path.lstrip("/"): info for info in data_files(table.files)}
    for path in _counts([path for path in others if path not in current], rows, table.files):
        if path in replaced or _age_seconds(others[path]) > IN_WORK_SECONDS:
            _remove([path], table.files)
            done.files += 1
        else:
            done.waiting.append(path)


def _age_seconds(info: pafs.FileInfo) -> float:
    changed = info.mtime
    return 0.0 if changed is None else (datetime.now(UTC) - changed.astimezone(UTC)).total_seconds()


def _remove(paths: Sequence[str] | Mapping[str, int], files: pafs.SubTreeFileSystem) -> None:
    for path in paths:
        try:
            files.delete_file(path)
        except FileNotFoundError:  # a vacuum was faster
            continue


def readable(location: Location, version: int) -> bool:
    """Whether all files of a version are still there."""
    table = open_table(location, version=version)
    infos = table.files.get_file_info(table.paths)
    return all(info.is_file for info in infos)
