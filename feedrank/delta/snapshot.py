"""Reading a table: a snapshot, which doesn't see what others commit later."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from feedrank.delta.layout import Commit, DayFiles
from feedrank.delta.store import Location, errors, file_system
from feedrank.errors import DataError
from feedrank.schema import DATE

if TYPE_CHECKING:
    from deltalake import DeltaTable


class Snapshot:
    """One version of a Delta table."""

    def __init__(self, location: Location, handle: "DeltaTable") -> None:
        self.location = location
        self._handle = handle

    def __repr__(self) -> str:
        return f"Table({self.location}, version {self.version})"

    @property
    def version(self) -> int:
        """Of this snapshot."""
        return self._handle.version()

    @cached_property
    def schema(self) -> pa.Schema:
        """Its columns, with the partition's."""
        return pa.schema(self._handle.schema().to_arrow())

    @cached_property
    def _files(self) -> pa.Table:
        """By day, and of a day in the order in which they were written."""
        actions = pa.table(self._handle.get_add_actions(flatten=True))
        names = ["path", "size_bytes", "num_records", "modification_time"]
        files = actions.select(names).append_column(DATE, actions[f"partition.{DATE}"])
        return files.sort_by([(DATE, "ascending"), ("modification_time", "ascending"), ("path", "ascending")])

    def _files_of(self, start: date | None, end: date | None) -> pa.Table:
        wanted = pa.scalar(True)
        if start is not None:
            wanted = pc.and_(wanted, pc.greater_equal(self._files[DATE], pa.scalar(start)))
        if end is not None:
            wanted = pc.and_(wanted, pc.less_equal(self._files[DATE], pa.scalar(end)))
        return self._files if isinstance(wanted, pa.Scalar) else self._files.filter(wanted)

    @property
    def paths(self) -> list[str]:
        """Its files, relative to it."""
        return self._files["path"].to_pylist()

    def replaced(self) -> list[str]:
        """Files that only earlier versions hold, as far back as the log says."""
        with errors(self.location):
            return self._handle.vacuum(retention_hours=0, dry_run=True, enforce_retention_duration=False)

    def paths_of(self, days: Iterable[date]) -> list[str]:
        """The files of these days."""
        of_days = pc.is_in(self._files[DATE], pa.array(sorted(days), pa.date32()))
        return self._files.filter(of_days)["path"].to_pylist()

    def days(self) -> dict[date, DayFiles]:
        """The days with rows, in order, by the log's statistics; no file is opened."""
        totals = self._files.group_by(DATE).aggregate(
            [("num_records", "sum"), ("size_bytes", "sum"), ("path", "count")]
        )
        rows = sorted(totals.to_pylist(), key=lambda row: row[DATE])
        return {
            row[DATE]: DayFiles(row["num_records_sum"], row["size_bytes_sum"], row["path_count"])
            for row in rows
            if row["num_records_sum"]
        }

    @property
    def rows(self) -> int:
        """How many there are."""
        return pc.sum(self._files["num_records"]).as_py() or 0

    @property
    def bytes(self) -> int:
        """Of the files of this snapshot; earlier versions and the log come on top."""
        return pc.sum(self._files["size_bytes"]).as_py() or 0

    def dataset(self, *, start: date | None = None, end: date | None = None) -> ds.Dataset:
        """The files of the days from `start` to `end` (both included) as Arrow sees them, without `date`."""
        paths = self._files_of(start, end)["path"].to_pylist()
        columns = self.schema.remove(self.schema.get_field_index(DATE))
        return ds.dataset(paths, schema=columns, format="parquet", filesystem=self.files, partition_base_dir="")

    @cached_property
    def files(self) -> pafs.SubTreeFileSystem:
        """Its folder; paths are relative to it."""
        return file_system(self.location)

    def read(
        self,
        *,
        columns: Sequence[str] | None = None,
        start: date | None = None,
        end: date | None = None,
        where: ds.Expression | None = None,
    ) -> pa.Table:
        """Columns (all but `date`) of the rows of the days from `start` to `end` (both included) that meet `where`.

        Raises:
            DataError: a column isn't there, or the files are gone or damaged.
        """
        missing = sorted({*(columns or ())} - {*self.schema.names})
        if missing:
            raise DataError(f"{self.location}: column {', '.join(missing)} is missing; it has {self.schema.names}")
        with errors(self.location, self.version):
            data = self.dataset(start=start, end=end)
            return data.to_table(columns=None if columns is None else list(columns), filter=where)

    def history(self, *, limit: int | None = None) -> list[Commit]:
        """The commits up to this version, newest first."""
        with errors(self.location):
            return [_commit(entry) for entry in self._handle.history(limit) if entry["version"] <= self.version]

    def transaction(self, application: str) -> int | None:
        """The number of an application's last transaction."""
        return self._handle.transaction_version(application)

    def changed_days(self, since: int) -> list[date]:
        """The days whose rows were added, changed or deleted after version `since`; compaction changes none."""
        days: set[str] = set()
        with errors(self.location):
            for version in range(since + 1, self.version + 1):
                with self.files.open_input_file(f"_delta_log/{version:020}.json") as file:
                    actions = [json.loads(line) for line in file.read().splitlines() if line]
                for action in actions:
                    entry = action.get("add") or action.get("remove") or {}
                    if entry.get("dataChange"):
                        days.add(entry["partitionValues"][DATE])
        return [date.fromisoformat(day) for day in sorted(days)]


def text(column: str) -> ds.Expression:
    """A column of texts in a filter: the files of a merge hold them in a form that compares with no other."""
    return pc.field(column).cast(pa.string())


def _commit(entry: Mapping[str, Any]) -> Commit:
    texts = {key: value for key, value in entry.items() if isinstance(value, str)}
    ours = {key: value for key, value in texts.items() if key not in {"operation", "engineInfo", "clientVersion"}}
    time = datetime.fromtimestamp(entry["timestamp"] / 1000, UTC)
    return Commit(version=entry["version"], time=time, operation=entry.get("operation", ""), metadata=ours)
