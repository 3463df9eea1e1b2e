"""Parquet of any writer: what has a single value a cell becomes text, a number, a truth value or a time."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feedrank.data.ingest.files import InputFile
from feedrank.data.ingest.pieces import EmptyFileError, Piece, Wanted, utf8
from feedrank.errors import DataError

UUID_BYTES = 16


def read_parquet(file: InputFile, *, wanted: Wanted, chunk_rows: int) -> Iterator[Piece]:
    """Reads the wanted columns in pieces of at most `chunk_rows` rows.

    Raises:
        EmptyFileError: the file has no byte.
        DataError: it lacks a column, has a wanted one twice, or one that holds no single values.
    """
    with file.open() as stream:
        if not stream.read(1):
            raise EmptyFileError(f"{file.name}: the file is empty; expected Parquet")
        stream.seek(0)
        parquet = pq.ParquetFile(stream)
        columns = wanted(file.name, parquet.schema_arrow.names)
        for name in columns:
            _check_kind(file.name, name, parquet.schema_arrow.field(name).type)
        first = 1
        for table in _tables(parquet, columns, chunk_rows):
            numbers = np.arange(first, first + table.num_rows, dtype=np.int64)
            piece = Piece(file.name, table, numbers)
            yield utf8(replace(piece, table=pa.table([_plain(column) for column in table.columns], names=columns)))
            first += table.num_rows


def _tables(parquet: pq.ParquetFile, columns: Sequence[str], chunk_rows: int) -> Iterator[pa.Table]:
    if parquet.metadata.num_rows <= chunk_rows:
        yield parquet.read(columns=list(columns))
        return
    for batch in parquet.iter_batches(batch_size=chunk_rows, columns=list(columns)):
        yield pa.Table.from_batches([batch])


def _check_kind(file: str, name: str, kind: pa.DataType) -> None:
    kind = _stored(kind)
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_nested(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind) or pa.types.is_interval(kind):
        raise DataError(
            f"{file}: column '{name}' holds {kind}, and a single number, text or time is wanted; "
            "write such a column, or name another in the mapping"
        )


def _stored(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without dictionaries, extensions, decimals (their text is exact) and 16-byte UUIDs."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(pa.chunked_array([chunk.storage for chunk in column.chunks], _stored(kind)))
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type))
    if pa.types.is_decimal(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_float16(kind):
        return column.cast(pa.float64())
    if pa.types.is_fixed_size_binary(kind):
        return _uuids(column) if kind.byte_width == UUID_BYTES else column.cast(pa.binary())
    return column


def _uuids(column: pa.ChunkedArray) -> pa.ChunkedArray:
    texts = [None if cell is None else str(uuid.UUID(bytes=cell)) for cell in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.string())])
