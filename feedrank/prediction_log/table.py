"""The log's table: a Delta table at a path or an s3:// address, partitioned by the day of arrival."""

from pathlib import Path

from feedrank import delta, schema
from feedrank.errors import DataError
from feedrank.tables import parquet_files

LAYOUT = delta.Layout(schema.PREDICTION_LOG, day_of=schema.RECEIVED_AT, history_days=7)
"""A predictor commits every minute, and nothing goes back to an earlier version: old commits would be half a million a
year, which every reader lists."""


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


def create_log(location: delta.Location) -> delta.Table:
    """The log, made empty if it isn't there; errors as in `open_log`."""
    if not delta.is_table(location):
        _refuse_old_folder(location)
    return delta.create_table(location, layout=LAYOUT)


def _refuse_old_folder(location: delta.Location) -> None:
    if delta.is_local(location) and any(parquet_files(day) for day in Path(location).glob(f"{schema.DATE}=*")):
        raise DataError(f"{location}: a log of an earlier release; run `feedrank migrate`, which makes it a table")
