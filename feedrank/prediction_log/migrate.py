"""Makes a table of the log that an earlier release left: files without `received_at`, which takes the `timestamp`.

The rows are written beside the old files and committed at once; then the old files go. What is to go is planned in a
file before the commit, which names the plan: a run that was killed is known as committed or not.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from feedrank import delta, schema
from feedrank.config.feed import Feed
from feedrank.errors import DataError
from feedrank.prediction_log.table import layout_of
from feedrank.storage import exclusive
from feedrank.tables import conformed

PLAN_FILE = "_migration.json"
APPLICATION = "feedrank migrate"
"""Of the commits' transactions: of two runs at once in an object store, which has no lock, one commits."""
PLAN = "migration"
"""Key of a commit's metadata."""
OLD_NAME = re.compile(r"part-.+-\d{8}\.parquet")
"""What a predictor of the earlier release calls its files; one may write some more after the table was made."""
ROWS_AT_ONCE = 500_000
OLD_LOG = Feed().log
"""The releases that wrote files had the default declaration."""


class Plan(BaseModel):
    """The old files whose rows one commit has."""

    id: str
    files: list[str]


def migrate_log(location: delta.Location) -> delta.Table | None:
    """The log as a table; None where there is none. Killed at any point and run again, it ends what was begun.

    Needs as much room again as the old files take.

    Raises:
        DataError: a file can't be read.
        StorageError: the store doesn't answer, or another run is migrating.
    """
    with delta.errors(location):
        files = delta.file_system(location)
        if _plan(files) is None and not _old_files(location, files):
            return delta.open_table(location) if delta.is_table(location) else None
        with exclusive(Path(location)) if delta.is_local(location) else contextlib.nullcontext():
            begun = _plan(files)
            if begun is not None:
                _end(begun, files, committed=_is_committed(begun, location))
            if old := _old_files(location, files):
                _end(_migrate(location, old, files), files, committed=True)
    return delta.open_table(location) if delta.is_table(location) else None


def _migrate(location: delta.Location, old: Sequence[str], files: pafs.SubTreeFileSystem) -> Plan:
    plan = Plan(id=str(uuid4()), files=list(old))
    number = 1 if not delta.is_table(location) else (delta.open_table(location).transaction(APPLICATION) or 0) + 1
    with files.open_output_stream(PLAN_FILE) as stream:
        stream.write(plan.model_dump_json().encode())
    added = list(delta.write_files(_rows(location, old, files), layout=layout_of(OLD_LOG), files=files))
    table = delta.create_table(location, layout=layout_of(OLD_LOG)).widened(layout_of(OLD_LOG))
    table.commit(added, note=delta.Note({PLAN: plan.id}, transaction=(APPLICATION, number)))
    return plan


def _end(plan: Plan, files: pafs.SubTreeFileSystem, *, committed: bool) -> None:
    """Removes the old files of a plan that was committed, and the plan."""
    for path in plan.files if committed else []:
        _remove(path, files)
    _remove(PLAN_FILE, files)


def _is_committed(plan: Plan, location: delta.Location) -> bool:
    if not delta.is_table(location):
        return False
    return any(commit.metadata.get(PLAN) == plan.id for commit in delta.open_table(location).history())


def _plan(files: pafs.SubTreeFileSystem) -> Plan | None:
    """What was begun; a plan that is cut off was not committed."""
    try:
        with files.open_input_stream(PLAN_FILE) as stream:
            text = stream.read()
    except FileNotFoundError:
        return None
    try:
        return Plan.model_validate_json(text)
    except ValidationError:
        return Plan(id="", files=[])


def _old_files(location: delta.Location, files: pafs.SubTreeFileSystem) -> list[str]:
    paths = [file.path.lstrip("/") for file in delta.data_files(files)]
    if delta.is_table(location):
        known = {*delta.open_table(location).paths}
        paths = [path for path in paths if path not in known and OLD_NAME.fullmatch(Path(path).name)]
    return [path for path in paths if schema.RECEIVED_AT not in _opened(location, path, files).schema_arrow.names]


def _rows(location: delta.Location, paths: Sequence[str], files: pafs.SubTreeFileSystem) -> Iterator[pa.Table]:
    """Of all files, some at a time: a predictor wrote many small ones."""
    waiting: list[pa.Table] = []
    for path in paths:
        rows = _opened(location, path, files).read()
        rows = rows.append_column(schema.RECEIVED_AT, rows[schema.TIMESTAMP])
        waiting.append(conformed(rows, OLD_LOG, file=f"{location}/{path}"))
        if sum(table.num_rows for table in waiting) >= ROWS_AT_ONCE:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _opened(location: delta.Location, path: str, files: pafs.SubTreeFileSystem) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, filesystem=files)
    except pa.ArrowInvalid as error:
        raise DataError(f"{location}/{path}: can't be read ({error}); move it away, then migrate again") from error


def _remove(path: str, files: pafs.SubTreeFileSystem) -> None:
    with contextlib.suppress(FileNotFoundError):
        files.delete_file(path)
