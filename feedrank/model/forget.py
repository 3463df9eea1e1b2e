"""Takes users out of a bundle where it lies: vectors, snapshot and reference, with the checksums renewed.

The users are then unknown to the model, and every other score stays what it was. The predictor may be reading, or have
the folder mounted, so the folder stays and files are replaced in it: written to `.forgetting` first, and renamed
all at once, the checksums last. Who reads in between finds a checksum that differs, and tries again.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feedrank import storage
from feedrank.delta.erasing import Rows, filterable
from feedrank.errors import BundleError
from feedrank.features.events import Ints
from feedrank.model.bundle import ARRAYS_FOLDER, CHECKSUMS_FILE, USER_IDS, sha256
from feedrank.tables import COMPRESSION, read_parquet

WORK = ".forgetting"
OF_USERS = (USER_IDS, "user_embedding.weight")
"""Arrays with a row for each user, in order; the vectors have one more at the end, of unknown users."""


def users_in(bundle: Path, *, ids: Ints, rows: Rows) -> int:
    """How many vectors and rows a bundle has of users with these ids."""
    files = [file for file in bundle.rglob("*.parquet") if WORK not in file.parts]
    return int(_known(bundle, ids).sum()) + sum(rows_in(file, rows) for file in files)


def forget_users(bundle: Path, *, ids: Ints, rows: Rows) -> int:
    """Takes users out; returns how many vectors and rows went. Cut off and called again, it ends what was begun.

    Raises:
        BundleError: the checksums can't be read.
    """
    work = bundle / WORK
    if (work / CHECKSUMS_FILE).exists():
        _put_in_place(work, bundle)
    shutil.rmtree(work, ignore_errors=True)
    if not (found := users_in(bundle, ids=ids, rows=rows)):
        return 0
    sums = _checksums(bundle)
    for name, write in _changes(bundle, _known(bundle, ids), rows):
        with storage.new_file(work / name) as fresh:
            write(fresh)
        sums[name] = sha256(work / name)
    storage.write_text(work / CHECKSUMS_FILE, json.dumps(sums, indent=2, sort_keys=True))
    _put_in_place(work, bundle)
    return found


def rows_in(file: Path, rows: Rows) -> int:
    """How many of the rows a Parquet file has."""
    with pq.ParquetFile(file) as parquet:
        return rows.count(parquet)


def write_others(source: Path, target: Path, *, rows: Rows) -> None:
    """Writes a Parquet file without some rows.

    Raises:
        DataError: it is damaged.
    """
    read_parquet(source)  # for its checksums: the new ones would fit whatever is damaged
    with pq.ParquetFile(source) as parquet:
        columns = filterable(parquet.schema_arrow)
        with pq.ParquetWriter(target, columns, compression=COMPRESSION, write_page_checksum=True) as writer:
            for batch in rows.others(parquet):
                writer.write_batch(batch)


def _known(bundle: Path, ids: Ints) -> NDArray[np.bool_]:
    path = bundle / ARRAYS_FOLDER / f"{USER_IDS}.npy"
    return np.isin(np.load(path), ids) if path.exists() else np.zeros(0, dtype=bool)


def _changes(bundle: Path, gone: NDArray[np.bool_], rows: Rows) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """The files that change, and what writes each."""
    for name in OF_USERS if gone.any() else ():
        source = bundle / ARRAYS_FOLDER / f"{name}.npy"
        yield str(source.relative_to(bundle)), partial(_write_without, source, gone=gone)
    for file in sorted(bundle.rglob("*.parquet")):
        if WORK not in file.parts and rows_in(file, rows):
            yield str(file.relative_to(bundle)), partial(write_others, file, rows=rows)


def _write_without(source: Path, target: Path, *, gone: NDArray[np.bool_]) -> None:
    array = np.load(source, mmap_mode="r")
    with target.open("wb") as file:
        np.save(file, np.delete(array, np.flatnonzero(gone), axis=0))


def _checksums(bundle: Path) -> dict[str, str]:
    path = bundle / CHECKSUMS_FILE
    try:
        sums: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: can't be read ({error}); copy the bundle again, or remove it") from error
    return sums


def _put_in_place(work: Path, bundle: Path) -> None:
    files = [file for file in sorted(work.rglob("*")) if file.is_file() and file.name != CHECKSUMS_FILE]
    for file in [*files, work / CHECKSUMS_FILE]:
        file.replace(bundle / file.relative_to(work))
    shutil.rmtree(work)
