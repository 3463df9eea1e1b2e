"""Recent data of one window: the predictor's log and the feedback on it, read so that damage is named, not fatal.

A file that can't be read or is of another schema is skipped, a day without files is missed; each gives a warning in
the result. Rows of the log come out flat: one column per feature instead of the struct.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feedrank import schema
from feedrank.errors import DataError
from feedrank.tables import read_parquet, sort_by_time, timestamps_us

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
        files = _files(directory, day)
        if not files and expected_from.date() <= day <= (end - timedelta(microseconds=1)).date():
            warnings.append(f"{directory}: no data of {day}; is its writer running?")
        for file in files:
            try:
                tables.append(_between(_read_file(file, wanted), start=start, end=end))
            except DataError as error:
                warnings.append(f"skipped: {error}")
    rows = pa.concat_tables(tables)
    complete = np.logical_and.reduce([rows[key].is_valid().to_numpy() for key in KEYS])
    if not complete.all():
        warnings.append(f"{directory}: {(~complete).sum()} rows without user, item or time left out")
        rows = rows.filter(pa.array(complete))
    return Recent(sort_by_time(rows), warnings)


def _read_file(file: Path, wanted: pa.Schema) -> pa.Table:
    table = read_parquet(file, columns=wanted.names)
    nullable = pa.schema([field.with_nullable(True) for field in wanted])
    try:
        _require_features(file, table.schema)
        return table.select(wanted.names).cast(nullable).cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, ValueError) as error:
        raise DataError(f"{file}: not of the promised schema ({error}); was it written by another version?") from error


def _require_features(file: Path, found: pa.Schema) -> None:
    if schema.FEATURES_STRUCT not in found.names:
        return
    struct = found.field(schema.FEATURES_STRUCT).type
    names = {field.name for field in struct} if pa.types.is_struct(struct) else set()
    missing = sorted(set(schema.FEATURES) - names)
    if missing:
        raise DataError(f"{file}: the logged features lack {', '.join(missing)}; was it written by another version?")


def _between(table: pa.Table, *, start: datetime, end: datetime) -> pa.Table:
    times = table[schema.TIMESTAMP]
    scalar_start, scalar_end = (pa.scalar(moment, type=schema.TIMESTAMP_TYPE) for moment in (start, end))
    inside = pc.and_(pc.greater_equal(times, scalar_start), pc.less(times, scalar_end))
    # A row without a time is kept, to be counted with the other incomplete ones.
    return table.filter(pc.fill_null(inside, True))


def _days(start: datetime, end: datetime) -> Iterator[date]:
    for offset in range((end.date() - start.date()).days + 1):
        yield start.date() + timedelta(days=offset)


def _files(directory: Path, day: date) -> list[Path]:
    folder = directory / f"{schema.DATE}={day.isoformat()}"
    return sorted(file for file in folder.glob("*.parquet") if not file.name.startswith((".", "_")))


def future_rows(rows: pa.Table, *, now: datetime, skew_seconds: float) -> int:
    """Rows stamped later than now, beyond the allowed skew of clocks."""
    limit_us = int((now.timestamp() + skew_seconds) * 1e6)
    return int((timestamps_us(rows) > limit_us).sum())
