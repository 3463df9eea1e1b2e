"""Proposes a mapping for a person's file, from the names of its columns and what stands in them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from feedrank import schema
from feedrank.config.ingest import NANOSECONDS, ColumnSource, IngestConfig, Mapping
from feedrank.data.ingest.casts import Column, as_text, numbers, whole_numbers, without
from feedrank.data.ingest.files import InputFile
from feedrank.data.ingest.readers import read_pieces
from feedrank.data.ingest.run import read_file
from feedrank.data.ingest.times import TimeForm, cast_timestamp
from feedrank.errors import DataError

SAMPLE_ROWS = 2_000
SHOWN_ROWS = 5
DELIMITERS = ("\t", ";", "|", "::", ",", "\x01")
FEW_VALUES = 30
NAMES: dict[str, str] = {
    schema.INTERACTION_ID: r"(interaction|impression|event)_?(uu)?id",
    schema.USER_ID: r"user|uid|visitor|customer|member|client|viewer|reader|account",
    schema.ITEM_ID: r"item|product|sku|article|movie|video|news|content|doc|track|song|asin|post|campaign|iid|ad_?id",
    schema.TIMESTAMP: r"time_?stamp|date_?time|event_?time|^time$|^ts$|date|created|unix|_at$",
    schema.CLICK: r"click|label|target|event|action|behaviou?r|rating|stars|score|type",
    schema.LIKE: r"^(is_?)?likes?d?$|favou?rite",
    schema.SHARE: r"^(is_?)?shares?d?$|repost|retweet",
    schema.DWELL_TIME: r"dwell|watch_?time|play_?time|read_?time|time_?spent",
    schema.DEVICE: r"device|platform",
}
"""How our columns are called elsewhere; the first match of a row wins its file column."""
SHOWN = r"view|impression|show|display|^pv$|exposure|skip"
"""Words for what a user only saw."""
SCALES = (5, 10, 100)
"""Of ratings: four fifths and more of one count as a click."""
UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


@dataclass(frozen=True)
class Proposal:
    """A mapping as YAML with remarks, and what the first rows of the file are through it."""

    text: str
    rows: pa.Table
    read: int
    refused: tuple[str, ...]


@dataclass(frozen=True)
class _Sample:
    names: list[str]
    columns: dict[str, Column]
    head: dict[str, Any]
    """What the mapping must say of the file's form."""


def infer_mapping(file: InputFile, *, config: IngestConfig) -> Proposal:
    """Looks at the first rows of a file.

    Raises:
        DataError: the file can't be read, or no column of it can be the user, the item or the time.
    """
    sample = _csv_sample(file, config) if file.format == "csv" else _typed_sample(file, Mapping(), config, {})
    roles = _roles(sample, config)
    missing = [name for name in (schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP) if name not in roles]
    if missing:
        raise DataError(
            f"{file.name}: no column looks like {', '.join(missing)} among {', '.join(sample.names)}; "
            "write the mapping by hand (config/mappings/ has examples)"
        )
    sources = {name: _source(name, roles[name], sample, config) for name in NAMES if name in roles}
    sources.setdefault(schema.CLICK, {"constant": 1})
    content = {**sample.head, "columns": sources, **_rest(sources, sample)}
    content = _ignoring(file, content, config)
    mapping = Mapping.model_validate(content)
    good, read, refused = _through(file, mapping, config)
    remark = (
        ""
        if "from" in sources[schema.CLICK]
        else "# Nothing tells what was not clicked: a ranker can't learn from it.\n"
    )
    text = f"# For {file.name}: read it and correct it.\n{remark}" + _yaml(content)
    return Proposal(text, good.slice(0, SHOWN_ROWS), read, tuple(refused[:SHOWN_ROWS]))


def _csv_sample(file: InputFile, config: IngestConfig) -> _Sample:
    with file.open() as stream:
        start = stream.read(1 << 16).decode("utf-8", errors="replace")
    lines = [line for line in re.split(r"\r\n|\n|\r", start)[:100] if line]
    delimiter = _delimiter(lines[:-1] or lines, file.delimiter)
    head: dict[str, Any] = {} if delimiter == file.delimiter else {"delimiter": delimiter}
    first = lines[0].split(delimiter) if lines else []
    if first and not any(_is_value(cell) for cell in first):
        return _typed_sample(file, Mapping.model_validate(head), config, head)
    names = [f"column_{place}" for place in range(1, len(first) + 1)]
    head["column_names"] = names
    return _typed_sample(file, Mapping.model_validate(head), config, head)


def _delimiter(lines: Sequence[str], usual: str) -> str:
    """The one that cuts all lines alike, most finely; the usual one of the file's ending if none does."""
    counts = {sign: {line.count(sign) for line in lines} for sign in DELIMITERS}
    even = {sign: max(count) for sign, count in counts.items() if len(count) == 1 and max(count) > 0}
    return usual if usual in even or not even else max(even, key=lambda sign: even[sign])


def _is_value(cell: str) -> bool:
    """Whether a cell is a number or a time, which no name is."""
    return re.fullmatch(r'"?[+-]?\d[\d.:TZ+ -]*"?', cell.strip()) is not None


def _typed_sample(file: InputFile, mapping: Mapping, config: IngestConfig, head: dict[str, Any]) -> _Sample:
    small = config.model_copy(update={"chunk_rows": SAMPLE_ROWS, "block_mb": 1})
    every: Callable[[str, Sequence[str]], list[str]] = lambda _, names: list(dict.fromkeys(names))  # noqa: E731
    piece = next(iter(read_pieces(file, wanted=every, mapping=mapping, config=small)), None)
    if piece is None or not piece.table.num_rows:
        raise DataError(f"{file.name}: no row to look at")
    table = piece.table.slice(0, SAMPLE_ROWS)
    columns = {
        name: without(table[name], usual=("", "NA", "null", "NULL", "\\N"), own=()) for name in table.column_names
    }
    return _Sample(table.column_names, columns, head)


def _roles(sample: _Sample, config: IngestConfig) -> dict[str, str]:
    """Which column of the file each of ours is."""
    free = list(sample.names)
    roles: dict[str, str] = {}
    if "column_names" in sample.head:
        _roles_by_content(roles, free, sample, config)
        return roles
    for ours, pattern in NAMES.items():
        by_name = [name for name in free if name == ours] or [name for name in free if re.search(pattern, _word(name))]
        fitting = [name for name in by_name if _fits(ours, sample.columns[name], config)]
        if fitting:
            roles[ours] = fitting[0]
            free.remove(fitting[0])
    return roles


def _roles_by_content(roles: dict[str, str], free: list[str], sample: _Sample, config: IngestConfig) -> None:
    """Of a file without names: the last time that is one; the user, the item and a label in their order."""
    times = [name for name in free if _fits(schema.TIMESTAMP, sample.columns[name], config)]
    if times:
        roles[schema.TIMESTAMP] = times[-1]
        free.remove(times[-1])
    roles.update(zip((schema.USER_ID, schema.ITEM_ID), free, strict=False))
    labels = [name for name in free[2:] if _fits(schema.CLICK, sample.columns[name], config)]
    if labels:
        roles[schema.CLICK] = labels[0]


def _word(name: str) -> str:
    """A column's name in lower case, with underscores, without a type behind it (`rating:float`)."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.partition(":")[0]).lower()


def _fits(ours: str, column: Column, config: IngestConfig) -> bool:
    if column.null_count == len(column):
        return False
    if ours == schema.TIMESTAMP:
        return _time_source(column, config) is not None
    if ours in (schema.CLICK, schema.LIKE, schema.SHARE):
        return len(column.unique()) <= FEW_VALUES
    if ours == schema.DWELL_TIME:
        return bool(numbers(column).null_count == column.null_count)
    return True


def _time_source(column: Column, config: IngestConfig) -> dict[str, Any] | None:
    """The unit that makes plausible times of most cells; {} for times that need none."""
    for unit in (None, *NANOSECONDS):
        source = ColumnSource.model_validate({"from": "x", "unit": unit})
        cast = cast_timestamp(schema.TIMESTAMP, column, form=TimeForm(source, config))
        if len(cast.bad) < len(column) / 2:
            return {} if unit is None else {"unit": unit}
    return None


def _source(ours: str, name: str, sample: _Sample, config: IngestConfig) -> dict[str, Any]:
    """The entry of one of our columns."""
    column = sample.columns[name]
    entry: dict[str, Any] = {"from": name}
    if ours == schema.TIMESTAMP:
        entry |= _time_source(column, config) or {}
    elif ours in (schema.USER_ID, schema.ITEM_ID, schema.INTERACTION_ID):
        if not (_are_uuids(column) if ours == schema.INTERACTION_ID else _are_numbers(column)):
            entry["hash"] = True
    elif ours in (schema.CLICK, schema.LIKE, schema.SHARE):
        entry |= _label(column)
    elif ours == schema.DEVICE:
        entry |= {"fill": "desktop"} if column.null_count else {}
    if ours == schema.DWELL_TIME:
        entry |= {"fill": 0} if column.null_count else {}
        largest = pc.max(numbers(column)).as_py()
        entry |= {"unit": "ms"} if largest is not None and largest > 10_000 else {}
    return entry


def _are_uuids(column: Column) -> bool:
    return all(re.fullmatch(UUID, str(cell)) for cell in column.drop_null().to_pylist())


def _are_numbers(column: Column) -> bool:
    return bool(whole_numbers(column).null_count == column.null_count)


def _label(column: Column) -> dict[str, Any]:
    """How the cells become 0 and 1."""
    words = sorted({str(word) for word in as_text(column).unique().to_pylist() if word is not None})
    fill: dict[str, Any] = {"fill": 0} if column.null_count else {}
    if set(map(str.lower, words)) <= {"0", "1", "true", "false", "0.0", "1.0"}:
        return fill
    values = numbers(column)
    if values.null_count == column.null_count:
        scale = next((scale for scale in SCALES if pc.max(values).as_py() <= scale), SCALES[-1])
        return {"at_least": scale * 4 // 5} | fill
    return {"values": {word: "0" if re.search(SHOWN, word.lower()) else "1" for word in words}} | fill


def _rest(sources: dict[str, Any], sample: _Sample) -> dict[str, Any]:
    defaults = {schema.LIKE: 0, schema.SHARE: 0, schema.DWELL_TIME: 0.0, schema.DEVICE: "desktop"}
    left = {name: value for name, value in defaults.items() if name not in sources and name not in sample.names}
    return {"defaults": left} if left else {}


def _ignoring(file: InputFile, content: dict[str, Any], config: IngestConfig) -> dict[str, Any]:
    """With what the file calls like a column of ours and counts otherwise ignored."""
    good, _, _ = _through(file, Mapping.model_validate(content), config)
    derivable = [schema.TIME_OF_DAY, schema.DAY_OF_WEEK]
    derived, _, _ = _through(file, Mapping.model_validate({**content, "ignore": derivable}), config)
    odd = [name for name in derivable if good.num_rows != derived.num_rows or not good[name].equals(derived[name])]
    return {**content, "ignore": odd} if odd else content


def _through(file: InputFile, mapping: Mapping, config: IngestConfig) -> tuple[pa.Table, int, list[str]]:
    """The first rows read through a mapping; how many were looked at, and why some are refused."""
    small = config.model_copy(update={"chunk_rows": SAMPLE_ROWS, "block_mb": 1})
    for piece, result in islice(read_file(file, mapping=mapping, config=small, defaulted=set()), 1):
        return result.good, piece.rows, [*(entry.reason for entry in piece.broken), *result.reasons]
    return schema.INTERACTIONS.empty_table(), 0, []


def _yaml(content: dict[str, Any]) -> str:
    """Block style for the parts, one line for each column."""
    lines = []
    for key, value in content.items():
        if key != "columns":
            lines.append(f"{key}: {_inline(value)}")
            continue
        lines.append("columns:")
        lines += [f"  {name}: {_inline(entry)}" for name, entry in value.items()]
    return "\n".join([*lines, ""])


def _inline(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1_000, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()
