"""What every reader gives: pieces of a file, in which each row that was read has its number or its refusal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feedrank.errors import DataError

Wanted = Callable[[str, Sequence[str]], list[str]]
"""Given a file's name and its columns: the columns to read. Raises DataError if one is missing or not unique."""
RowNumbers = npt.NDArray[np.int64]


class EmptyFileError(DataError):
    """A file without a byte: an error alone, nothing beside others."""


@dataclass(frozen=True)
class Broken:
    """A row that has no cells; `row` counts from 1 after the header."""

    row: int
    reason: str
    text: str


@dataclass(frozen=True)
class Piece:
    """Rows of a file: those of `table` with their `numbers`, [rows], and those that are `broken`."""

    file: str
    table: pa.Table
    numbers: RowNumbers
    broken: tuple[Broken, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows of the file this piece stands for."""
        return self.table.num_rows + len(self.broken)


def numbers_without(first: int, rows: int, broken: Sequence[Broken]) -> RowNumbers:
    """The numbers of `rows` consecutive rows, of which the broken ones are left out."""
    numbers = np.arange(first, first + rows, dtype=np.int64)
    return np.delete(numbers, [entry.row - first for entry in broken]) if broken else numbers


def utf8(piece: Piece) -> Piece:
    """The piece with its binary columns as text; rows with a cell that is no UTF-8 become broken."""
    bad: dict[int, str] = {}
    columns = []
    for name, column in zip(piece.table.column_names, piece.table.columns, strict=True):
        if not _is_binary(column.type):
            columns.append(column)
            continue
        try:
            columns.append(column.cast(pa.string()))
        except pa.ArrowInvalid:
            texts, places = _readable(column)
            bad |= dict.fromkeys(places, f"{name} is no UTF-8 text")
            columns.append(texts)
    table = pa.table(columns, names=piece.table.column_names)
    if not bad:
        return Piece(piece.file, table, piece.numbers, piece.broken, piece.warnings)
    keep = np.ones(table.num_rows, dtype=bool)
    keep[list(bad)] = False
    raw = piece.table.take(sorted(bad)).to_pylist()
    broken = [
        Broken(int(piece.numbers[place]), bad[place], repr(record))
        for place, record in zip(sorted(bad), raw, strict=True)
    ]
    return Piece(
        piece.file, table.filter(pa.array(keep)), piece.numbers[keep], (*piece.broken, *broken), piece.warnings
    )


def _is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)


def _readable(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, list[int]]:
    """The texts of the cells that are UTF-8, and the places of the others."""
    texts: list[str | None] = []
    bad = []
    for place, cell in enumerate(column.to_pylist()):
        try:
            texts.append(None if cell is None else cell.decode("utf-8"))
        except UnicodeDecodeError:
            texts.append(None)
            bad.append(place)
    return pa.chunked_array([pa.array(texts, pa.string())]), bad
