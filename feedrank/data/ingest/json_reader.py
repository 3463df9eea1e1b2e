"""JSON Lines, or one array of objects: Arrow parses blocks whose values it keeps exactly, `json` the others."""

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pa_json

from feedrank.config.ingest import Mapping
from feedrank.data.ingest.csv_reader import Text
from feedrank.data.ingest.files import InputFile
from feedrank.data.ingest.pieces import Broken, EmptyFileError, Piece, Wanted, numbers_without
from feedrank.errors import DataError
from feedrank.schema import TIMESTAMP

MAX_DIGITS = 15
"""Whole numbers of so many digits are exact as floats, too: longer ones with an exponent were perhaps rounded."""
DEEP = 100
"""Levels of nesting, or brackets in texts, beyond which a block is read object by object."""
EXACT = 2.0**53
"""Whole numbers below it are exact as floats."""
_BETWEEN = re.compile(r"[\s,]*")


def _number(text: str) -> str:
    """A number stays the text that it is; but 1e3 is the whole number 1000."""
    number = Decimal(text)
    is_whole = abs(number.adjusted()) < MAX_DIGITS and number == number.to_integral_value()
    return str(int(number)) if "e" in text.lower() and is_whole else text


class _Repeated(str):
    """Stands for an object that has a key twice."""


def _object(pairs: list[tuple[str, object]]) -> dict[str, object] | _Repeated:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Repeated(json.dumps(dict(pairs), default=str))


_DECODER = json.JSONDecoder(parse_int=str, parse_float=_number, parse_constant=str, object_pairs_hook=_object)


@dataclass
class _Source:
    file: str
    wanted: Wanted
    text_columns: frozenset[str]
    hashed_columns: frozenset[str]
    names: dict[str, None] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    next_row: int = 1

    def meet(self, names: Sequence[str]) -> None:
        """Chooses the columns when a block brings keys that no block before had."""
        if not self.columns or set(names) - self.names.keys():
            self.names.update(dict.fromkeys(names))
            self.columns = self.wanted(self.file, list(self.names))


def read_json(file: InputFile, *, wanted: Wanted, mapping: Mapping, block_bytes: int) -> Iterator[Piece]:
    """Reads the wanted columns, block by block; a key that a row lacks is an empty cell.

    Raises:
        EmptyFileError: there is nothing in the file.
        DataError: a wanted key is in no row.
    """
    times = mapping.columns.get(TIMESTAMP)
    texts = (TIMESTAMP,) if times is None else () if times.unit else times.source  # Arrow would read times its own way
    hashed = {name for column in mapping.columns.values() if column.hash for name in column.source}
    source = _Source(file.name, wanted, frozenset(texts), frozenset(hashed))
    with file.open() as stream:
        text = Text(stream, name=file.name, delimiter=",", block_bytes=block_bytes)
        block = text.read()
        if not block.strip():
            raise EmptyFileError(f"{file.name}: the file is empty; expected one JSON object a line")
        is_array = block.lstrip().startswith(b"[")
        while block or not text.at_end:
            end = len(block) if text.at_end else block.rfind(b"\n{") + 1
            if end:
                piece = _piece(source, block[:end], is_array=is_array)
                if piece.rows:
                    yield piece
                    source.next_row += piece.rows
            block = block[end:]
            if not text.at_end:
                block += text.read()


def _piece(source: _Source, block: bytes, *, is_array: bool) -> Piece:
    table = None if is_array or not _is_utf8(block) or _is_deep(block) else _fast(source, block)
    if table is not None:
        return Piece(source.file, table, numbers_without(source.next_row, table.num_rows, []))
    return _exact(source, block)


def _is_utf8(block: bytes) -> bool:
    with contextlib.suppress(UnicodeDecodeError):
        return block.isascii() or bool(block.decode("utf-8"))
    return False


def _is_deep(block: bytes) -> bool:
    """Whether values may be nested deeper than Arrow's parser, which has no limit, can stand."""
    data = np.frombuffer(block, dtype=np.uint8)
    opened = np.isin(data, np.frombuffer(b"[{", dtype=np.uint8))
    if int(opened.sum()) <= block.count(b"\n") + 1:
        return False
    closed = np.isin(data, np.frombuffer(b"]}", dtype=np.uint8))
    return int(np.cumsum(opened.astype(np.int32) - closed).max()) > DEEP


def _fast(source: _Source, block: bytes) -> pa.Table | None:
    """Parsed by Arrow; None where it fails or doesn't keep the values as they are."""
    schema = pa.schema([(name, pa.string()) for name in source.text_columns])
    options = pa_json.ParseOptions(explicit_schema=schema)
    try:
        table = pa_json.read_json(
            pa.BufferReader(block),
            read_options=pa_json.ReadOptions(block_size=max(len(block), 1)),
            parse_options=options,
        )
    except pa.ArrowInvalid:
        return None
    absent = [name for name in source.text_columns if table[name].null_count == table.num_rows]
    source.meet([name for name in table.column_names if name not in absent])
    names = table.column_names
    columns = [table[c] if c in names else pa.nulls(table.num_rows, pa.string()) for c in source.columns]
    kept = (_is_kept(c, name in source.hashed_columns) for c, name in zip(columns, source.columns, strict=True))
    return pa.table(columns, names=source.columns) if all(kept) else None


def _is_kept(column: pa.ChunkedArray, is_text: bool) -> bool:
    types = pa.types
    if types.is_floating(column.type) and not is_text:
        largest = pc.max(pc.abs(pc.if_else(pc.is_finite(column), column, 0.0))).as_py()
        return largest is None or largest < EXACT
    kinds = (types.is_integer, types.is_string, types.is_boolean, types.is_null)
    return any(is_kind(column.type) for is_kind in kinds)


def _exact(source: _Source, block: bytes) -> Piece:
    """Object by object, every value as text."""
    records: list[dict[str, object]] = []
    broken: list[Broken] = []
    places: list[int] = []
    for number, found in enumerate(_objects(block.decode("utf-8", errors="surrogateescape")), start=source.next_row):
        if isinstance(found, dict):
            records.append(found)
            places.append(number)
        else:
            what = "a key is in it twice" if isinstance(found, _Repeated) else "it is no JSON object"
            broken.append(Broken(number, f"line can't be parsed: {what}", found))
    if not records and not source.columns:
        raise DataError(f"{source.file}: no JSON object in it; expected one a line, or an array of them")
    source.meet(list(dict.fromkeys(name for record in records for name in record)))
    good, numbers = [], []
    for record, number in zip(records, places, strict=True):
        cells = {name: _cell(record.get(name)) for name in source.columns}
        odd = next((name for name, cell in cells.items() if cell is not None and not _is_text(cell)), None)
        if odd is None:
            good.append(cells)
            numbers.append(number)
        else:
            text = json.dumps(record, default=str)
            broken.append(Broken(number, f"{odd} holds no single value of UTF-8 text", text))
    columns = [pa.array([cells[name] for cells in good], pa.string()) for name in source.columns]
    table = pa.table(columns, names=source.columns)
    return Piece(source.file, table, np.array(numbers, dtype=np.int64), tuple(sorted(broken, key=lambda b: b.row)))


def _objects(text: str) -> Iterator[dict[str, object] | str]:
    """The objects of JSON Lines or of an array, and each line that is none."""
    position, opened = 0, text.lstrip("\ufeff \t\r\n").startswith("[")
    if opened:
        position = text.index("[") + 1
    while True:
        found = _BETWEEN.match(text, position)
        position = found.end() if found is not None else position
        if position >= len(text) or (text[position] == "]" and not text[position + 1 :].strip("] \t\r\n")):
            return
        try:
            value, position = _DECODER.raw_decode(text, position)
        except (json.JSONDecodeError, RecursionError):
            end = text.find("\n", position)
            end = len(text) if end < 0 else end
            value, position = text[position:end], end
        yield value if isinstance(value, dict | _Repeated) else str(value)


def _cell(value: object) -> object:
    """Text, None, or what is no single value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value


def _is_text(cell: object) -> bool:
    if not isinstance(cell, str):
        return False
    try:
        cell.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair, or bytes that are no UTF-8
        return False
    return True
