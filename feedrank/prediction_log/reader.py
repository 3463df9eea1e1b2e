"""Reads the prediction log and exports it as CSV, a day at a time."""

import csv
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import reduce
from operator import and_
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from feedrank import delta, schema, storage
from feedrank.prediction_log.table import open_log
from feedrank.tables import conformed, sort_by_time


def read_log(
    location: delta.Location,
    *,
    columns: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> pa.Table:
    """Predictions that arrived in `[start, end)` (aware times), by arrival, of a log; none is no error.

    Raises:
        DataError: there is no log at the location, or a file of it can't be read.
        StorageError: the store doesn't answer.
    """
    log = _columns(location)
    names = log.names if columns is None else list(columns)
    wanted = pa.schema([log.field(name) for name in dict.fromkeys([*names, schema.RECEIVED_AT])])
    parts = [wanted.empty_table(), *_day_tables(location, wanted, start, end)]
    return pa.concat_tables(parts).select(names)


def export_csv(
    location: delta.Location, output: Path, *, start: datetime | None = None, end: datetime | None = None
) -> int:
    """Writes predictions that arrived in `[start, end)` as CSV, the features as a JSON object; returns the rows.

    Raises:
        DataError: there is no log at the location, or a file of it can't be read.
        StorageError: the store doesn't answer.
    """
    rows, log = 0, _columns(location)
    with storage.new_file(output) as fresh, fresh.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(log.names)
        for table in _day_tables(location, log, start, end):
            for batch in table.to_batches(max_chunksize=65_536):
                writer.writerows(_csv_rows(batch))
            rows += table.num_rows
    return rows


def _columns(location: delta.Location) -> pa.Schema:
    """Those that every log has, then the features that any model of this one had."""
    found = open_log(location).schema
    return pa.schema([*schema.PREDICTION_KEYS, found.field(schema.FEATURES_STRUCT)])


def _csv_rows(batch: pa.RecordBatch) -> Iterator[list[object]]:
    columns = [batch[name].to_pylist() for name in batch.schema.names]
    for values in zip(*columns, strict=True):
        row = dict(zip(batch.schema.names, values, strict=True))
        for name in (schema.TIMESTAMP, schema.RECEIVED_AT):
            row[name] = row[name].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        row[schema.FEATURES_STRUCT] = json.dumps(row[schema.FEATURES_STRUCT])
        yield list(row.values())


def _day_tables(
    location: delta.Location, wanted: pa.Schema, start: datetime | None, end: datetime | None
) -> Iterator[pa.Table]:
    log = open_log(location)
    first, last = (None if moment is None else moment.astimezone(UTC).date() for moment in (start, end))
    for day in log.days():
        if (first is None or day >= first) and (last is None or day <= last):
            table = log.read(columns=wanted.names, start=day, end=day, where=_between(start, end))
            yield sort_by_time(conformed(table, wanted, file=f"{location} of {day}"), column=schema.RECEIVED_AT)


def _between(start: datetime | None, end: datetime | None) -> ds.Expression | None:
    arrived = pc.field(schema.RECEIVED_AT)
    bounds = [] if start is None else [arrived >= pa.scalar(start, schema.TIMESTAMP_TYPE)]
    bounds += [] if end is None else [arrived < pa.scalar(end, schema.TIMESTAMP_TYPE)]
    return reduce(and_, bounds) if bounds else None
