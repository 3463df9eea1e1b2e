"""Reads the prediction log and exports it as CSV.

Folders beside the days' and files beside the parts are not the log's: they are left out, with a warning where their
name promises a day. A part that can't be read is an error, as its rows would be missed.
"""

import csv
import json
import logging
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
from feedrank.tables import conformed, day_of, is_data_file, sort_by_time

logger = logging.getLogger(__name__)


def read_log(
    location: str | Path,
    *,
    columns: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> pa.Table:
    """Predictions that arrived in `[start, end)` (aware times), by arrival, of a log folder or URI; none is no error.

    Raises:
        DataError: there is no log at the location, or a file of it can't be read.
    """
    names = schema.PREDICTION_LOG.names if columns is None else list(columns)
    wanted = pa.schema([schema.PREDICTION_LOG.field(name) for name in dict.fromkeys([*names, schema.RECEIVED_AT])])
    parts = [wanted.empty_table(), *_day_tables(str(location), wanted, start, end)]
    return sort_by_time(pa.concat_tables(parts), column=schema.RECEIVED_AT).select(names)


def export_csv(
    location: str | Path, output: Path, *, start: datetime | None = None, end: datetime | None = None
) -> int:
    """Writes predictions that arrived in `[start, end)` as CSV, the features as a JSON object; returns the rows.

    Raises:
        DataError: there is no log at the location, or a file of it can't be read.
    """
    rows = 0
    with storage.new_file(output) as fresh, fresh.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(schema.PREDICTION_LOG.names)
        for table in _day_tables(str(location), schema.PREDICTION_LOG, start, end):
            for batch in sort_by_time(table, column=schema.RECEIVED_AT).to_batches(max_chunksize=65_536):
                writer.writerows(_csv_rows(batch))
            rows += table.num_rows
    return rows


def _csv_rows(batch: pa.RecordBatch) -> Iterator[list[object]]:
    columns = [batch[name].to_pylist() for name in schema.PREDICTION_LOG.names]
    for values in zip(*columns, strict=True):
        row = dict(zip(schema.PREDICTION_LOG.names, values, strict=True))
        for name in (schema.TIMESTAMP, schema.RECEIVED_AT):
            row[name] = row[name].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        row[schema.FEATURES_STRUCT] = json.dumps(row[schema.FEATURES_STRUCT])
        yield list(row.values())


def _day_tables(location: str, wanted: pa.Schema, start: datetime | None, end: datetime | None) -> Iterator[pa.Table]:
    try:
        filesystem, root = open_location(location)
        entries = filesystem.get_file_info(pafs.FileSelector(root))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{location}: no prediction log ({error}); start the predictor or give another path") from error
    for day, folder in sorted(_days(entries)):
        if (start and day < start.astimezone(UTC).date()) or (end and day > end.astimezone(UTC).date()):
            continue
        files = sorted(f.path for f in filesystem.get_file_info(pafs.FileSelector(folder)) if _is_part(f))
        if files:
            yield _between(pa.concat_tables([_read(filesystem, path, wanted) for path in files]), start, end)


def _days(entries: Sequence[pafs.FileInfo]) -> Iterator[tuple[date, str]]:
    for entry in entries:
        day = None if entry.is_file else day_of(entry.base_name)
        if day is not None:
            yield day, entry.path
        elif entry.base_name.startswith(f"{schema.DATE}="):
            logger.warning("%s: is no folder %s=YYYY-MM-DD of the log and is left out", entry.path, schema.DATE)


def _is_part(info: pafs.FileInfo) -> bool:
    return bool(info.is_file) and is_data_file(info.base_name)


def _read(filesystem: pafs.FileSystem, path: str, wanted: pa.Schema) -> pa.Table:
    try:
        with filesystem.open_input_file(path) as file:
            table = pq.ParquetFile(file).read(columns=wanted.names)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: can't be read as Parquet ({error}); restore or remove it") from error
    return conformed(table, wanted, file=path)


def _between(table: pa.Table, start: datetime | None, end: datetime | None) -> pa.Table:
    if start is not None:
        table = table.filter(pc.greater_equal(table[schema.RECEIVED_AT], pa.scalar(start, schema.TIMESTAMP_TYPE)))
    if end is not None:
        table = table.filter(pc.less(table[schema.RECEIVED_AT], pa.scalar(end, schema.TIMESTAMP_TYPE)))
    return table
