"""The later version of an interaction wins: which rows of a run are new, changed or known, and what then stands."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feedrank import schema
from feedrank.data.ingest.identity import Hashes, text_hashes
from feedrank.data.links import link_file
from feedrank.tables import (
    COMPRESSION,
    US_PER_DAY,
    parquet_files,
    partition_days,
    read_parquet,
    sort_by_time,
    timestamps_us,
)

Days = npt.NDArray[np.int64]
"""UTC days since 1970."""
Mask = npt.NDArray[np.bool_]
UUID_LENGTH = 36
_ODD = np.uint64(0x9E3779B97F4A7C15)
_KEPT = "kept-"


def id_hashes(column: pa.ChunkedArray) -> Hashes:
    """One hash for each interaction id, [rows]; a UUID's without a Python object for it."""
    texts = column.cast(pa.string()).combine_chunks()
    if isinstance(texts, pa.ChunkedArray):  # of no chunk
        return np.array([], dtype=np.uint64)
    is_uuid = pc.equal(pc.binary_length(texts), UUID_LENGTH).to_numpy(zero_copy_only=False)
    if is_uuid.all():
        return _uuid_hashes(texts)
    hashes = np.empty(len(texts), dtype=np.uint64)
    hashes[is_uuid] = _uuid_hashes(texts.filter(pa.array(is_uuid)))
    hashes[~is_uuid] = text_hashes([pa.chunked_array([texts.filter(pa.array(~is_uuid))])])
    return hashes


def _uuid_hashes(texts: pa.StringArray) -> Hashes:
    if not len(texts):
        return np.array([], dtype=np.uint64)
    _, offsets, data = texts.buffers()
    start = int(np.frombuffer(offsets, dtype=np.int32)[texts.offset])
    raw = np.frombuffer(data, dtype=np.uint8)[start : start + UUID_LENGTH * len(texts)]
    padded = np.zeros((len(texts), 5 * 8), dtype=np.uint8)
    padded[:, :UUID_LENGTH] = raw.reshape(len(texts), UUID_LENGTH)
    mixed = np.zeros(len(texts), dtype=np.uint64)
    for word in padded.view(np.uint64).T:
        mixed = _mixed(mixed, word)
    return mixed


def content_hashes(table: pa.Table) -> Hashes:
    """One hash for all of each row but its id, [rows]."""
    mixed = np.zeros(table.num_rows, dtype=np.uint64)
    for name in schema.INTERACTIONS.names:
        if name != schema.INTERACTION_ID:
            mixed = _mixed(mixed, _bits(table[name]))
    return mixed


def _mixed(hashes: Hashes, bits: Hashes) -> Hashes:
    """Multiplication and shift, as in Fibonacci hashing."""
    hashes = (hashes ^ bits) * _ODD
    return hashes ^ (hashes >> np.uint64(29))


def _bits(column: pa.ChunkedArray) -> Hashes:
    """64 bits for each value; texts by their hash."""
    if pa.types.is_string(column.type):
        codes = column.combine_chunks().dictionary_encode()
        return text_hashes([pa.chunked_array([codes.dictionary])])[codes.indices.to_numpy()]
    if pa.types.is_timestamp(column.type):
        column = pc.fill_null(column.cast(pa.int64()), np.iinfo(np.int64).min)
    values = column.to_numpy()
    return values.view(np.uint64) if values.dtype.itemsize == 8 else values.astype(np.uint64)


@dataclass
class _Index:
    """Interactions by the hash of their id, sorted, with their day and, where known, the hash of their content."""

    ids: Hashes = field(default_factory=lambda: np.array([], dtype=np.uint64))
    days: Days = field(default_factory=lambda: np.array([], dtype=np.int64))
    contents: Hashes = field(default_factory=lambda: np.array([], dtype=np.uint64))

    def find(self, ids: Hashes) -> tuple[npt.NDArray[np.int64], Mask]:
        """Where each id is, and whether it is there."""
        if not len(self.ids):
            return np.zeros(len(ids), dtype=np.int64), np.zeros(len(ids), dtype=bool)
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return places, self.ids[places] == ids

    def put(self, ids: Hashes, days: Days, contents: Hashes) -> None:
        """Adds interactions, which are sorted by id, or replaces what is known of them."""
        places, there = self.find(ids)
        self.days[places[there]], self.contents[places[there]] = days[there], contents[there]
        new = ~there
        places = np.searchsorted(self.ids, ids[new])
        self.ids = np.insert(self.ids, places, ids[new])
        self.days = np.insert(self.days, places, days[new])
        self.contents = np.insert(self.contents, places, contents[new])


@dataclass(frozen=True)
class Outcome:
    """How the rows of a run ended."""

    added: int
    updated: int
    known: int


class Versions:
    """Follows a run that writes into `fresh`, where it links what `output` holds already."""

    def __init__(self, output: Path, fresh: Path) -> None:
        self._fresh = fresh
        self._stored = _carry_over(output, fresh)
        self._written = _Index()
        self._loaded: dict[int, _Index] = {}
        self._dirty_days: set[int] = set()
        self._restaged: list[Hashes] = []
        self._rows = 0

    @property
    def stored(self) -> int:
        """How many interactions the table had before."""
        return len(self._stored.ids)

    def unknown(self, table: pa.Table) -> pa.Table:
        """The rows to write: new interactions and changed ones, of several versions in the table the last."""
        self._rows += table.num_rows
        ids = id_hashes(table[schema.INTERACTION_ID])
        order = np.argsort(ids, kind="stable")
        is_last = np.ones(len(ids), dtype=bool)
        is_last[:-1] = ids[order][1:] != ids[order][:-1]
        last = order[is_last]
        ids, contents = ids[last], content_hashes(table)[last]
        days = timestamps_us(table)[last] // US_PER_DAY
        places, written = self._written.find(ids)
        known = written & (self._written.contents[places] == contents) if written.any() else written.copy()
        same, stored_days, stored = self._as_stored(ids, contents, ~written)
        known |= same
        changed = ~known
        self._dirty_days |= {*self._written.days[places[written & changed]].tolist()}
        self._dirty_days |= {*days[changed & (written | stored)].tolist(), *stored_days[changed & stored].tolist()}
        self._restaged.append(ids[changed & (written | stored)])
        self._written.put(ids[changed], days[changed], contents[changed])
        rows = np.sort(last[changed])
        return table if len(rows) == table.num_rows else table.take(pa.array(rows))

    def _as_stored(self, ids: Hashes, contents: Hashes, asked: Mask) -> tuple[Mask, Days, Mask]:
        """Which of the rows stand in the table just so; the days of those that stand in it, and which do."""
        places, stored = self._stored.find(ids)
        stored &= asked
        days = np.zeros(len(ids), dtype=np.int64)
        days[stored] = self._stored.days[places[stored]]
        same = np.zeros(len(ids), dtype=bool)
        for day in np.unique(days[stored]):
            of_day = np.flatnonzero(stored & (days == day))
            index = self._contents_of(int(day))
            at, there = index.find(ids[of_day])
            same[of_day] = there & (index.contents[at] == contents[of_day])
        return same, days, stored

    def _contents_of(self, day: int) -> _Index:
        if day not in self._loaded:
            files = sorted(_folder(self._fresh, day).glob(f"{_KEPT}*.parquet"))
            table = pa.concat_tables([read_parquet(file) for file in files])
            index = _Index()
            ids = id_hashes(table[schema.INTERACTION_ID])
            order = np.argsort(ids, kind="stable")
            index.ids, index.contents = ids[order], content_hashes(table)[order]
            index.days = np.full(len(ids), day)
            self._loaded[day] = index
        return self._loaded[day]

    def finish(self) -> Outcome:
        """Leaves of each interaction the last version that was read."""
        contested = np.unique(np.concatenate([np.array([], dtype=np.uint64), *self._restaged]))
        places, _ = self._written.find(contested)
        final = _Index(contested, self._written.days[places], self._written.contents[places])
        unchanged, _, _ = self._as_stored(contested, final.contents, np.ones(len(contested), dtype=bool))
        for day in sorted(self._dirty_days):
            self._leave_last_versions(_folder(self._fresh, day), final, unchanged)
        _, stored = self._stored.find(self._written.ids)
        updated = int(stored.sum() - unchanged.sum())
        added = int((~stored).sum())
        return Outcome(added=added, updated=updated, known=self._rows - added - updated)

    def _leave_last_versions(self, folder: Path, final: _Index, unchanged: Mask) -> None:
        files = sorted(parquet_files(folder), key=_written_order)
        tables = [read_parquet(file) for file in files]
        old = np.repeat([file.name.startswith(_KEPT) for file in files], [table.num_rows for table in tables])
        table = pa.concat_tables(tables)
        ids = id_hashes(table[schema.INTERACTION_ID])
        places, contested = final.find(ids)
        stays = np.where(unchanged[places], old, ~old & (content_hashes(table) == final.contents[places]))
        again = pd.Series(ids).where(pd.Series(stays & contested)).duplicated(keep="last").to_numpy()
        kept = table.filter(pa.array(~contested | (stays & ~again)))
        for file in files:
            file.unlink()  # links: the table that is replaced keeps its own
        if kept.num_rows:
            pq.write_table(sort_by_time(kept), folder / "merged.parquet", compression=COMPRESSION)
        else:
            folder.rmdir()


def _carry_over(output: Path, fresh: Path) -> _Index:
    """Links the existing partitions into the new directory; tells the interactions and their days."""
    ids, days = [np.array([], dtype=np.uint64)], [np.array([], dtype=np.int64)]
    for day, folder in partition_days(output) if output.is_dir() else []:
        for number, file in enumerate(sorted(parquet_files(folder), key=_written_order)):
            ids.append(id_hashes(read_parquet(file, columns=[schema.INTERACTION_ID])[0]))
            days.append(np.full(len(ids[-1]), (pd.Timestamp(day) - pd.Timestamp(0)).days))
            link_file(file, fresh / folder.name / f"{_KEPT}{number:05}.parquet")
    all_ids, all_days = np.concatenate(ids), np.concatenate(days)
    order = np.argsort(all_ids, kind="stable")
    return _Index(all_ids[order], all_days[order])


def _written_order(file: Path) -> tuple[bool, int, str]:
    """Kept files first, then this run's in the order of their numbers."""
    number = file.stem.rpartition("-")[2]
    return not file.name.startswith(_KEPT), int(number) if number.isdigit() else -1, file.name


def _folder(table: Path, day: int) -> Path:
    return table / f"{schema.DATE}={np.datetime64(day, 'D')}"
