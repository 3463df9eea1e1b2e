"""Finding and reading input files: Parquet, CSV and JSON Lines, local or behind any fsspec address."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.fs as pafs
import pyarrow.json as pa_json
import pyarrow.parquet as pq
from fsspec.implementations.arrow import ArrowFSWrapper

from feedrank.config.ingest import Mapping
from feedrank.errors import DataError

FORMATS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json"}
OBJECT_STORES = ("s3", "gs")
NULLS = ["", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"]

Wanted = Callable[[str, Sequence[str]], list[str]]
"""Given a file's name and its columns: the columns to read. Raises DataError if one is missing."""


@dataclass(frozen=True)
class InputFile:
    """One file, its file system, and how it is read."""

    name: str
    path: str
    filesystem: Any
    format: str

    def open(self) -> IO[bytes]:
        """The file's bytes, decompressed."""
        return self.filesystem.open(self.path, "rb", compression="infer")


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of a file; `first_row` counts from 1 after the header. `broken` are unparsable lines."""

    file: str
    table: pa.Table
    first_row: int = 1
    broken: tuple[str, ...] = ()


def find_files(inputs: Sequence[str]) -> list[InputFile]:
    """The data files named by paths, folders, globs or addresses, each once, in order.

    Raises:
        DataError: an input doesn't exist, holds no data file, or its address scheme isn't supported.
    """
    found: dict[str, InputFile] = {}
    for name in inputs:
        for file in _expand(name):
            found.setdefault(file.name, file)
    return list(found.values())


def _expand(name: str) -> list[InputFile]:
    try:
        filesystem, path = _open(name)
        if any(sign in path for sign in "*?["):
            paths = [p for p in filesystem.glob(path) if not filesystem.isdir(p)]
        elif filesystem.isdir(path):
            paths = [p for p in filesystem.find(path) if _is_data(p[len(path) :])]
        else:
            paths = [path] if filesystem.exists(path) else []
    except (ImportError, ValueError, OSError) as error:
        raise DataError(f"{name}: can't be opened ({error})") from error
    if not paths:
        raise DataError(f"{name}: no such file, or no data file below it ({', '.join(FORMATS)})")
    return [
        InputFile(name=filesystem.unstrip_protocol(p), path=p, filesystem=filesystem, format=_format(p))
        for p in sorted(paths)
    ]


def _open(name: str) -> tuple[Any, str]:
    """The file system of an address and the path on it; object stores by Arrow, which needs no further package."""
    scheme, separator, path = name.partition("://")
    if separator and scheme in OBJECT_STORES:
        bucket = path.partition("/")[0]
        filesystem, _ = pafs.FileSystem.from_uri(f"{scheme}://{bucket}")
        return ArrowFSWrapper(filesystem), path
    return fsspec.core.url_to_fs(name)


def _is_data(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return not any(part.startswith(("_", ".")) for part in parts) and _suffix(path) in FORMATS


def _suffix(path: str) -> str:
    suffixes = [s.lower() for s in PurePosixPath(path).suffixes if s.lower() not in (".gz", ".bz2", ".xz", ".zst")]
    return suffixes[-1] if suffixes else ""


def _format(path: str) -> str:
    if _suffix(path) not in FORMATS:
        raise DataError(f"{path}: the name's ending tells no format; use one of {', '.join(FORMATS)}")
    return FORMATS[_suffix(path)]


def read_pieces(file: InputFile, *, wanted: Wanted, mapping: Mapping, chunk_rows: int | None) -> Iterator[Piece]:
    """Reads the wanted columns in pieces of `chunk_rows` (Parquet only; None and other formats: one piece).

    Raises:
        DataError: the file can't be read as its format, or lacks a column.
    """
    try:
        if file.format == "parquet":
            yield from _read_parquet(file, wanted=wanted, chunk_rows=chunk_rows)
        elif file.format == "csv":
            yield _read_csv(file, wanted=wanted, mapping=mapping)
        else:
            yield _read_json(file, wanted=wanted)
    except FileNotFoundError as error:
        raise DataError(f"{file.name}: no such file") from error
    except (pa.ArrowInvalid, UnicodeDecodeError, EOFError, OSError) as error:
        raise DataError(
            f"{file.name}: can't be read as {file.format} ({error}); restore it, or write it again (text as UTF-8)"
        ) from error


def _read_parquet(file: InputFile, *, wanted: Wanted, chunk_rows: int | None) -> Iterator[Piece]:
    with file.open() as stream:
        parquet = pq.ParquetFile(stream)
        columns = wanted(file.name, parquet.schema_arrow.names)
        if chunk_rows is None or parquet.metadata.num_rows <= chunk_rows:
            yield Piece(file=file.name, table=parquet.read(columns=columns))
            return
        first_row = 1
        for batch in parquet.iter_batches(batch_size=chunk_rows, columns=columns):
            yield Piece(file=file.name, table=pa.Table.from_batches([batch]), first_row=first_row)
            first_row += batch.num_rows


def _read_csv(file: InputFile, *, wanted: Wanted, mapping: Mapping) -> Piece:
    broken: list[str] = []

    def skip(row: pa_csv.InvalidRow) -> str:
        broken.append(f"{row.actual_columns} cells instead of {row.expected_columns}: {row.text}")
        return "skip"

    delimiter = "\t" if _suffix(file.path) == ".tsv" else mapping.delimiter
    names = list(mapping.column_names) or _header(file, delimiter=delimiter)
    columns = wanted(file.name, names)
    with file.open() as stream:
        table = pa_csv.read_csv(
            stream,
            read_options=pa_csv.ReadOptions(column_names=names, skip_rows=0 if mapping.column_names else 1),
            parse_options=pa_csv.ParseOptions(delimiter=delimiter, invalid_row_handler=skip),
            convert_options=pa_csv.ConvertOptions(
                include_columns=columns,
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=True,
                null_values=NULLS,
            ),
        )
    return Piece(file=file.name, table=table, broken=tuple(broken))


def _header(file: InputFile, *, delimiter: str) -> list[str]:
    with file.open() as stream:
        line = stream.readline().decode("utf-8-sig").rstrip("\r\n")
    if not line:
        raise DataError(f"{file.name}: the file is empty; expected a header line")
    return next(csv.reader([line], delimiter=delimiter))


def _read_json(file: InputFile, *, wanted: Wanted) -> Piece:
    broken: list[str] = []
    with file.open() as stream:
        content = stream.read()
    if not content.strip():
        raise DataError(f"{file.name}: the file is empty; expected one JSON object a line")
    try:
        table = pa_json.read_json(io.BytesIO(content))
    except pa.ArrowInvalid:
        table = _mixed_json(content.decode("utf-8"), broken)
    return Piece(file=file.name, table=table.select(wanted(file.name, table.column_names)), broken=tuple(broken))


def _mixed_json(text: str, broken: list[str]) -> pa.Table:
    """Line by line, every cell as text: for files with a broken line or columns of mixed types."""
    records: list[dict[str, str | None]] = []
    for line in filter(str.strip, text.splitlines()):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            broken.append(f"no JSON ({error}): {line}")
            continue
        if not isinstance(record, dict):
            broken.append(f"no JSON object: {line}")
            continue
        records.append({key: _cell(value) for key, value in record.items()})
    names = dict.fromkeys(name for record in records for name in record)
    return pa.table({name: pa.array([r.get(name) for r in records], pa.string()) for name in names})


def _cell(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return None if value in NULLS else value
    return json.dumps(value)
