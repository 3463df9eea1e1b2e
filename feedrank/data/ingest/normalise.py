"""From the columns of a foreign file to schema.INTERACTIONS; rows that can't be cast come back with the reason."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feedrank import schema
from feedrank.config.ingest import NANOSECONDS, ColumnSource, IngestConfig, Mapping
from feedrank.data import calendar
from feedrank.data.ingest import casts, identity
from feedrank.data.ingest.casts import USUAL_NULLS, Cast, Column, cast_integer, cast_number, cast_text
from feedrank.data.ingest.times import TimeForm, cast_timestamp
from feedrank.errors import DataError
from feedrank.tables import timestamps_us

MANY = 50
"""Names, or letters of one, that an error shows."""
DERIVED = (schema.INTERACTION_ID, schema.TIME_OF_DAY, schema.DAY_OF_WEEK)


@dataclass(frozen=True)
class Plan:
    """Where each of our columns comes from in one kind of file; the others are derived, or optional and null."""

    sources: dict[str, ColumnSource]
    defaulted: tuple[str, ...]
    nulls: tuple[str, ...] = ()

    @property
    def file_columns(self) -> list[str]:
        """The columns to read from the file."""
        return list(dict.fromkeys(name for source in self.sources.values() for name in source.source))


def plan_columns(file: str, present: Sequence[str], mapping: Mapping | None, *, keys_may_lack: bool = False) -> Plan:
    """Decides the source of every column; with `keys_may_lack`, a column with a `fill` need not be present.

    Raises:
        DataError: a column is missing or there twice; names file, column and the columns present.
    """
    sources: dict[str, ColumnSource] = {}
    defaulted = []
    ignored = mapping.ignore if mapping is not None else ()
    for name in schema.INTERACTIONS.names:
        if mapping is not None and name in mapping.columns:
            sources[name] = mapping.columns[name]
        elif name in present and name not in ignored:
            sources[name] = ColumnSource(**{"from": name})
        elif mapping is not None and name in mapping.defaults:
            sources[name] = ColumnSource(constant=mapping.defaults[name])
            defaulted.append(name)
        elif name not in (*DERIVED, *schema.OPTIONAL_COLUMNS):
            sources[name] = ColumnSource(**{"from": name})
        source = sources.get(name)
        for column in source.source if source is not None else ():
            if present.count(column) > 1:
                raise DataError(
                    f"{file}: column '{column}' (for {name}) is there {present.count(column)} times; keep one"
                )
            if column not in present and not (keys_may_lack and source is not None and source.fill is not None):
                raise DataError(
                    f"{file}: column '{column}' (for {name}) is missing; the file has {_shown(present)}; "
                    f"name the right one in the mapping file"
                )
    return Plan(sources=sources, defaulted=tuple(defaulted), nulls=mapping.nulls if mapping is not None else ())


def _shown(names: Sequence[str]) -> str:
    """The names that a person can read."""
    texts = [name if name.isprintable() else repr(name) for name in names[:MANY]]
    return ", ".join(text if len(text) <= MANY else f"{text[:MANY]}…" for text in texts) + (
        f" and {len(names) - MANY} more" if len(names) > MANY else ""
    )


@dataclass(frozen=True)
class Normalised:
    """`good` has schema.INTERACTIONS; `bad` are the other rows' places, [bad], `reasons` why."""

    good: pa.Table
    bad: npt.NDArray[np.int64]
    reasons: list[str]
    naive_times: int
    from_file: frozenset[str]
    """Our columns of which the file has a value."""


def normalise(table: pa.Table, plan: Plan, *, config: IngestConfig, ids: identity.ImpressionIds) -> Normalised:
    """Casts, derives and completes the columns of a piece of a file, whose rows `ids` names where it doesn't."""
    cast = {name: _column(name, source, table, plan=plan, config=config) for name, source in plan.sources.items()}
    reasons: dict[int, str] = {}
    for column in cast.values():
        for place in column.bad:
            reasons.setdefault(int(place), column.reason(int(place)))
    bad = np.array(sorted(reasons), dtype=np.int64)
    columns = {name: column.values for name, column in cast.items()}
    if len(bad):
        keep = np.ones(table.num_rows, dtype=bool)
        keep[bad] = False
        columns = {name: column.filter(pa.array(keep)) for name, column in columns.items()}
    return Normalised(
        good=_complete(columns, ids),
        bad=bad,
        reasons=[reasons[int(place)] for place in bad],
        naive_times=cast[schema.TIMESTAMP].naive_times,
        from_file=frozenset(name for name, column in cast.items() if column.from_file),
    )


def _complete(columns: dict[str, Column], ids: identity.ImpressionIds) -> pa.Table:
    times = timestamps_us(pa.table({schema.TIMESTAMP: columns[schema.TIMESTAMP]}))
    if schema.TIME_OF_DAY not in columns:
        codes = calendar.TIME_OF_DAY_BY_HOUR[calendar.hours(times)]
        columns[schema.TIME_OF_DAY] = pa.array(schema.TIMES_OF_DAY).take(pa.array(codes))
    if schema.DAY_OF_WEEK not in columns:
        days = calendar.weekdays(calendar.days_since_epoch(times))
        columns[schema.DAY_OF_WEEK] = pa.array(days.astype(np.int8))
    if schema.INTERACTION_ID not in columns:
        columns[schema.INTERACTION_ID] = ids.of(columns[schema.USER_ID], columns[schema.ITEM_ID], times)
    for name in schema.OPTIONAL_COLUMNS:
        columns.setdefault(name, pa.nulls(len(times), schema.INTERACTIONS.field(name).type))
    names = schema.INTERACTIONS.names
    return pa.table([columns[name] for name in names], schema=schema.INTERACTIONS)


def _column(name: str, source: ColumnSource, table: pa.Table, *, plan: Plan, config: IngestConfig) -> Cast:
    kind = schema.INTERACTIONS.field(name).type
    if source.constant is not None:
        return Cast(name, pa.repeat(pa.scalar(source.constant).cast(kind), table.num_rows))
    is_text_id = source.hash or (name == schema.INTERACTION_ID)
    usual = ("",) if is_text_id else USUAL_NULLS
    raw = [table[column] for column in source.source]
    cells = [casts.without(column, usual=usual, own=plan.nulls) for column in raw]
    from_file = any(column.null_count < len(column) for column in cells)
    if source.fill is not None:
        cells = [casts.filled(column, source.fill) for column in cells]
    if source.values:
        cells = [_renamed(column, source.values) for column in cells]
    cast = _hashed(name, cells) if source.hash else _typed(name, source, cells[0], config)
    return replace(cast, from_file=from_file)


def _hashed(name: str, cells: list[Column]) -> Cast:
    empty = np.flatnonzero(pc.is_null(cells[0]).to_numpy()) if len(cells) == 1 else np.array([], dtype=np.int64)
    if name == schema.INTERACTION_ID:
        return Cast(name, identity.text_uuids(pc.fill_null(casts.as_text(cells[0]), "")), cells[0], empty)
    return Cast(name, identity.hashed_ids(cells), cells[0], empty)


def _typed(name: str, source: ColumnSource, cells: Column, config: IngestConfig) -> Cast:
    kind = schema.INTERACTIONS.field(name).type
    if pa.types.is_timestamp(kind):
        may_lack = name in schema.OPTIONAL_COLUMNS
        return cast_timestamp(name, cells, form=TimeForm(source, config), may_lack=may_lack)
    if pa.types.is_string(kind):
        return cast_text(name, cells)
    if pa.types.is_floating(kind):
        seconds = NANOSECONDS[source.unit] / NANOSECONDS["s"] if source.unit else 1.0
        return cast_number(name, cells, factor=seconds)
    if source.at_least is not None:
        number = cast_number(name, cells)
        reached = pc.greater_equal(number.values, source.at_least).cast(kind)
        return Cast(name, reached, cells, number.bad, number.expected)
    return cast_integer(name, cells, kind=kind)


def _renamed(column: Column, values: dict[str, str]) -> Column:
    text = casts.as_text(column)
    place = pc.index_in(text, pa.array(list(values)))
    return pc.coalesce(pa.array(list(values.values())).take(place.combine_chunks()), text)
