"""Recent data of one window: the predictor's log and the feedback on it, read so that damage is named, not fatal.

A file that can't be read or is of another schema is skipped, a day without files is missed; each gives a warning in
the result. Rows of the log come out flat: one column per feature instead of the struct.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from feedrank import schema
from feedrank.errors import DataError
from feedrank.tables import conformed, day_of, parquet_files, read_parquet, sort_by_time

FLAT_LOG = pa.schema([*list(schema.PREDICTION_LOG)[:-1], *schema.FEATURE_FIELDS])
"""The prediction log with the struct of features as columns."""
KEYS = (schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP)


@dataclass(frozen=True)
class Recent:
    """Rows of a time range in time order, and what was wrong with their files."""

    rows: pa.Table
    warnings: list[str]


def read_predictions(directory: Path, *, start: datetime, end: datetime, expected_from: datetime) -> Recent:
    """The prediction log (`FLAT_LOG`) of [start, end); days without a file from `expected_from` on are warned of."""
    recent = _read(directory, wanted=schema.PREDICTION_LOG, start=start, end=end, expected_from=expected_from)
    features = recent.rows[schema.FEATURES_STRUCT]
    columns = [recent.rows[name] for name in schema.PREDICTION_LOG.names[:-1]]
    columns += [pc.struct_field(features, name) for name in schema.FEATURES]
    return Recent(pa.Table.from_arrays(columns, schema=FLAT_LOG), recent.warnings)


def read_feedback(directory: Path, *, start: datetime, end: datetime, expected_from: datetime) -> Recent:
    """The interactions (`schema.INTERACTIONS`) of [start, end); warnings as in `read_predictions`."""
    return _read(directory, wanted=schema.INTERACTIONS, start=start, end=end, expected_from=expected_from)


def _read(directory: Path, *, wanted: pa.Schema, start: datetime, end: datetime, expected_from: datetime) -> Recent:
    tables, warnings = [wanted.empty_table()], []
    # A batch that was written around midnight may lie in the folder of the neighbouring day.
    for day in _days(start - timedelta(days=1), end + timedelta(days=1)):
        files = parquet_files(directory / f"{schema.DATE}={day.isoformat()}")
        if not files and expected_from.date() <= day <= (end - timedelta(microseconds=1)).date():
            warnings.append(f"{directory}: no data of {day}; is its writer running?")
        for file in files:
            try:
                table = conformed(read_parquet(file, columns=wanted.names), wanted, file=file)
                tables.append(_between(table, start=start, end=end))
            except DataError as error:
                warnings.append(f"skipped: {error}")
    rows = pa.concat_tables(tables)
    complete = np.logical_and.reduce([rows[key].is_valid().to_numpy() for key in KEYS])
    if not complete.all():
        warnings.append(f"{directory}: {(~complete).sum()} rows without user, item or time left out")
        rows = rows.filter(pa.array(complete))
    return Recent(sort_by_time(rows), warnings)


def _between(table: pa.Table, *, start: datetime, end: datetime) -> pa.Table:
    times = table[schema.TIMESTAMP]
    scalar_start, scalar_end = (pa.scalar(moment, type=schema.TIMESTAMP_TYPE) for moment in (start, end))
    inside = pc.and_(pc.greater_equal(times, scalar_start), pc.less(times, scalar_end))
    # A row without a time is kept, to be counted with the other incomplete ones.
    return table.filter(pc.fill_null(inside, True))


def _days(start: datetime, end: datetime) -> Iterator[date]:
    for offset in range((end.date() - start.date()).days + 1):
        yield start.date() + timedelta(days=offset)


@dataclass(frozen=True)
class FutureRows:
    """Rows that are stamped later than the present."""

    rows: int
    latest: datetime


def future_rows(directory: Path, *, now: datetime, skew_seconds: float) -> FutureRows | None:
    """Rows of a log stamped later than now, beyond the allowed skew of clocks; None when there are none.

    No window holds them, so they are looked for in the folders of all days from yesterday on.
    """
    limit = now.astimezone(UTC) + timedelta(seconds=skew_seconds)
    found = [
        times
        for folder in directory.glob(f"{schema.DATE}=*")
        if (day := day_of(folder.name)) is not None and day >= limit.date() - timedelta(days=1)
        for file in parquet_files(folder)
        if len(times := _times_after(file, limit))
    ]
    if not found:
        return None
    return FutureRows(rows=sum(map(len, found)), latest=max(pc.max(times).as_py() for times in found))


def _times_after(file: Path, limit: datetime) -> pa.ChunkedArray:
    """The later timestamps of a file; row groups without any are not read."""
    times = pa.schema([pa.field(schema.TIMESTAMP, schema.TIMESTAMP_TYPE)])
    later = ds.field(schema.TIMESTAMP) > pa.scalar(limit, schema.TIMESTAMP_TYPE)
    try:
        return ds.dataset(file, schema=times, format="parquet").to_table(filter=later)[schema.TIMESTAMP]
    except (pa.ArrowException, OSError):  # reading its window names a file that can't be read
        return pa.chunked_array([], schema.TIMESTAMP_TYPE)
