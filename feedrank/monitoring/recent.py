"""Reads the rows of a time range from the prediction log or the feedback, in batches, whatever their volume.

Only the days, row groups and columns that are asked for are read. Damage is named, not fatal: a file that can't be read
or is of another schema is skipped, a day without files is missed; each gives a warning.
"""

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from feedrank import schema
from feedrank.delta import Location
from feedrank.errors import DataError
from feedrank.monitoring.data_files import DataFile, day_files
from feedrank.tables import conformed

BATCH_ROWS = 1 << 18
ARRIVAL = schema.RECEIVED_AT
"""Column of the prediction log by which its windows go."""


@dataclass(frozen=True)
class _Part:
    """Row groups of a file that may hold rows of the range."""

    file: DataFile
    row_groups: list[int]
    rows: int


@dataclass(frozen=True)
class Source:
    """Rows in [start, end) of a partitioned table, by the time column `by`."""

    location: Location
    wanted: pa.Schema
    by: str
    start: datetime
    end: datetime
    expected_from: datetime
    expected_until: datetime
    """Days without a file from the one to the other are warned of."""
    parts: list[_Part] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """Complete once the batches were read."""

    @staticmethod
    def open(
        location: Location,
        *,
        wanted: pa.Schema,
        by: str,
        start: datetime,
        end: datetime,
        expected_from: datetime,
        expected_until: datetime | None = None,
    ) -> "Source":
        """Looks at the files' footers; rows are expected until `end` if nothing else is said."""
        until = end if expected_until is None else min(end, expected_until)
        source = Source(location, wanted, by, start.astimezone(UTC), end.astimezone(UTC), expected_from, until)
        source._plan()
        return source

    @property
    def rows(self) -> int:
        """Rows that are read at most."""
        return sum(part.rows for part in self.parts)

    def batches(self, *, keys: Collection[str]) -> Iterator[pa.Table]:
        """The rows, some at a time; those in which a key is null are left out and warned of."""
        incomplete = 0
        for part in self.parts:
            try:
                for batch in self._read(part):
                    whole = np.logical_and.reduce([batch[key].is_valid().to_numpy() for key in {*keys, self.by}])
                    incomplete += int((~whole).sum())
                    yield batch if whole.all() else batch.filter(pa.array(whole))
            except (DataError, pa.ArrowException, OSError) as error:
                self.warnings.append(f"skipped: {part.file}: {error}")
        if incomplete:
            needed = ", ".join(dict.fromkeys([*keys, self.by]))
            self.warnings.append(f"{self.location}: {incomplete} rows without {needed} left out")

    def _plan(self) -> None:
        # A batch that was written around midnight may lie in the folder of the neighbouring day.
        first, last = self.start.date() - timedelta(days=1), self.end.date() + timedelta(days=1)
        days = day_files(self.location, start=first, end=last)
        for day in _days(self.expected_from, self.expected_until - timedelta(microseconds=1)):
            if day not in days:
                self.warnings.append(f"{self.location}: no data of {day}; is its writer running?")
        for file in itertools.chain.from_iterable(days.values()):
            try:
                part = self._part(file)
            except (pa.ArrowException, OSError) as error:
                self.warnings.append(f"skipped: {file}: can't be read as Parquet ({error})")
            else:
                if part.row_groups:
                    self.parts.append(part)

    def _part(self, file: DataFile) -> _Part:
        with file.open() as parquet:
            metadata = parquet.metadata
            groups = [index for index in range(metadata.num_row_groups) if self._may_match(metadata.row_group(index))]
            return _Part(file, groups, sum(metadata.row_group(index).num_rows for index in groups))

    def _may_match(self, group: pq.RowGroupMetaData) -> bool:
        for index in range(group.num_columns):
            column = group.column(index)
            if column.path_in_schema == self.by:
                statistics = column.statistics
                if statistics is None or not statistics.has_min_max or statistics.null_count:
                    return True
                try:
                    return bool(statistics.min < self.end and statistics.max >= self.start)
                except TypeError:  # of another type; reading the file names it
                    return True
        return True

    def _read(self, part: _Part) -> Iterator[pa.Table]:
        with part.file.open() as parquet:
            # A column that is missing is named by `conformed`.
            names = [name for name in self.wanted.names if name in parquet.schema_arrow.names]
            for batch in parquet.iter_batches(BATCH_ROWS, row_groups=part.row_groups, columns=names):
                yield self._inside(conformed(pa.Table.from_batches([batch]), self.wanted, file=str(part.file)))

    def _inside(self, table: pa.Table) -> pa.Table:
        times = table[self.by]
        start, end = (pa.scalar(moment, type=schema.TIMESTAMP_TYPE) for moment in (self.start, self.end))
        # A row without a time is kept, to be counted with the other incomplete ones.
        inside = pc.fill_null(pc.and_(pc.greater_equal(times, start), pc.less(times, end)), True)
        return table if pc.all(inside).as_py() else table.filter(inside)


def _days(start: datetime, end: datetime) -> Iterator[date]:
    for offset in range((end.date() - start.date()).days + 1):
        yield start.date() + timedelta(days=offset)


@dataclass(frozen=True)
class FutureRows:
    """Rows that are stamped later than the present."""

    rows: int
    latest: datetime


def future_rows(location: Location, *, now: datetime, skew_seconds: float) -> FutureRows | None:
    """Rows of a log stamped later than now, beyond the allowed skew of clocks; None when there are none.

    No window holds them, so they are looked for in the folders of all days from yesterday on.
    """
    limit = now.astimezone(UTC) + timedelta(seconds=skew_seconds)
    days = day_files(location, start=limit.date() - timedelta(days=1))
    found = [times for file in itertools.chain.from_iterable(days.values()) if len(times := _times_after(file, limit))]
    if not found:
        return None
    return FutureRows(rows=sum(map(len, found)), latest=max(pc.max(times).as_py() for times in found))


def _times_after(file: DataFile, limit: datetime) -> pa.ChunkedArray:
    """The later timestamps of a file; row groups without any are not read."""
    times = pa.schema([pa.field(schema.TIMESTAMP, schema.TIMESTAMP_TYPE)])
    later = ds.field(schema.TIMESTAMP) > pa.scalar(limit, schema.TIMESTAMP_TYPE)
    try:
        return pa.Table.from_batches(file.batches(times, where=later), times)[schema.TIMESTAMP]
    except (pa.ArrowException, OSError):  # reading its window names a file that can't be read
        return pa.chunked_array([], schema.TIMESTAMP_TYPE)
