"""What the rows of each day are: a fingerprint that tells whether a day has changed since it was judged."""

import hashlib
from collections.abc import Mapping, Set
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feedrank import schema
from feedrank.data.ingest.identity import Hashes, text_hashes
from feedrank.data.validation.batch import Batch, Bools, Ints

NULL = np.uint64(0xA0761D6478BD642F)


@dataclass(frozen=True)
class Contents:
    """The days of a batch that have rows, good or bad, in order."""

    days: Ints
    """Days since 1970-01-01, [days]."""
    place: Ints
    """Day of each row as a place in `days`, [rows]."""
    rows: Ints
    """[days]"""
    digests: tuple[str, ...]

    @property
    def by_day(self) -> Mapping[int, str]:
        """The fingerprint of each day."""
        return dict(zip(self.days.tolist(), self.digests, strict=True))

    def count(self, where: Bools) -> Ints:
        """The rows of each day that a mask selects, [days]."""
        return np.bincount(self.place[where], minlength=len(self.days)).astype(np.int64)

    def rows_of(self, days: Set[int]) -> Bools:
        """The mask of the rows of some days, [rows]."""
        return np.isin(self.days, np.fromiter(days, np.int64, len(days)))[self.place]


def day_contents(batch: Batch) -> Contents:
    """The same rows of a day in any order, from any file, give the same fingerprint."""
    days, place = np.unique(batch.days, return_inverse=True)
    rows = np.bincount(place, minlength=len(days)).astype(np.int64)
    sums = np.zeros(len(days), dtype=np.uint64)
    np.add.at(sums, place, _row_hashes(batch))
    digests = tuple(f"{count}-{total:016x}" for count, total in zip(rows.tolist(), sums.tolist(), strict=True))
    return Contents(days, place, rows, digests)


def _row_hashes(batch: Batch) -> Hashes:
    """An optional column without values counts as no column, so that a release that adds one changes no day."""
    sums = np.zeros(batch.table.num_rows, dtype=np.uint64)
    for name in schema.INTERACTIONS.names:
        if name not in schema.OPTIONAL_COLUMNS or batch.table[name].null_count < batch.table.num_rows:
            sums += _cell_hashes(batch, name) * _factor(name)
    return np.asarray(pd.util.hash_array(sums), dtype=np.uint64)


def _factor(name: str) -> np.uint64:
    """An odd number of the column's own."""
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") | 1)


def _cell_hashes(batch: Batch, name: str) -> Hashes:
    """A number for each cell, [rows]; equal for equal cells."""
    if name == schema.INTERACTION_ID:
        return batch.id_hashes
    column = batch.table[name]
    if pa.types.is_floating(column.type):
        values = pc.fill_null(column, float("nan")).to_numpy()
        return np.where(np.isnan(values), np.nan, values).astype(np.float64).view(np.uint64)
    if pa.types.is_string(column.type):
        words = pa.chunked_array([pc.unique(column)])
        return text_hashes([words])[pc.index_in(column, words.combine_chunks()).to_numpy()]
    values = batch.ints(name).view(np.uint64)
    return np.where(batch.nulls(name), NULL, values) if column.null_count else values
