"""The columns of a batch as arrays that rules can compute with."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feedrank import delta, schema
from feedrank.data import calendar
from feedrank.data.ingest.identity import Hashes, text_hashes
from feedrank.errors import DataError
from feedrank.tables import partition_days, read_partitioned, sort_by_time

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NULLABLE = pa.schema([field.with_nullable(True) for field in schema.INTERACTIONS])
"""schema.INTERACTIONS as a damaged table has it."""
UNKNOWN = -1
"""Code of a category outside its set."""


@dataclass(frozen=True)
class Limits:
    """What the batch is judged against besides its own history."""

    now_us: int
    num_users: int | None = None
    num_items: int | None = None


@dataclass(frozen=True)
class Batch:
    """Rows in time order; each array is [rows]. A null cell holds 0 (dwell: NaN) and counts in `nulls` only."""

    table: pa.Table
    limits: Limits
    settled: Bools | None = None
    """Rows of days that are not judged again, [rows]: of two copies theirs is the first. None if there are none."""

    def ints(self, name: str) -> Ints:
        """An integer or timestamp column (microseconds)."""
        column = self.table[name].cast(pa.int64())
        return pc.fill_null(column, 0).to_numpy()

    def nulls(self, name: str) -> Bools:
        """Where the column is null or NaN."""
        column = self.table[name]
        if pa.types.is_floating(column.type):
            return np.isnan(self.dwell)
        if not column.null_count:
            return np.zeros(len(column), dtype=bool)
        return pc.is_null(column).to_numpy()

    def codes(self, name: str, values: Sequence[str]) -> Ints:
        """Index of each cell in `values`; UNKNOWN outside."""
        found = pc.index_in(self.table[name], pa.array(values))
        return pc.fill_null(found.cast(pa.int64()), UNKNOWN).to_numpy()

    @cached_property
    def users(self) -> Ints:
        return self.ints(schema.USER_ID)

    @cached_property
    def items(self) -> Ints:
        return self.ints(schema.ITEM_ID)

    @cached_property
    def times(self) -> Ints:
        return self.ints(schema.TIMESTAMP)

    @cached_property
    def days(self) -> Ints:
        """Days since 1970-01-01; a row without a time belongs to the newest day."""
        days, lacking = calendar.days_since_epoch(self.times), self.nulls(schema.TIMESTAMP)
        return np.where(lacking, days.max(initial=0), days) if lacking.any() else days

    @cached_property
    def id_hashes(self) -> Hashes:
        return text_hashes([self.table[schema.INTERACTION_ID]])

    @cached_property
    def clicks(self) -> Ints:
        return self.ints(schema.CLICK)

    @cached_property
    def dwell(self) -> Floats:
        return pc.fill_null(self.table[schema.DWELL_TIME], float("nan")).to_numpy()

    @cached_property
    def devices(self) -> Ints:
        return self.codes(schema.DEVICE, schema.DEVICES)

    def good(self, bad: Bools) -> "Batch":
        """The batch without its bad rows."""
        return self.only(~bad) if bad.any() else self

    def with_settled(self, rows: Bools) -> "Batch":
        """The same batch, and what was computed of it, with these rows as settled."""
        batch = Batch(self.table, self.limits, rows if rows.any() else None)
        vars(batch).update({name: value for name, value in vars(self).items() if name not in vars(batch)})
        return batch

    def only(self, rows: Bools) -> "Batch":
        """The rows that a mask selects."""
        return Batch(self.table.filter(pa.array(rows)), self.limits)


@dataclass(frozen=True)
class ColumnType:
    """A column's type as the schema wants it and as it was found."""

    column: str
    expected: str
    found: str


def column_types(directory: Path) -> list[ColumnType]:
    """The types in the first file that differs from the schema, else in any; a text column may be dictionary-encoded.

    Raises:
        DataError: there is no table, or a file can't be read.
    """
    if delta.is_table(directory):
        found = delta.open_table(directory).schema
        return _types(found.remove(found.get_field_index(schema.DATE)))
    types: list[ColumnType] = []
    for _, folder in partition_days(directory):
        for file in sorted(folder.glob("*.parquet")):
            types = _types(_file_schema(file))
            if any(t.expected != t.found for t in types):
                return types
    return types


def _file_schema(file: Path) -> pa.Schema:
    try:
        return pq.read_schema(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{file}: can't be read as Parquet ({error}); restore or rewrite it") from error


def _types(found: pa.Schema) -> list[ColumnType]:
    ours = [n for n in schema.INTERACTIONS.names if n in found.names or n not in schema.OPTIONAL_COLUMNS]
    names = [*ours, *(n for n in found.names if n not in ours)]
    wanted = {field.name: str(field.type) for field in schema.INTERACTIONS}
    present = {field.name: _plain_type(field.type) for field in found}
    return [ColumnType(n, wanted.get(n, "no such column"), present.get(n, "missing")) for n in names]


def _plain_type(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return "string" if pa.types.is_large_string(kind) else str(kind)


def load(directory: Path, limits: Limits) -> Batch:
    """Reads a table whose types are right; it may be empty."""
    columns = schema.INTERACTIONS.names
    if delta.is_table(directory):
        table = sort_by_time(delta.open_table(directory).read(columns=columns))
    else:
        table = read_partitioned(directory, columns=columns)
    return Batch(table.cast(NULLABLE), limits)
