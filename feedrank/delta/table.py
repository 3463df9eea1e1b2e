"""Writing a table: every method commits all or nothing on top of the newest version and returns the new snapshot."""

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from feedrank.delta.files import DataFile, existing_files, write_files
from feedrank.delta.layout import NOTHING, Layout, Merged, Note
from feedrank.delta.snapshot import Snapshot
from feedrank.delta.store import Location, errors, file_system, handle_of, is_conflict, is_local, options
from feedrank.errors import StorageError
from feedrank.schema import DATE

if TYPE_CHECKING:
    from deltalake import DeltaTable, WriterProperties
    from deltalake.transaction import AddAction

Rows: TypeAlias = pa.Table | Iterable[pa.Table]
Result = TypeVar("Result")

ATTEMPTS = 8
"""A commit that lost against another one is made again on the newer version, so many times."""
FIRST_WAIT_S = 0.05
"""The longest wait before it; doubled each time."""


def is_table(location: Location) -> bool:
    """Whether a Delta table is there.

    Raises:
        DataError: it needs features that this release doesn't know.
        StorageError: the store doesn't answer.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    if is_local(location):
        return any(Path(location, "_delta_log").glob("*.json"))
    with errors(location), contextlib.suppress(TableNotFoundError):
        DeltaTable(str(location), storage_options=options(location))
        return True
    return False


def open_table(location: Location, *, version: int | None = None) -> "Table":
    """The newest snapshot of a table, or that of a version.

    Raises:
        DataError: there is no table, no such version, or the table needs features that this release doesn't know.
        StorageError: the store doesn't answer.
    """
    return Table(location, handle_of(location, version))


def create_table(location: Location, *, layout: Layout, note: Note = NOTHING) -> "Table":
    """The table, made empty if it isn't there."""
    from deltalake import DeltaTable
    from deltalake.exceptions import CommitFailedError

    with errors(location), contextlib.suppress(CommitFailedError):  # another writer made it meanwhile
        DeltaTable.create(
            str(location),
            layout.stored,
            mode="ignore",
            partition_by=[DATE],
            configuration=layout.settings,
            storage_options=options(location),
            commit_properties=note.properties(),
        )
    return open_table(location)


def convert(folder: Location, *, layout: Layout, note: Note = NOTHING) -> "Table":
    """Makes a folder of date=YYYY-MM-DD/*.parquet a table where it lies; no row is copied. A table stays as it is.

    Raises:
        DataError: a file can't be read.
        StorageError: the store doesn't answer.
    """
    from deltalake import Schema
    from deltalake.transaction import create_table_with_add_actions

    if is_table(folder):
        return open_table(folder)
    with errors(folder):
        found = [_added(file) for file in existing_files(file_system(folder))]
        create_table_with_add_actions(
            str(folder),
            Schema.from_arrow(layout.stored),
            found,
            partition_by=[DATE],
            configuration=layout.settings,
            storage_options=options(folder),
            commit_properties=note.properties(),
        )
    return open_table(folder)


class Table(Snapshot):
    """A snapshot that can be written on."""

    def append(self, rows: Rows, *, layout: Layout, note: Note = NOTHING) -> "Table":
        """Adds rows, in one commit however many tables they come in. A transaction that was committed adds nothing.

        Raises:
            StorageError: the store doesn't answer, or another writer committed the same transaction meanwhile.
        """
        if note.transaction is not None:
            application, number = note.transaction
            newest = self.refreshed()
            done = newest.transaction(application)
            if done is not None and done >= number:
                return newest
        tables = [rows] if isinstance(rows, pa.Table) else rows
        table = self.widened(layout)
        with errors(self.location):
            files = list(write_files(tables, layout=layout, files=self.files))
        return table.commit(files, note=note)

    def commit(
        self,
        added: Sequence[DataFile],
        *,
        removed: Sequence[str] = (),
        note: Note = NOTHING,
        beside_appends: bool = False,
    ) -> "Table":
        """Makes files part of the table and takes others (their paths) out of it, in one commit.

        With `beside_appends` it doesn't matter what others have added to the days of the removed files since.

        Raises:
            StorageError: another writer changed a day of the removed files since this snapshot, or committed the same
                transaction.
        """
        from deltalake.transaction import RemoveAction

        now = round(time.time() * 1000)
        actions: list[AddAction | RemoveAction] = [_added(file, now=now) for file in added]
        out = self._files.filter(pc.is_in(self._files["path"], pa.array(removed, pa.string()))).to_pylist()
        actions += [
            RemoveAction(file["path"], True, now, file["size_bytes"], {DATE: file[DATE].isoformat()}) for file in out
        ]
        days = {file[DATE] for file in out}

        def once(handle: "DeltaTable") -> None:
            newest = Table(self.location, handle)
            done = None if note.transaction is None else newest.transaction(note.transaction[0])
            again = note.transaction is not None and done is not None and done >= note.transaction[1]
            there = {*newest.paths_of(days)}
            changed = not {*removed} <= there if beside_appends else there != {*self.paths_of(days)}
            if again or changed:
                raise StorageError(f"{self.location}: another run wrote the same rows meanwhile; try again")
            handle.create_write_transaction(
                actions, "append", newest.schema, [DATE], commit_properties=note.properties()
            )

        return self._again(once)[0].refreshed()

    def replace(self, rows: Rows, *, layout: Layout, note: Note = NOTHING) -> "Table":
        """Puts `rows` in the place of all that this snapshot holds.

        Raises:
            StorageError: another writer changed a file of it since.
        """
        tables = [rows] if isinstance(rows, pa.Table) else rows
        with errors(self.location):
            files = list(write_files(tables, layout=layout, files=self.files))
        return self.commit(files, removed=self.paths, note=note)

    def merge(
        self, rows: pa.Table, *, key: str, layout: Layout, days: Iterable[date] = (), note: Note = NOTHING
    ) -> tuple["Table", Merged]:
        """Adds rows whose key is new and replaces those whose other columns differ, also where their day changes.

        Only the rows' own days and `days` are searched for the key, which is unique among `rows`.
        """
        source = _dated(rows, layout)
        searched = sorted({*pc.unique(source[DATE]).to_pylist(), *days})
        others = [name for name in source.column_names if name != key]
        changed = " OR ".join(f'(source."{name}" IS DISTINCT FROM target."{name}")' for name in others)

        def once(handle: "DeltaTable") -> Mapping[str, Any]:
            merger = handle.merge(
                source,
                predicate=f'{in_days(searched, of="target")} AND target."{key}" = source."{key}"',
                source_alias="source",
                target_alias="target",
                merge_schema=True,
                writer_properties=_writer(),
                commit_properties=note.properties(),
            )
            return merger.when_matched_update_all(predicate=changed).when_not_matched_insert_all().execute()

        table, metrics = self._again(once)
        return table, Merged(added=metrics["num_target_rows_inserted"], updated=metrics["num_target_rows_updated"])

    def replace_days(self, rows: Rows, *, days: Sequence[date], layout: Layout, note: Note = NOTHING) -> "Table":
        """Puts `rows`, all of these days, in the place of what the days hold in this snapshot.

        Raises:
            StorageError: another writer changed one of the days since this snapshot.
        """
        tables = [rows] if isinstance(rows, pa.Table) else rows
        with errors(self.location):
            files = list(write_files(tables, layout=layout, files=self.files))
        if strange := sorted({file.day for file in files} - {*days}):
            raise AssertionError(f"rows of {strange} in the place of {sorted(days)}")
        return self.commit(files, removed=self.paths_of(days), note=note)

    def delete(self, where: str, *, note: Note = NOTHING) -> tuple["Table", int]:
        """Deletes the rows that meet an SQL predicate; returns how many."""
        table, metrics = self._again(
            lambda handle: handle.delete(where, writer_properties=_writer(), commit_properties=note.properties())
        )
        return table, int(metrics["num_deleted_rows"])

    def compact(self, *, start: date | None = None, end: date | None = None) -> "Table":
        """Merges the small files of each day; readers and appends go on meanwhile."""
        bounds = ((">=", start), ("<=", end))
        days = [(DATE, sign, day.isoformat()) for sign, day in bounds if day is not None]
        return self._again(
            lambda handle: handle.optimize.compact(partition_filters=days or None, writer_properties=_writer())
        )[0]

    def vacuum(self, *, keep_hours: int, keep_versions: Sequence[int] = ()) -> list[str]:
        """Removes files that no version of the last `keep_hours`, nor of `keep_versions`, needs; returns their paths.

        The files of writers that died are removed, too; so `keep_hours` must exceed the longest write and read.
        """
        _, removed = self._again(
            lambda handle: handle.vacuum(
                retention_hours=keep_hours,
                dry_run=False,
                enforce_retention_duration=False,
                full=True,
                keep_versions=list(keep_versions) or None,
            )
        )
        return removed

    def widened(self, layout: Layout) -> "Table":
        """The table with the columns, and fields of structs, that it lacks; earlier rows have no value in them."""
        from deltalake import Schema, write_deltalake

        table = self
        if missing := [field for field in layout.columns if field.name not in self.schema.names]:
            fields = Schema.from_arrow(pa.schema([field.with_nullable(True) for field in missing])).fields
            table = table._again(lambda handle: handle.alter.add_columns(fields))[0]
        if _lacks_fields(table.schema, layout.columns):
            nothing = layout.stored.empty_table()
            table = table._again(lambda handle: write_deltalake(handle, nothing, mode="append", schema_mode="merge"))[
                0
            ].refreshed()
        return table

    def refreshed(self) -> "Table":
        """The newest snapshot."""
        return open_table(self.location)

    def _again(self, once: Callable[["DeltaTable"], Result]) -> tuple["Table", Result]:
        """Runs an operation that may be repeated on a newer version until no other commit is in its way."""
        from deltalake.exceptions import CommitFailedError

        with errors(self.location):
            for attempt in range(1, ATTEMPTS + 1):
                handle = handle_of(self.location)
                try:
                    result = once(handle)
                except CommitFailedError as error:
                    if attempt == ATTEMPTS or not is_conflict(error):
                        raise
                    time.sleep(random.uniform(0, FIRST_WAIT_S * 2**attempt))
                else:
                    return Table(self.location, handle), result
        raise AssertionError


def _lacks_fields(found: pa.Schema, wanted: pa.Schema) -> bool:
    """Whether a struct of the wanted columns has a field that the table's does not have."""
    structs = [field for field in wanted if pa.types.is_struct(field.type)]
    return any({*field.type.names} - {*found.field(field.name).type.names} for field in structs)


def _added(file: DataFile, *, now: int = 0) -> "AddAction":
    from deltalake.transaction import AddAction

    return AddAction(file.path, file.bytes, {DATE: file.day.isoformat()}, now, True, file.stats)


def in_days(days: Iterable[date], *, of: str = "") -> str:
    """The SQL predicate of the rows of these days."""
    column = f"{of}.{DATE}" if of else DATE
    return f"{column} IN ({', '.join(f'CAST({day.isoformat()!r} AS DATE)' for day in days)})"


def _dated(rows: pa.Table, layout: Layout) -> pa.Table:
    days = rows[layout.day_of].cast(pa.date32())
    return rows.select(layout.columns.names).append_column(DATE, days).cast(layout.stored)


def _writer() -> "WriterProperties":
    from deltalake import WriterProperties

    return WriterProperties(compression="ZSTD")
