"""Random tables, written in every format and dialect, come back cell by cell, however small the blocks are."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedrank.config.ingest import Mapping
from feedrank.data.ingest.csv_reader import read_csv
from feedrank.data.ingest.files import InputFile
from feedrank.data.ingest.json_reader import read_json
from feedrank.data.ingest.parquet_reader import read_parquet
from feedrank.data.ingest.pieces import Piece

NAMES = ["id", "title", "note"]
TEXT = st.text(st.characters(exclude_categories=("Cs",)) | st.sampled_from('",;|\t\n\r:\\ \u2028\x85'), max_size=12)
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Stored:
    """A file system of one file."""

    content: bytes
    opened: list[io.BytesIO] = field(default_factory=list)

    def open(self, *_: object, **__: object) -> io.BytesIO:
        return io.BytesIO(self.content)


def stored(content: bytes, ending: str) -> InputFile:
    formats = {"csv": "csv", "jsonl": "json", "parquet": "parquet"}
    return InputFile(name=f"f.{ending}", path=f"f.{ending}", filesystem=Stored(content), format=formats[ending])


def everything(_: str, names: Any) -> list[str]:
    return list(names)


def rows_of(pieces: Iterator[Piece]) -> list[list[str | None]]:
    """The rows in their order; fails if one is broken or the numbers have a gap."""
    rows: list[list[str | None]] = []
    for piece in pieces:
        assert not piece.broken
        assert piece.numbers.tolist() == list(range(len(rows) + 1, len(rows) + 1 + piece.table.num_rows))
        columns = [column.to_pylist() for column in piece.table.columns]
        rows += [list(row) for row in zip(*columns, strict=True)]
    return rows


@dataclass(frozen=True)
class Written:
    """A dialect of CSV."""

    delimiter: str
    quote: str
    escape: str
    line_end: str
    always: bool
    named: bool

    def cell(self, text: str) -> str:
        odd = any(sign in text for sign in (self.delimiter, self.quote, self.escape or self.quote, "\n", "\r"))
        odd = odd or any(sign in text for sign in self.delimiter)
        if not odd and text and not self.always:
            return text
        if self.escape:
            text = text.replace(self.escape, self.escape * 2).replace(self.quote, self.escape + self.quote)
        else:
            text = text.replace(self.quote, self.quote * 2)
        return self.quote + text + self.quote

    def file(self, rows: list[list[str]]) -> bytes:
        lines = [self.delimiter.join(map(self.cell, row)) for row in [NAMES, *rows]]
        return self.line_end.join([*lines, ""]).encode()

    @property
    def mapping(self) -> Mapping:
        quote = {"quote": self.quote} if self.named or self.quote != '"' else {}
        return Mapping.model_validate({"delimiter": self.delimiter, "escape": self.escape, **quote})


DIALECTS = st.builds(
    Written,
    delimiter=st.sampled_from([",", ";", "\t", "|", "::", "\x01", "§"]),
    quote=st.sampled_from(['"', "'"]),
    escape=st.sampled_from(["", "\\"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    always=st.booleans(),
    named=st.just(True),
)
ROWS = st.lists(st.tuples(st.integers(0, 2**64).map(str), TEXT, TEXT).map(list), min_size=1, max_size=25)
BLOCKS = st.integers(1, 90) | st.just(1 << 20)


@SETTINGS
@given(ROWS, DIALECTS, BLOCKS)
def test_csv_of_any_dialect_comes_back(rows: list[list[str]], written: Written, block_bytes: int) -> None:
    file = stored(written.file(rows), "csv")
    assert rows_of(read_csv(file, wanted=everything, mapping=written.mapping, block_bytes=block_bytes)) == rows


@SETTINGS
@given(ROWS, st.sampled_from([",", ";"]), BLOCKS)
def test_a_usual_writer_is_understood_without_a_word(rows: list[list[str]], delimiter: str, block_bytes: int) -> None:
    written = Written(delimiter, '"', "", "\n", always=False, named=False)
    file = stored(written.file(rows), "csv")
    mapping = Mapping(delimiter=delimiter)
    assert rows_of(read_csv(file, wanted=everything, mapping=mapping, block_bytes=block_bytes)) == rows


LINE = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\n\r\x1f"), max_size=30)


@SETTINGS
@given(st.lists(LINE, min_size=1, max_size=30), st.sampled_from(["\t", "::", ","]), BLOCKS)
def test_every_line_of_any_text_is_a_row_or_is_refused(lines: list[str], delimiter: str, block_bytes: int) -> None:
    file = stored("\n".join(["a" + delimiter + "b", *lines, ""]).encode(), "csv")
    mapping = Mapping(delimiter=delimiter)
    pieces = list(read_csv(file, wanted=everything, mapping=mapping, block_bytes=block_bytes))
    text = [cell for piece in pieces for column in piece.table.columns for cell in column.to_pylist()]
    inside = sum(cell.count("\n") for cell in text)
    assert sum(piece.rows for piece in pieces) + inside == sum(1 for line in lines if line)


JSON_VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | TEXT
RECORDS = st.lists(st.dictionaries(st.sampled_from(NAMES), JSON_VALUES), min_size=1, max_size=20)


@SETTINGS
@given(RECORDS, st.booleans(), st.booleans(), BLOCKS)
def test_json_values_keep_what_they_are(
    records: list[dict[str, Any]], ascii_only: bool, as_array: bool, block_bytes: int
) -> None:
    records = [dict.fromkeys(NAMES), *records]
    lines = [json.dumps(record, ensure_ascii=ascii_only) for record in records]
    text = "[" + ",\n".join(lines) + "]" if as_array else "\n".join(lines) + "\n"
    pieces = read_json(
        stored(text.encode(), "jsonl"), wanted=lambda *_: NAMES, mapping=Mapping(), block_bytes=block_bytes
    )
    rows = rows_of(pieces)
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        for name, cell in zip(NAMES, row, strict=True):
            assert same(cell, record.get(name)), (cell, record.get(name))


def same(cell: Any, value: Any) -> bool:
    """Whether a cell, perhaps as text, is a value of JSON."""
    if isinstance(value, str) or value is None:
        return bool(cell == value)
    if isinstance(cell, str):
        cell = json.loads(cell)
    return bool(cell == value) or repr(cell) == repr(value) == "nan"


@SETTINGS
@given(ROWS, st.sampled_from(["string", "large_string", "binary", "dictionary"]), st.integers(1, 30))
def test_parquet_text_of_any_type_comes_back(rows: list[list[str]], kind: str, chunk_rows: int) -> None:
    types = {"string": pa.string(), "large_string": pa.large_string(), "binary": pa.binary()}
    columns = [pa.array([row[place] for row in rows], pa.string()) for place in range(3)]
    typed = [c.dictionary_encode() if kind == "dictionary" else c.cast(types[kind]) for c in columns]
    buffer = io.BytesIO()
    pq.write_table(pa.table(typed, names=NAMES), buffer)
    pieces = read_parquet(stored(buffer.getvalue(), "parquet"), wanted=everything, chunk_rows=chunk_rows)
    assert rows_of(pieces) == rows
