"""Finding input files: local or behind any fsspec address, and in which format each is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import fsspec
import pyarrow.fs as pafs
from fsspec.implementations.arrow import ArrowFSWrapper

from feedrank import delta
from feedrank.errors import DataError

DELIMITERS = {
    ".csv": ",",
    ".tsv": "\t",
    ".tab": "\t",
    ".inter": "\t",
    ".psv": "|",
    ".data": "\t",
    ".dat": "::",
    ".txt": ",",
}
"""Of CSV files, by the name's ending; the mapping may name another."""
FORMATS = {".parquet": "parquet", ".jsonl": "json", ".ndjson": "json", ".json": "json"} | dict.fromkeys(
    DELIMITERS, "csv"
)
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
OBJECT_STORES = ("s3", "gs")


@dataclass(frozen=True)
class InputFile:
    """One file, its file system, and how it is read."""

    name: str
    path: str
    filesystem: Any
    format: str

    @property
    def delimiter(self) -> str:
        """What separates cells in a CSV file of this ending."""
        return DELIMITERS[_suffix(self.path)]

    def open(self) -> IO[bytes]:
        """The file's bytes, decompressed."""
        return self.filesystem.open(self.path, "rb", compression="infer")


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
        if any(sign in path for sign in "*?[") and not filesystem.exists(path):
            paths = [p for p in filesystem.glob(path) if not filesystem.isdir(p)]
        elif filesystem.isdir(path) and filesystem.exists(f"{path}/_delta_log"):
            paths = [f"{path}/{file}" for file in delta.open_table(name).paths]
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
    suffixes = [s.lower() for s in PurePosixPath(path).suffixes if s.lower() not in COMPRESSIONS]
    return suffixes[-1] if suffixes else ""


def _format(path: str) -> str:
    if _suffix(path) not in FORMATS:
        raise DataError(f"{path}: the name's ending tells no format; use one of {', '.join(FORMATS)}")
    return FORMATS[_suffix(path)]
