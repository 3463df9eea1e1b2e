"""Reads the prediction log and exports it as CSV."""

import csv
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from feedrank import schema, storage
from feedrank.errors import DataError
from feedrank.prediction_log.destination import open_location
from feedrank.tables import sort_by_time


def read_log(
    location: str | Path,
    *,
    columns: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> pa.Table:
    """Predictions in `[start, end)` (aware times) of a log folder or URI, sorted by timestamp; none is no error.

    Raises:
        DataError: there is no log at the location, or a file of it can't be read.
    """
    wanted = None if columns is None else list(dict.fromkeys([*columns, schema.TIMESTAMP]))
    parts = list(_day_tables(str(location), wanted, start, end))
    if not parts:
        fields = schema.PREDICTION_LOG if columns is None else [schema.PREDICTION_LOG.field(c) for c in columns]
        return pa.schema(fields).empty_table()
    table = sort_by_time(pa.concat_tables(parts))
    return table if columns is None else table.select(list(columns))


def export_csv(
    location: str | Path, output: Path, *, start: datetime | None = None, end: datetime | None = None
) -> int:
    """Writes predictions in `[start, end)` as CSV, the features as a JSON object; returns the rows.

    Raises:
        DataError: there is no log at the location, or a file of it can't be read.
    """
    rows = 0
    with storage.new_file(output) as fresh, fresh.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(schema.PREDICTION_LOG.names)
        for table in _day_tables(str(location), None, start, end):
            for batch in sort_by_time(table).to_batches(max_chunksize=65_536):
                writer.writerows(_csv_rows(batch))
            rows += table.num_rows
    return rows


def _csv_rows(batch: pa.RecordBatch) -> Iterator[list[object]]:
    columns = [batch[name].to_pylist() for name in schema.PREDICTION_LOG.names]
    for values in zip(*columns, strict=True):
        row = dict(zip(schema.PREDICTION_LOG.names, values, strict=True))
        row[schema.TIMESTAMP] = row[schema.TIMESTAMP].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        row[schema.FEATURES_STRUCT] = json.dumps(row[schema.FEATURES_STRUCT])
        yield list(row.values())


def _day_tables(
    location: str, columns: list[str] | None, start: datetime | None, end: datetime | None
) -> Iterator[pa.Table]:
    filesystem, root = open_location(location)
    try:
        folders = filesystem.get_file_info(pafs.FileSelector(root))
    except OSError as error:
        raise DataError(f"{location}: no prediction log ({error}); start the predictor or give another path") from error
    for day, folder in sorted(_days(folders)):
        if (start and day < start.astimezone(UTC).date()) or (end and day > end.astimezone(UTC).date()):
            continue
        files = [f.path for f in filesystem.get_file_info(pafs.FileSelector(folder)) if _is_part(f)]
        table = pa.concat_tables([_read(filesystem, path, columns) for path in sorted(files)]) if files else None
        if table is not None:
            yield _between(table, start, end)


def _days(folders: Sequence[pafs.FileInfo]) -> Iterator[tuple[date, str]]:
    for folder in folders:
        name, _, day = folder.base_name.partition("=")
        if name == schema.DATE:
            yield date.fromisoformat(day), folder.path


def _is_part(info: pafs.FileInfo) -> bool:
    return bool(info.is_file) and info.base_name.endswith(".parquet") and not info.base_name.startswith(".")


def _read(filesystem: pafs.FileSystem, path: str, columns: list[str] | None) -> pa.Table:
    try:
        with filesystem.open_input_file(path) as file:
            return pq.ParquetFile(file).read(columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: can't be read as Parquet ({error}); restore or remove it") from error


def _between(table: pa.Table, start: datetime | None, end: datetime | None) -> pa.Table:
    if start is not None:
        table = table.filter(pc.greater_equal(table[schema.TIMESTAMP], pa.scalar(start, schema.TIMESTAMP_TYPE)))
    if end is not None:
        table = table.filter(pc.less(table[schema.TIMESTAMP], pa.scalar(end, schema.TIMESTAMP_TYPE)))
    return table
