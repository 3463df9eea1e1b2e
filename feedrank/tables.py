"""Partitioned Parquet tables: `date=YYYY-MM-DD/part-N.parquet`, sorted by timestamp."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feedrank.errors import DataError
from feedrank.schema import DATE, TIMESTAMP

US_PER_DAY = 86_400_000_000
COMPRESSION = "zstd"


def timestamps_us(table: pa.Table) -> NDArray[np.int64]:
    """The timestamp column as int64 microseconds since 1970-01-01 UTC, shape [rows]."""
    return table[TIMESTAMP].cast(pa.int64()).to_numpy()


def sort_by_time(table: pa.Table) -> pa.Table:
    """The table in the order of its timestamps; costs one comparison per row when it is sorted already."""
    times = timestamps_us(table)
    if len(times) < 2 or bool((times[1:] >= times[:-1]).all()):
        return table
    return table.take(pa.array(np.argsort(times, kind="stable")))


def write_partitioned(tables: pa.Table | Iterable[pa.Table], directory: Path) -> int:
    """Writes tables (each in any order) below `directory`, one file per day and table; returns the rows written."""
    rows = 0
    for part, table in enumerate([tables] if isinstance(tables, pa.Table) else tables):
        for day, day_table in _by_day(sort_by_time(table)):
            folder = directory / f"{DATE}={day.isoformat()}"
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(day_table, folder / f"part-{part}.parquet", compression=COMPRESSION)
        rows += table.num_rows
    return rows


def read_partitioned(
    directory: Path,
    *,
    columns: Sequence[str] | None = None,
    start: date | None = None,
    end: date | None = None,
) -> pa.Table:
    """Reads a partitioned table, sorted by timestamp; `start` and `end` (both included) select days.

    Raises:
        DataError: the folder is missing, has no Parquet file in the range, or a file can't be read.
    """
    files = [
        file
        for day, folder in partition_days(directory)
        if (start is None or day >= start) and (end is None or day <= end)
        for file in sorted(folder.glob("*.parquet"))
    ]
    if not files:
        raise DataError(f"{directory}: no {DATE}=YYYY-MM-DD/*.parquet file in the wanted range; run the step before")
    wanted = None if columns is None else list(dict.fromkeys([*columns, TIMESTAMP]))
    table = pa.concat_tables([read_parquet(file, columns=wanted) for file in files])
    return sort_by_time(table).select(list(columns) if columns is not None else table.column_names)


def read_parquet(file: Path, *, columns: list[str] | None = None) -> pa.Table:
    """Reads one Parquet file.

    Raises:
        DataError: the file is missing, is no Parquet, or lacks a wanted column.
    """
    try:
        parquet = pq.ParquetFile(file)
        missing = sorted(set(columns or ()) - set(parquet.schema_arrow.names))
        if missing:
            raise DataError(f"{file}: column {', '.join(missing)} is missing; it has {parquet.schema_arrow.names}")
        return parquet.read(columns=columns)
    except FileNotFoundError as error:
        raise DataError(f"{file}: no such file") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{file}: can't be read as Parquet ({error}); restore or rewrite it") from error


def partition_days(directory: Path) -> list[tuple[date, Path]]:
    """The days of a partitioned table with their folders, in order.

    Raises:
        DataError: the folder is missing.
    """
    if not directory.is_dir():
        raise DataError(f"{directory}: no such table; run the step that writes it, or give another path")
    return sorted((_day_of(folder), folder) for folder in directory.glob(f"{DATE}=*"))


def _day_of(folder: Path) -> date:
    try:
        return date.fromisoformat(folder.name.removeprefix(f"{DATE}="))
    except ValueError as error:
        raise DataError(f"{folder}: expected {DATE}=YYYY-MM-DD; rename or remove the folder") from error


def _by_day(table: pa.Table) -> Iterator[tuple[date, pa.Table]]:
    if not table.num_rows:
        return
    days = timestamps_us(table) // US_PER_DAY
    starts = np.flatnonzero(np.concatenate([[True], days[1:] != days[:-1]]))
    for start, stop in zip(starts, [*starts[1:], len(days)], strict=True):
        day = (np.datetime64("1970-01-01") + days[start]).astype(date)
        yield day, table.slice(start, stop - start)


def date_range(table: pa.Table) -> tuple[date, date]:
    """First and last UTC day of a table that isn't empty."""
    span = pc.min_max(table[TIMESTAMP]).as_py()
    return span["min"].date(), span["max"].date()
