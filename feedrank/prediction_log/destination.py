"""Where the log lies: a local folder or an object store, in which files appear whole or not at all."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from feedrank import schema, storage
from feedrank.tables import COMPRESSION, US_PER_DAY, timestamps_us

DICTIONARY_COLUMNS = [
    schema.TIMESTAMP,
    schema.RECEIVED_AT,
    schema.USER_ID,
    schema.RANK,
    schema.MODEL_VERSION,
    schema.LATENCY_MS,
    *(
        f"{schema.FEATURES_STRUCT}.{name}"
        for name in schema.FEATURES
        if name not in (schema.ITEM_POPULARITY, schema.ITEM_CTR, schema.ITEM_AVG_DWELL_TIME)
    ),
]
"""Few distinct values in a file; a dictionary for the others costs twice the time and more space."""
ENCODINGS = {schema.PREDICTION_ID: "DELTA_BYTE_ARRAY"}


def open_location(location: str) -> tuple[pafs.FileSystem, str]:
    """The file system and the path in it of a local path or a URI."""
    if "://" in location:
        filesystem, path = pafs.FileSystem.from_uri(location)
        return filesystem, path
    return pafs.LocalFileSystem(), str(Path(location).absolute())


@dataclass(frozen=True)
class Destination:
    """A folder of a file system."""

    filesystem: pafs.FileSystem
    path: str

    @staticmethod
    def of(location: str) -> "Destination":
        """The destination at a local path or a URI."""
        return Destination(*open_location(location))

    def write(self, table: pa.Table, *, name: str) -> None:
        """Writes rows in the order of arrival, one file for each day of arrival; a file of that name is replaced."""
        for day, rows in _days(table):
            folder = f"{self.path}/{schema.DATE}={day.isoformat()}"
            if isinstance(self.filesystem, pafs.LocalFileSystem):
                with storage.new_file(Path(folder) / name) as fresh:
                    _write_parquet(rows, str(fresh))
            else:
                sink = pa.BufferOutputStream()
                _write_parquet(rows, sink)
                with self.filesystem.open_output_stream(f"{folder}/{name}") as stream:
                    stream.write(sink.getvalue())


def _days(table: pa.Table) -> Iterator[tuple[date, pa.Table]]:
    days = timestamps_us(table, column=schema.RECEIVED_AT) // US_PER_DAY
    bounds = [0, *(np.flatnonzero(np.diff(days)) + 1), len(days)]
    for start, stop in itertools.pairwise(bounds):
        yield date(1970, 1, 1) + timedelta(days=int(days[start])), table.slice(start, stop - start)


def _write_parquet(table: pa.Table, sink: str | pa.BufferOutputStream) -> None:
    pq.write_table(table, sink, compression=COMPRESSION, use_dictionary=DICTIONARY_COLUMNS, column_encoding=ENCODINGS)
