"""The log's table: a Delta table at a path or an s3:// address, partitioned by the day of arrival."""

from pathlib import Path

import pyarrow as pa

from feedrank import delta, schema
from feedrank.errors import DataError
from feedrank.tables import parquet_files

HISTORY_DAYS = 7
"""A predictor commits every minute, and nothing goes back to an earlier version: old commits would be half a million a
year, which every reader lists."""


def layout_of(rows: pa.Schema) -> delta.Layout:
    """Of a log with such rows, which grows by the features that it lacks."""
    return delta.Layout(rows, day_of=schema.RECEIVED_AT, history_days=HISTORY_DAYS)


def open_log(location: delta.Location) -> delta.Table:
    """The newest snapshot.

    Raises:
        DataError: there is no log, or a folder of an earlier release.
        StorageError: the store doesn't answer.
    """
    if not delta.is_table(location):
        _refuse_old_folder(location)
        raise DataError(f"{location}: no prediction log; start the predictor or give another path")
    return delta.open_table(location)


def create_log(location: delta.Location, rows: pa.Schema) -> delta.Table:
    """The log, made empty if it isn't there; errors as in `open_log`."""
    if not delta.is_table(location):
        _refuse_old_folder(location)
    return delta.create_table(location, layout=layout_of(rows))


def _refuse_old_folder(location: delta.Location) -> None:
    if delta.is_local(location) and any(parquet_files(day) for day in Path(location).glob(f"{schema.DATE}=*")):
        raise DataError(f"{location}: a log of an earlier release; run `feedrank migrate`, which makes it a table")
