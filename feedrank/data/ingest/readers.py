"""Reads a foreign file, whatever its format: pieces of its wanted columns, each row numbered or refused."""

from collections.abc import Iterator

import pyarrow as pa

from feedrank.config.ingest import IngestConfig, Mapping
from feedrank.data.ingest.csv_reader import read_csv
from feedrank.data.ingest.files import InputFile
from feedrank.data.ingest.json_reader import read_json
from feedrank.data.ingest.parquet_reader import read_parquet
from feedrank.data.ingest.pieces import Piece, Wanted
from feedrank.errors import DataError


def read_pieces(file: InputFile, *, wanted: Wanted, mapping: Mapping, config: IngestConfig) -> Iterator[Piece]:
    """Reads the wanted columns: CSV cells as text, those of JSON and Parquet as text or of their own type.

    Raises:
        EmptyFileError: the file has no byte.
        DataError: the file can't be read as its format, or lacks a column.
    """
    block_bytes = config.block_mb << 20
    try:
        if file.format == "parquet":
            yield from read_parquet(file, wanted=wanted, chunk_rows=config.chunk_rows)
        elif file.format == "csv":
            yield from read_csv(file, wanted=wanted, mapping=mapping, block_bytes=block_bytes)
        else:
            yield from read_json(file, wanted=wanted, mapping=mapping, block_bytes=block_bytes)
    except FileNotFoundError as error:
        raise DataError(f"{file.name}: no such file") from error
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError, EOFError, OSError) as error:
        raise DataError(
            f"{file.name}: can't be read as {file.format} ({error}); restore it, or write it again (text as UTF-8)"
        ) from error
