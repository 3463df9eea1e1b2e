"""The Parquet files of a table's days: of a Delta table's newest snapshot, or of a plain folder, local or on s3://."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from feedrank import delta
from feedrank.errors import StorageError
from feedrank.tables import day_of, is_data_file

Days = dict[date, list["DataFile"]]


@dataclass(frozen=True)
class DataFile:
    """One Parquet file where it lies."""

    path: str
    filesystem: pafs.FileSystem

    def __str__(self) -> str:
        return self.path

    def open(self) -> pq.ParquetFile:
        """Its footer is read."""
        return pq.ParquetFile(self.path, filesystem=self.filesystem)

    def batches(self, wanted: pa.Schema, *, where: ds.Expression) -> Iterator[pa.RecordBatch]:
        """Rows that meet a condition, without the row groups that can't; a wanted column that isn't there is null."""
        data = ds.dataset(self.path, schema=wanted, format="parquet", filesystem=self.filesystem)
        return data.to_batches(filter=where)


def day_files(location: delta.Location, *, start: date | None = None, end: date | None = None) -> Days:
    """The files of each day from `start` to `end` (both included), in order; nothing where no table is.

    Raises:
        StorageError: the store doesn't answer.
    """
    if delta.is_table(location):
        data = delta.open_table(location).dataset(start=start, end=end)
        files = [(PurePosixPath(path).parent.name, DataFile(path, data.filesystem)) for path in data.files]
        found = [(day, file) for folder, file in files if (day := day_of(folder)) is not None]
    else:
        found = list(_of_folder(location, start=start or date.min, end=end or date.max))
    days: Days = {}
    for day, file in sorted(found, key=lambda pair: (pair[0], pair[1].path)):
        days.setdefault(day, []).append(file)
    return days


def _of_folder(location: delta.Location, *, start: date, end: date) -> Iterator[tuple[date, DataFile]]:
    try:
        address = Path(location).absolute().as_uri() if delta.is_local(location) else str(location)
        filesystem, root = pafs.FileSystem.from_uri(address)
        for folder in filesystem.get_file_info(pafs.FileSelector(root, allow_not_found=True)):
            day = None if folder.is_file else day_of(folder.base_name)
            if day is not None and start <= day <= end:
                files = filesystem.get_file_info(pafs.FileSelector(folder.path))
                yield from (
                    (day, DataFile(f.path, filesystem)) for f in files if f.is_file and is_data_file(f.base_name)
                )
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{location}: the store doesn't answer ({error}); check it, then try again") from error
