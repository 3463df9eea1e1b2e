"""The table of interactions: a Delta table at a path or an s3:// address."""

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

import pyarrow as pa

from feedrank import delta, schema, storage
from feedrank.errors import DataError
from feedrank.tables import partition_days

LAYOUT = delta.Layout(schema.INTERACTIONS, day_of=schema.TIMESTAMP)


def open_interactions(location: delta.Location, *, version: int | None = None) -> delta.Table:
    """A snapshot of them.

    Raises:
        DataError: there is no table, or a folder of an earlier release.
    """
    refuse_old_folder(location)
    return delta.open_table(location, version=version)


def write_interactions(
    rows: pa.Table | Iterable[pa.Table], location: delta.Location, *, note: delta.Note = delta.NOTHING
) -> delta.Table:
    """Makes rows all that the table holds; earlier versions of it stay readable.

    Raises:
        DataError: a folder of an earlier release lies there.
        StorageError: another run wrote the table meanwhile.
    """
    refuse_old_folder(location)
    with only_writer(location):
        return delta.create_table(location, layout=LAYOUT).replace(rows, layout=LAYOUT, note=note)


@contextlib.contextmanager
def only_writer(location: delta.Location) -> Iterator[None]:
    """On a volume, refuses a second run at once and not by its commit, and leaves no empty table when the first fails.

    Raises:
        StorageError: another run writes the table.
    """
    if not delta.is_local(location):
        yield
        return
    with storage.exclusive(Path(location)):
        is_new = not delta.is_table(location)
        try:
            yield
        except BaseException:
            if is_new:
                shutil.rmtree(location, ignore_errors=True)
            raise


def refuse_old_folder(location: delta.Location) -> None:
    """Raises DataError where a folder of days lies that is no Delta table yet."""
    if not delta.is_local(location) or delta.is_table(location) or not Path(location).is_dir():
        return
    if partition_days(Path(location)):
        raise DataError(f"{location}: a folder of an earlier release; run `feedrank migrate`, which makes it a table")


def last_day(table: delta.Table) -> date | None:
    """Of the interactions; None if there are none."""
    return max(table.days(), default=None)
