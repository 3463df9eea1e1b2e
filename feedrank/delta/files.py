"""The data files of a table: written beside the others, and part of it once they are committed."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from feedrank.delta.layout import Layout
from feedrank.schema import DATE
from feedrank.tables import COMPRESSION, by_day, day_of, is_data_file, sort_by_time


@dataclass(frozen=True)
class DataFile:
    """A file of one day; `path` is relative to the table."""

    path: str
    day: date
    rows: int
    bytes: int
    stats: str
    """What the log keeps of it, as JSON."""


def write_files(tables: Iterable[pa.Table], *, layout: Layout, files: pafs.SubTreeFileSystem) -> Iterator[DataFile]:
    """Writes tables (each in any order), one file per day and table, in time order."""
    for table in tables:
        rows = table.select([name for name in layout.columns.names if name in table.column_names]).cast(
            pa.schema([field for field in layout.columns if field.name in table.column_names])
        )
        for day, of_day in by_day(sort_by_time(rows, column=layout.day_of), column=layout.day_of):
            yield _write(of_day, day, layout=layout, files=files)


def existing_files(files: pafs.SubTreeFileSystem) -> Iterator[DataFile]:
    """The files of the days' folders, in order, by their footers."""
    for file in data_files(files):
        path = file.path.lstrip("/")
        rows = pq.read_metadata(path, filesystem=files).num_rows
        day = date.fromisoformat(path.partition("/")[0].removeprefix(f"{DATE}="))
        yield DataFile(path, day, rows, file.size, json.dumps({"numRecords": rows}))


def data_files(files: pafs.SubTreeFileSystem) -> list[pafs.FileInfo]:
    """What lies in the days' folders, in order, be it part of the table or not."""
    found = files.get_file_info(pafs.FileSelector("", recursive=True, allow_not_found=True))
    return sorted((file for file in found if file.is_file and _is_of_a_day(file.path)), key=lambda file: file.path)


def _is_of_a_day(path: str) -> bool:
    folder, _, name = path.lstrip("/").partition("/")
    return day_of(folder) is not None and is_data_file(name)


def _write(rows: pa.Table, day: date, *, layout: Layout, files: pafs.SubTreeFileSystem) -> DataFile:
    folder = f"{DATE}={day.isoformat()}"
    path = f"{folder}/part-{uuid4()}.parquet"
    if isinstance(files.base_fs, pafs.LocalFileSystem):  # an object store has no folders, only markers that stay
        files.create_dir(folder)
    with files.open_output_stream(path) as stream:
        pq.write_table(rows, stream, compression=COMPRESSION)
        size = stream.tell()
    return DataFile(path, day, rows.num_rows, size, _stats(rows, layout))


def _stats(rows: pa.Table, layout: Layout) -> str:
    """The number of rows, and the range of the time by which they lie: what readers skip files by."""
    span = pc.min_max(rows[layout.day_of]).as_py()
    low, high = ({layout.day_of: _iso(span[end])} for end in ("min", "max"))
    return json.dumps(
        {"numRecords": rows.num_rows, "minValues": low, "maxValues": high, "nullCount": {layout.day_of: 0}}
    )


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
