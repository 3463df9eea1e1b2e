"""From the columns of a foreign file to schema.INTERACTIONS; rows that can't be cast come back with the reason."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feedrank import schema
from feedrank.config.ingest import MICROSECONDS, ColumnSource, Mapping
from feedrank.data import calendar
from feedrank.data.ingest import identity
from feedrank.data.ingest.casts import Cast, cast_integer, cast_number, cast_text, cast_timestamp
from feedrank.errors import DataError
from feedrank.tables import timestamps_us

DERIVED = (schema.INTERACTION_ID, schema.TIME_OF_DAY, schema.DAY_OF_WEEK)


@dataclass(frozen=True)
class Plan:
    """Where each of our columns comes from in one kind of file; columns in neither dict are derived."""

    sources: dict[str, ColumnSource]
    defaulted: tuple[str, ...]

    @property
    def file_columns(self) -> list[str]:
        """The columns to read from the file."""
        return list(dict.fromkeys(name for source in self.sources.values() for name in source.source))


def plan_columns(file: str, present: Sequence[str], mapping: Mapping | None) -> Plan:
    """Decides the source of every column.

    Raises:
        DataError: a column is missing; names file, column and the columns present.
    """
    sources: dict[str, ColumnSource] = {}
    defaulted = []
    for name in schema.INTERACTIONS.names:
        if mapping is not None and name in mapping.columns:
            sources[name] = mapping.columns[name]
        elif name in present:
            sources[name] = ColumnSource(**{"from": name})
        elif mapping is not None and name in mapping.defaults:
            sources[name] = ColumnSource(constant=mapping.defaults[name])
            defaulted.append(name)
        elif name not in DERIVED:
            sources[name] = ColumnSource(**{"from": name})
        for column in sources[name].source if name in sources else ():
            if column not in present:
                raise DataError(
                    f"{file}: column '{column}' (for {name}) is missing; the file has {', '.join(present)}; "
                    f"name the right one in the mapping file"
                )
    return Plan(sources=sources, defaulted=tuple(defaulted))


@dataclass(frozen=True)
class Normalised:
    """`good` has schema.INTERACTIONS; `bad` are the other rows' places, [bad], `reasons` why."""

    good: pa.Table
    bad: npt.NDArray[np.int64]
    reasons: list[str]


def normalise(table: pa.Table, plan: Plan) -> Normalised:
    """Casts, derives and completes the columns of a piece of a file."""
    casts = {name: _column(name, plan.sources[name], table) for name in plan.sources}
    reasons: dict[int, str] = {}
    for cast in casts.values():
        for place in cast.bad:
            reasons.setdefault(int(place), cast.reason(int(place)))
    bad = np.array(sorted(reasons), dtype=np.int64)
    columns = {name: cast.values for name, cast in casts.items()}
    if len(bad):
        keep = np.ones(table.num_rows, dtype=bool)
        keep[bad] = False
        columns = {name: column.filter(pa.array(keep)) for name, column in columns.items()}
    return Normalised(good=_complete(columns), bad=bad, reasons=[reasons[int(place)] for place in bad])


def _complete(columns: dict[str, pa.ChunkedArray | pa.Array]) -> pa.Table:
    times = timestamps_us(pa.table({schema.TIMESTAMP: columns[schema.TIMESTAMP]}))
    if schema.TIME_OF_DAY not in columns:
        codes = calendar.TIME_OF_DAY_BY_HOUR[calendar.hours(times)]
        columns[schema.TIME_OF_DAY] = pa.array(schema.TIMES_OF_DAY).take(pa.array(codes))
    if schema.DAY_OF_WEEK not in columns:
        days = calendar.weekdays(calendar.days_since_epoch(times))
        columns[schema.DAY_OF_WEEK] = pa.array(days.astype(np.int8))
    if schema.INTERACTION_ID not in columns:
        content = [name for name in schema.INTERACTIONS.names if name not in DERIVED]
        columns[schema.INTERACTION_ID] = identity.content_uuids(pa.table({name: columns[name] for name in content}))
    names = schema.INTERACTIONS.names
    return pa.table([columns[name] for name in names], schema=schema.INTERACTIONS)


def _column(name: str, source: ColumnSource, table: pa.Table) -> Cast:
    if source.constant is not None:
        field = schema.INTERACTIONS.field(name)
        return Cast(name, pa.array([source.constant] * table.num_rows, field.type))
    raw = [table[column] for column in source.source]
    if source.fill is not None:
        raw = [pc.fill_null(column, pa.scalar(source.fill).cast(column.type)) for column in raw]
    if source.values:
        raw = [_renamed(column, source.values) for column in raw]
    if source.hash:
        empty = np.flatnonzero(pc.is_null(raw[0]).to_numpy()) if len(raw) == 1 else np.array([], dtype=np.int64)
        make: Callable[[], pa.Array] = (
            (lambda: identity.text_uuids(pc.fill_null(raw[0].cast(pa.string()), "")))
            if name == schema.INTERACTION_ID
            else (lambda: identity.hashed_ids(raw))
        )
        return Cast(name, make(), raw[0], empty)
    return _typed(name, source, raw[0])


def _typed(name: str, source: ColumnSource, raw: pa.ChunkedArray) -> Cast:
    kind = schema.INTERACTIONS.field(name).type
    if name == schema.TIMESTAMP:
        return cast_timestamp(name, raw, unit_us=MICROSECONDS.get(source.unit or ""))
    if pa.types.is_string(kind):
        return cast_text(name, raw)
    if pa.types.is_floating(kind):
        seconds = MICROSECONDS[source.unit] / MICROSECONDS["s"] if source.unit else 1.0
        return cast_number(name, raw, factor=seconds)
    if source.at_least is not None:
        number = cast_number(name, raw)
        reached = pc.greater_equal(number.values, source.at_least).cast(kind)
        return Cast(name, reached, raw, number.bad)
    return cast_integer(name, raw, kind=kind)


def _renamed(column: pa.ChunkedArray, values: dict[str, str]) -> pa.ChunkedArray:
    text = column.cast(pa.string())
    place = pc.index_in(text, pa.array(list(values)))
    return pc.coalesce(pa.array(list(values.values())).take(place.combine_chunks()), text)
