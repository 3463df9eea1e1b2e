"""Delimited text of any dialect: Arrow parses the regular blocks, `csv_records` cuts the others."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from feedrank.config.ingest import Mapping
from feedrank.data.ingest.csv_records import Cells, Cut, Dialect, Refused, cut, header, regular_end, wrong_width
from feedrank.data.ingest.files import InputFile
from feedrank.data.ingest.pieces import Broken, EmptyFileError, Piece, Wanted, numbers_without, utf8
from feedrank.errors import DataError

STAND_IN, NO_UTF8 = b"\x1f", b"\xff"
"""One byte for a delimiter of several; where the text has it, a byte that is in no text of UTF-8."""
QUOTING_DELIMITERS = (",", ";")
"""Writers of these quote as RFC 4180 says; those of others often don't quote at all."""
TRUSTED_BLOCKS = 16
"""So many blocks are held in memory for a quoted cell that seems to hold rows."""
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
OTHERS = {
    b"PAR1": "Parquet; give its name the ending .parquet",
    b"PK\x03\x04": "a zip archive or an Excel workbook; write it as CSV",
    b"\x1f\x8b": "compressed by gzip; give its name the ending .gz",
    b"BZh": "compressed by bzip2; give its name the ending .bz2",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard; give its name the ending .zst",
    codecs.BOM_UTF32_LE: "text in UTF-32; write it as UTF-8",
    codecs.BOM_UTF32_BE: "text in UTF-32; write it as UTF-8",
}
"""How other files begin."""
OWN_BLOCK_BYTES = 4 << 20


class Text:
    """A file's text in blocks: UTF-8 without a mark, a line feed in each line's end, one byte between cells."""

    def __init__(self, stream: IO[bytes], *, name: str, delimiter: str, block_bytes: int) -> None:
        self._stream, self._block_bytes = stream, block_bytes
        self._long = delimiter.encode() if len(delimiter.encode()) > 1 else b""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._held = b""
        first = stream.read(max(block_bytes, len(codecs.BOM_UTF32_LE)))
        _refuse_others(name, first)
        if first.startswith(UTF16):
            self._decoder = codecs.getincrementaldecoder("utf-16")()
        first = self._decoded(first).removeprefix(codecs.BOM_UTF8)
        self._returns_only = _ends_lines_by_returns(first)
        self.delimiter = delimiter.encode() if not self._long else STAND_IN
        self._next = self._translated(first)
        self.at_end = not self._next

    def read(self) -> bytes:
        """The next block; `at_end` tells whether it was the last."""
        block, self._next = self._next, b""
        while not self._next and (raw := self._stream.read(self._block_bytes)):
            self._next = self._translated(self._decoded(raw))
        if not self._next:
            block, self._held, self.at_end = block + self._held, b"", True
        return block

    def restored(self, text: bytes) -> bytes:
        """The text as it stands in the file."""
        return text.replace(STAND_IN, self._long).replace(NO_UTF8, STAND_IN) if self._long else text

    def restored_column(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """The same for cells."""
        if not self._long:
            return column
        return pc.replace_substring(pc.replace_substring(column, STAND_IN, self._long), NO_UTF8, STAND_IN)

    def _decoded(self, raw: bytes) -> bytes:
        return raw if self._decoder is None else self._decoder.decode(raw).encode()

    def _translated(self, block: bytes) -> bytes:
        if self._returns_only:
            block = block.replace(b"\r", b"\n")
        if not self._long:
            return block
        block = self._held + block.replace(STAND_IN, NO_UTF8)
        block = block.replace(self._long, STAND_IN)
        held = next((n for n in range(len(self._long) - 1, 0, -1) if block.endswith(self._long[:n])), 0)
        self._held = block[len(block) - held :]
        return block[: len(block) - held]


def _refuse_others(name: str, first: bytes) -> None:
    found = next((what for start, what in OTHERS.items() if first.startswith(start)), None)
    if found is None and first[:2].count(0) == 1:
        found = "text in UTF-16 without a byte order mark; write it as UTF-8"
    if found is not None:
        raise DataError(f"{name}: this is {found}")


def _ends_lines_by_returns(text: bytes) -> bool:
    at, feed = text.find(b"\r"), text.find(b"\n")
    return at >= 0 and (feed < 0 or at + 1 < feed)


@dataclass
class _Source:
    """One file being read."""

    file: str
    text: Text
    dialect: Dialect
    names: list[str]
    columns: list[str]
    block_bytes: int
    next_row: int = 1

    @property
    def places(self) -> list[int]:
        return [self.names.index(column) for column in self.columns]


def read_csv(file: InputFile, *, wanted: Wanted, mapping: Mapping, block_bytes: int) -> Iterator[Piece]:
    """Reads the wanted columns as text, block by block.

    Raises:
        EmptyFileError: there is nothing in the file.
        DataError: it lacks a column, or has a wanted one twice.
    """
    delimiter = mapping.delimiter or file.delimiter
    with file.open() as stream:
        text = Text(stream, name=file.name, delimiter=delimiter, block_bytes=block_bytes)
        dialect = Dialect(
            delimiter=text.delimiter,
            quote=b'"' if mapping.quote is None else mapping.quote.encode(),
            escape=mapping.escape.encode(),
            trusted=mapping.quote is not None or delimiter in QUOTING_DELIMITERS,
        )
        block = text.read()
        if not block.strip():
            raise EmptyFileError(f"{file.name}: the file is empty; expected a header line")
        names = list(mapping.column_names)
        if not names:
            while (first := header(block, dialect, at_end=text.at_end)) is None:
                block += text.read()
            names, block = [_name(cell) for cell in first[0]], block[first[1] :]
        columns = _asked(file.name, names, wanted, delimiter)
        source = _Source(file.name, text, dialect, names, columns, block_bytes)
        yield from _pieces(source, block)


def _name(cell: bytes) -> str:
    return cell.decode("utf-8", errors="replace").strip()


def _asked(file: str, names: Sequence[str], wanted: Wanted, delimiter: str) -> list[str]:
    try:
        return wanted(file, names)
    except DataError as error:
        others = [sign for sign in (";", "\t", "|", ",", "::") if sign != delimiter and sign in names[0]]
        if len(names) > 1 or not others:
            raise
        raise DataError(f"{error}; or is its delimiter {others[0]!r}? Then say 'delimiter: \"{others[0]}\"'") from error


def _pieces(source: _Source, block: bytes) -> Iterator[Piece]:
    while block or not source.text.at_end:
        piece, used = _piece(source, block)
        if piece.rows:
            yield piece
            source.next_row += piece.rows
        block = block[used:]
        if not source.text.at_end:
            block += source.text.read()


def _piece(source: _Source, block: bytes) -> tuple[Piece, int]:
    """The whole records at the start of a block, and how many bytes they are."""
    at_end = source.text.at_end
    end = regular_end(block, source.dialect, at_end=at_end)
    piece = None if end is None else _regular(source, block[:end])
    if piece is None or end is None:
        patience = source.block_bytes * (TRUSTED_BLOCKS if source.dialect.trusted else 1)
        found = cut(block, source.dialect, width=len(source.names), at_end=at_end, patience=patience)
        piece, end = _irregular(source, found), found.used
    columns = [source.text.restored_column(column) for column in piece.table.columns]
    return utf8(replace(piece, table=pa.table(columns, names=source.columns))), end


def _regular(source: _Source, block: bytes) -> Piece | None:
    """Parsed by Arrow; None if a row of the wrong width may be several lines."""
    broken: list[Broken] = []

    def skip(row: pa_csv.InvalidRow) -> str:
        reason = wrong_width(row.actual_columns, row.expected_columns)
        text = source.text.restored(row.text.encode("utf-8", errors="replace"))
        number = source.next_row - 1 + (row.number or 1)
        broken.append(Broken(number, reason, text.decode("utf-8", errors="replace")))
        return "skip"

    if not block.strip(b"\r\n"):
        return _arranged(source, [], [])
    try:
        table = _parsed(source, block, skip, threads=True)
        if broken:  # only one thread knows the rows' numbers
            broken.clear()
            table = _parsed(source, block, skip, threads=False)
    except pa.ArrowInvalid:  # a record larger than Arrow's own blocks, for example
        return None
    if any("\n" in entry.text for entry in broken):
        return None
    numbers = numbers_without(source.next_row, table.num_rows + len(broken), broken)
    return Piece(source.file, table, numbers, tuple(broken))


def _parsed(source: _Source, block: bytes, skip: object, *, threads: bool) -> pa.Table:
    dialect = source.dialect
    labels = [str(place) for place in range(len(source.names))]
    used = [labels[place] for place in source.places]
    return pa_csv.read_csv(
        pa.BufferReader(block),
        read_options=pa_csv.ReadOptions(column_names=labels, use_threads=threads, block_size=OWN_BLOCK_BYTES),
        parse_options=pa_csv.ParseOptions(
            delimiter=dialect.delimiter.decode(),
            quote_char=dialect.quote.decode() or False,
            newlines_in_values=bool(dialect.quote) and dialect.quote in block,
            invalid_row_handler=skip,
        ),
        convert_options=pa_csv.ConvertOptions(
            include_columns=used, column_types=dict.fromkeys(used, pa.binary()), strings_can_be_null=False
        ),
    )


def _irregular(source: _Source, found: Cut) -> Piece:
    rows: list[Cells] = []
    broken: list[Broken] = []
    for number, row in enumerate(found.rows, start=source.next_row):
        if isinstance(row, Refused):
            line = source.text.restored(row.line).decode("utf-8", errors="replace")
            broken.append(Broken(number, row.reason, line))
        else:
            rows.append(row)
    piece = _arranged(source, rows, broken)
    if not found.odd_cells:
        return piece
    warning = (
        f"{source.file}: lines that look like rows stand in quoted cells ({found.odd_cells} cells); if the quote is a "
        "character of the text there, say quote: '' in the mapping"
    )
    return replace(piece, warnings=(warning,))


def _arranged(source: _Source, rows: Sequence[Cells], broken: Sequence[Broken]) -> Piece:
    columns = [pa.chunked_array([pa.array([row[place] for row in rows], pa.binary())]) for place in source.places]
    numbers = numbers_without(source.next_row, len(rows) + len(broken), broken)
    return Piece(source.file, pa.table(columns, names=source.columns), numbers, tuple(broken))
