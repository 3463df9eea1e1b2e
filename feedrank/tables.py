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
from feedrank.schema import DATE, INTERACTIONS, OPTIONAL_COLUMNS, TIMESTAMP

US_PER_DAY = 86_400_000_000
COMPRESSION = "zstd"


def timestamps_us(table: pa.Table, *, column: str = TIMESTAMP) -> NDArray[np.int64]:
    """A column of times as int64 microseconds since 1970-01-01 UTC, shape [rows]."""
    return table[column].cast(pa.int64()).to_numpy()


def sort_by_time(table: pa.Table, *, column: str = TIMESTAMP) -> pa.Table:
    """The table in the order of a column of times; costs one comparison per row when it is sorted already."""
    times = timestamps_us(table, column=column)
    if len(times) < 2 or bool((times[1:] >= times[:-1]).all()):
        return table
    return table.take(pa.array(np.argsort(times, kind="stable")))


def write_partitioned(tables: pa.Table | Iterable[pa.Table], directory: Path) -> int:
    """Writes tables (each in any order) below `directory`, one file per day and table; returns the rows written."""
    rows = 0
    for part, table in enumerate([tables] if isinstance(tables, pa.Table) else tables):
        for day, day_table in by_day(sort_by_time(table)):
            folder = directory / f"{DATE}={day.isoformat()}"
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(day_table, folder / f"part-{part}.parquet", compression=COMPRESSION)
        rows += table.num_rows
    return rows


def read_partitioned(
    directory: Path | str,
    *,
    columns: Sequence[str] | None = None,
    start: date | None = None,
    end: date | None = None,
    version: int | None = None,
) -> pa.Table:
    """Reads the folder of a run or a Delta table (its newest version, or another), sorted by timestamp.

    `start` and `end` (both included) select days.

    Raises:
        DataError: nothing is there, or nothing in the range; a column is missing, or a file can't be read.
    """
    from feedrank import delta

    wanted = None if columns is None else list(dict.fromkeys([*columns, TIMESTAMP]))
    if version is not None or delta.is_table(directory):
        table = delta.open_table(directory, version=version).read(columns=wanted, start=start, end=end)
        if not table.num_rows:
            raise DataError(f"{directory}: no row in the wanted range of days; run the step before")
    else:
        table = _read_folder(Path(directory), columns=wanted, start=start, end=end)
    return sort_by_time(table).select(list(columns) if columns is not None else table.column_names)


def _read_folder(directory: Path, *, columns: list[str] | None, start: date | None, end: date | None) -> pa.Table:
    files = [
        file
        for day, folder in partition_days(directory)
        if (start is None or day >= start) and (end is None or day <= end)
        for file in parquet_files(folder)
    ]
    if not files:
        raise DataError(f"{directory}: no {DATE}=YYYY-MM-DD/*.parquet file in the wanted range; run the step before")
    return pa.concat_tables([read_parquet(file, columns=columns) for file in files], promote_options="default")


def read_parquet(file: Path, *, columns: list[str] | None = None) -> pa.Table:
    """Reads one Parquet file; a wanted column that is optional and not there is null.

    Raises:
        DataError: the file is missing, is no Parquet, differs from its checksums (if it has some), or lacks a wanted
            column.
    """
    try:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        absent = set(columns or ()) - set(parquet.schema_arrow.names)
        if missing := sorted(absent - set(OPTIONAL_COLUMNS)):
            raise DataError(f"{file}: column {', '.join(missing)} is missing; it has {parquet.schema_arrow.names}")
        return _with_nulls(parquet.read(columns=columns), sorted(absent))
    except FileNotFoundError as error:
        raise DataError(f"{file}: no such file") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{file}: can't be read as Parquet ({error}); restore or rewrite it") from error


def _with_nulls(table: pa.Table, optional: list[str]) -> pa.Table:
    for name in optional:
        table = table.append_column(name, pa.nulls(table.num_rows, INTERACTIONS.field(name).type))
    return table


def conformed(table: pa.Table, wanted: pa.Schema, *, file: Path | str) -> pa.Table:
    """The wanted columns of a file's table in the wanted types; nulls stay where they are.

    Fields of a struct go by their names, and one that the file lacks is null.

    Raises:
        DataError: a column is missing, or of a type that can't be converted.
    """
    nullable = pa.schema([field.with_nullable(True) for field in wanted])
    try:
        missing = [name for name in wanted.names if name not in table.column_names]
        if missing:
            raise DataError(f"{file}: {', '.join(missing)} is missing; was it written by another version?")
        return table.select(wanted.names).cast(nullable).cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, ValueError) as error:
        raise DataError(f"{file}: not of the promised schema ({error}); was it written by another version?") from error


def partition_days(directory: Path) -> list[tuple[date, Path]]:
    """The days of a partitioned table with their folders, in order.

    Raises:
        DataError: the folder is missing, or holds a `date=` entry that is no day: its rows would be missed.
    """
    if not directory.is_dir():
        raise DataError(f"{directory}: no such table; run the step that writes it, or give another path")
    days = []
    for folder in directory.glob(f"{DATE}=*"):
        day = day_of(folder.name)
        if day is None or not folder.is_dir():
            raise DataError(f"{folder}: expected a folder {DATE}=YYYY-MM-DD; rename or remove it")
        days.append((day, folder))
    return sorted(days)


def day_of(folder_name: str) -> date | None:
    """The day that the name of a partition, `date=YYYY-MM-DD`, stands for; None for any other name."""
    key, _, text = folder_name.partition("=")
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    # Other forms of ISO 8601 name a folder that no writer of ours makes and no reader would look for.
    return day if key == DATE and text == day.isoformat() else None


def parquet_files(folder: Path) -> list[Path]:
    """The data files of a partition, in order; hidden files and those that begin with `_` are none."""
    files = (file for file in folder.glob("*.parquet") if is_data_file(file.name) and file.is_file())
    return sorted(files)


def is_data_file(name: str) -> bool:
    """Whether a file of that name holds rows: Parquet, not hidden, and no bookkeeping of other writers (`_…`)."""
    return name.endswith(".parquet") and not name.startswith((".", "_"))


def by_day(table: pa.Table, *, column: str = TIMESTAMP) -> Iterator[tuple[date, pa.Table]]:
    """The rows of each UTC day of a table that is sorted by the column of times."""
    if not table.num_rows:
        return
    days = timestamps_us(table, column=column) // US_PER_DAY
    starts = np.flatnonzero(np.concatenate([[True], days[1:] != days[:-1]]))
    for start, stop in zip(starts, [*starts[1:], len(days)], strict=True):
        day = (np.datetime64("1970-01-01") + days[start]).astype(date)
        yield day, table.slice(start, stop - start)


def date_range(table: pa.Table) -> tuple[date, date]:
    """First and last UTC day of a table that isn't empty."""
    span = pc.min_max(table[TIMESTAMP]).as_py()
    return span["min"].date(), span["max"].date()
