"""Cuts delimited text into records as RFC 4180 has them, and stays upright where a quote is only a character.

A block is regular if each quote in it opens or closes a cell: then every reader cuts it alike. Any other block is cut
here record by record. A record is taken as quoted only if it then has the right number of cells; else each of its
lines stands for itself, so that a stray quote costs at most its own row.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np

LINE_BREAK, RETURN = ord("\n"), ord("\r")
PLAUSIBLE_LINES = 16
"""A quoted cell of more lines is looked at: do they look like rows?"""
HEADER_BYTES = 1 << 20
"""A header line whose quotes don't end within so much is taken as it stands."""
Cells: TypeAlias = list[bytes]


@dataclass(frozen=True)
class Dialect:
    """How cells are marked; each mark is one byte. `trusted` quotes may hold lines that look like rows."""

    delimiter: bytes
    quote: bytes = b'"'
    escape: bytes = b""
    trusted: bool = True


@dataclass(frozen=True)
class Refused:
    """A line that is no record of the file."""

    reason: str
    line: bytes


@dataclass(frozen=True)
class Cut:
    """The records of a block's first `used` bytes, in order, and the quoted cells among them that look like rows."""

    rows: list[Cells | Refused]
    used: int
    odd_cells: int = 0


def regular_end(block: bytes, dialect: Dialect, *, at_end: bool) -> int | None:
    """Where the last whole record of a regular block ends (0: nowhere yet); None if the block isn't regular."""
    whole_lines = block[:-1] if block.endswith(b"\r") and not at_end else block
    if whole_lines.count(b"\r") != whole_lines.count(b"\r\n") or (dialect.escape and dialect.escape in block):
        return None
    if not dialect.quote or dialect.quote not in block:
        return len(block) if at_end else block.rfind(b"\n") + 1
    return _quoted_end(block, dialect, at_end)


def _quoted_end(block: bytes, dialect: Dialect, at_end: bool) -> int | None:
    data = np.frombuffer(b"\n" + block + b"\n", dtype=np.uint8)
    quote, delimiter = ord(dialect.quote), ord(dialect.delimiter)
    quotes = np.flatnonzero(data == quote)
    opens_cells = np.isin(data[quotes[0::2] - 1], [delimiter, LINE_BREAK, quote]).all()
    ends_cells = np.isin(data[quotes[1::2] + 1], [delimiter, LINE_BREAK, RETURN, quote]).all()
    if not opens_cells or not ends_cells or (at_end and len(quotes) % 2):
        return None
    breaks = np.flatnonzero(data[1:-1] == LINE_BREAK) + 1
    cell = np.searchsorted(quotes, breaks)
    inside = cell % 2 == 1
    limit = PLAUSIBLE_LINES if dialect.trusted else 1
    if inside.any() and int(np.bincount(cell[inside]).max()) > limit:
        return None
    if at_end:
        return len(block)
    outside = breaks[~inside]
    return int(outside[-1]) if len(outside) else 0


def cut(block: bytes, dialect: Dialect, *, width: int, at_end: bool, patience: int) -> Cut:
    """Cuts a block into records of `width` cells; stops before one that isn't whole unless the text is `at_end`.

    A quoted cell that doesn't end within `patience` bytes is none if its lines look like rows.
    """
    record, begun = _patterns(dialect, width)
    rows: list[Cells | Refused] = []
    position, odd_cells = 0, 0
    while position < len(block):
        found = record.match(block, position)
        if found is not None:
            end = found.end()
            if end == len(block) and not at_end and not block.endswith(b"\n"):
                break
            text = found[0]
            if text.count(b"\n") > 1 and _looks_like_rows(text, dialect, width, dialect.trusted):
                odd_cells += 1
                if not dialect.trusted:
                    rows += _refused_lines(text)
                    position = end
                    continue
            rows.append(_cells(text, dialect))
            position = end
            continue
        if not at_end and begun.match(block, position):
            rest = block[position : position + patience]
            if len(rest) < patience or not _looks_like_rows(rest, dialect, width, False):
                break
        end = block.find(b"\n", position)
        if end < 0 and not at_end:
            break
        end = len(block) if end < 0 else end
        line = block[position:end].removesuffix(b"\r")
        if line:
            rows.append(_plain_cells(line, dialect, width))
        position = end + 1
    return Cut(rows, min(position, len(block)), odd_cells)


def header(block: bytes, dialect: Dialect, *, at_end: bool) -> tuple[Cells, int] | None:
    """The cells of the first line that isn't empty, and where it ends; None if it isn't whole yet."""
    start = len(block) - len(block.lstrip(b"\r\n"))
    found = _any_record(dialect).match(block, start)
    end = block.find(b"\n", start) if found is None else found.end()
    is_whole = end >= 0 and (end < len(block) or block.endswith(b"\n"))
    if not at_end and not (is_whole and (found is not None or len(block) > HEADER_BYTES)):
        return None
    if found is not None:
        return _cells(found[0], dialect), end
    end = len(block) if end < 0 else end
    return block[start:end].removesuffix(b"\r").split(dialect.delimiter), min(end + 1, len(block))


def wrong_width(cells: int, width: int) -> str:
    """The reason against a line that has another number of cells than a row."""
    return f"line can't be parsed: {cells} cells instead of {width}"


def _plain_cells(line: bytes, dialect: Dialect, width: int) -> Cells | Refused:
    cells = line.split(dialect.delimiter)
    return cells if len(cells) == width else Refused(wrong_width(len(cells), width), line)


def _refused_lines(text: bytes) -> Sequence[Refused]:
    lines = [line for line in text.splitlines() if line]
    reason = f"stands in a quoted cell of {len(lines)} lines that look like rows; say in the mapping what 'quote' is"
    return [Refused(reason, line) for line in lines]


def _looks_like_rows(text: bytes, dialect: Dialect, width: int, long_only: bool) -> bool:
    """Whether each whole line within the text has as many cells as a row."""
    inner = text.removesuffix(b"\n").split(b"\n", PLAUSIBLE_LINES + 2)[1:-1]
    if not inner or (long_only and len(inner) <= PLAUSIBLE_LINES):
        return False
    return all(line.count(dialect.delimiter) == width - 1 for line in inner)


@cache
def _patterns(dialect: Dialect, width: int) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """A whole record; and one that the block ends within."""
    cell, delimiter = _cell(dialect), re.escape(dialect.delimiter)
    record = b"(?:%s%s){%d}%s\\r?(?:\\n|\\Z)" % (cell, delimiter, width - 1, cell)
    marks = b"[%s]" % re.escape(dialect.quote + dialect.escape) if dialect.quote + dialect.escape else b"(?!)"
    begun = b"(?:%s%s){0,%d}(?:%s%s?|%s\\r?)\\Z" % (cell, delimiter, width - 1, _open_cell(dialect), marks, cell)
    return re.compile(record, re.DOTALL), re.compile(begun, re.DOTALL)


@cache
def _any_record(dialect: Dialect) -> re.Pattern[bytes]:
    cell = _cell(dialect)
    return re.compile(b"(?:%s%s)*%s\\r?(?:\\n|\\Z)" % (cell, re.escape(dialect.delimiter), cell), re.DOTALL)


def _cell(dialect: Dialect) -> bytes:
    delimiter = re.escape(dialect.delimiter)
    plain = b"[^%s\\n]*+" % delimiter
    if dialect.escape:
        escape = re.escape(dialect.escape)
        plain = b"(?:[^%s\\n%s]|%s.)*+" % (delimiter, escape, escape)
    if not dialect.quote:
        return plain
    quote = re.escape(dialect.quote)
    return b"(?:%s%s(?=%s|\\r?(?:\\n|\\Z))|(?!%s)%s)" % (_open_cell(dialect), quote, delimiter, quote, plain)


def _open_cell(dialect: Dialect) -> bytes:
    """A quoted cell without its last quote; one that can't be."""
    if not dialect.quote:
        return b"(?!)"
    quote = re.escape(dialect.quote)
    if not dialect.escape:
        return b"%s(?:[^%s]++|%s%s)*+" % (quote, quote, quote, quote)
    escape = re.escape(dialect.escape)
    return b"%s(?:[^%s%s]++|%s.|%s%s)*+" % (quote, quote, escape, escape, quote, quote)


def _cells(text: bytes, dialect: Dialect) -> Cells:
    """The cells of a record, without its marks."""
    text = text.removesuffix(b"\n").removesuffix(b"\r")
    if (not dialect.quote or dialect.quote not in text) and (not dialect.escape or dialect.escape not in text):
        return text.split(dialect.delimiter)
    cells, position = [], 0
    pattern = _one_cell(dialect)
    while True:
        found = pattern.match(text, position)
        assert found is not None, "the record was matched by the same pattern"
        cells.append(_unmarked(found[0], dialect))
        if found.end() >= len(text):
            return cells
        position = found.end() + 1
        if position == len(text):
            return [*cells, b""]


@cache
def _one_cell(dialect: Dialect) -> re.Pattern[bytes]:
    return re.compile(_cell(dialect), re.DOTALL)


def _unmarked(cell: bytes, dialect: Dialect) -> bytes:
    quote, escape = dialect.quote, dialect.escape
    if quote and len(cell) > 1 and cell.startswith(quote):
        cell = cell[1:-1]
        if not escape:
            return cell.replace(quote + quote, quote)
        pattern = re.escape(escape) + b"(.)|" + re.escape(quote + quote)
        return re.sub(pattern, lambda found: found[1] or quote, cell, flags=re.DOTALL)
    if escape and cell != escape + b"N":  # \N is MySQL's and Hive's word for nothing
        cell = re.sub(re.escape(escape) + b"(.)", rb"\1", cell, flags=re.DOTALL)
    return cell
