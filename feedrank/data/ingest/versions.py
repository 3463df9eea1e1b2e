"""The later version of an interaction wins: which rows of a run are new, changed or known, and what then stands.

Rows are written as they come, as files of the table that are not committed yet. At the end the days of interactions
with more than one version are written anew, and all files are committed at once.
"""

from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from feedrank import delta, schema
from feedrank.data.ingest.hashing import content_hashes, id_hashes
from feedrank.data.ingest.identity import Hashes
from feedrank.interactions import LAYOUT
from feedrank.tables import US_PER_DAY, timestamps_us

Days = npt.NDArray[np.int64]
"""UTC days since 1970."""
Mask = npt.NDArray[np.bool_]
EPOCH = date(1970, 1, 1)


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
    """Follows a run on a snapshot of the table."""

    def __init__(self, table: delta.Table) -> None:
        self._table = table
        self._table_days = np.array([(day - EPOCH).days for day in table.days()], dtype=np.int64)
        self._written = _Index()
        self._stored: dict[int, _Index] = {}
        self._staged: dict[int, list[delta.DataFile]] = {}
        self._removed: list[str] = []
        self._contested: list[Hashes] = []
        self._dirty_days: set[int] = set()
        self._rows = 0

    def add(self, rows: pa.Table) -> None:
        """Writes those rows that are new or changed; of several versions among them the last."""
        self._rows += rows.num_rows
        ids = id_hashes(rows[schema.INTERACTION_ID])
        last = _last_of_each(ids)
        ids, contents = ids[last], content_hashes(rows)[last]
        days = timestamps_us(rows)[last] // US_PER_DAY
        places, written = self._written.find(ids)
        known = np.zeros(len(ids), dtype=bool)
        known[written] = self._written.contents[places[written]] == contents[written]
        known |= self._stands(ids, days, contents, asked=~written)
        again = written & ~known
        self._contested.append(ids[again])
        self._dirty_days |= {*self._written.days[places[again]].tolist(), *days[again].tolist()}
        self._written.put(ids[~known], days[~known], contents[~known])
        chosen = np.sort(last[~known])
        self._stage(rows if len(chosen) == rows.num_rows else rows.take(pa.array(chosen)))

    def finish(self) -> Outcome:
        """Leaves of each interaction the last version that was read, ready to be committed."""
        stored_on = self._days_in_table()
        stored = stored_on >= 0
        contested = np.unique(np.concatenate([self._written.ids[stored], *self._contested]))
        places, _ = self._written.find(contested)
        final = _Index(contested, self._written.days[places], self._written.contents[places])
        unchanged = self._stands(final.ids, final.days, final.contents, asked=np.ones(len(contested), dtype=bool))
        self._dirty_days |= {*stored_on[stored].tolist(), *self._written.days[stored].tolist()}
        for day in sorted(self._dirty_days):
            self._leave_last_versions(day, final, unchanged)
        added, updated = int((~stored).sum()), int(stored.sum() - unchanged.sum())
        return Outcome(added=added, updated=updated, known=self._rows - added - updated)

    def commit(self, note: delta.Note) -> delta.Table:
        """Makes what was written part of the table, all at once.

        Raises:
            StorageError: another run changed the same days, or ingested, meanwhile.
        """
        files = [file for day in sorted(self._staged) for file in self._staged[day]]
        return self._table.commit(files, removed=self._removed, note=note)

    def discard(self) -> None:
        """Deletes what was written and is not part of the table."""
        for day in list(self._staged):
            self._delete_staged(day)

    def _stage(self, rows: pa.Table) -> None:
        for file in delta.write_files([rows], layout=LAYOUT, files=self._table.files):
            self._staged.setdefault((file.day - EPOCH).days, []).append(file)

    def _delete_staged(self, day: int) -> None:
        for file in self._staged.pop(day, []):
            self._table.files.delete_file(file.path)

    def _stands(self, ids: Hashes, days: Days, contents: Hashes, *, asked: Mask) -> Mask:
        """Which of the rows stand in the table just so."""
        same = np.zeros(len(ids), dtype=bool)
        for day in np.intersect1d(days[asked], self._table_days):  # a first import has hundreds that are not there
            index = self._index_of(int(day))
            of_day = np.flatnonzero(asked & (days == day))
            places, there = index.find(ids[of_day])
            same[of_day[there]] = index.contents[places[there]] == contents[of_day[there]]
        return same

    def _index_of(self, day: int) -> _Index:
        if day not in self._stored:
            rows = self._rows_of(day)
            ids = id_hashes(rows[schema.INTERACTION_ID])
            order = np.argsort(ids, kind="stable")
            self._stored[day] = _Index(ids[order], np.full(len(ids), day), content_hashes(rows)[order])
        return self._stored[day]

    def _rows_of(self, day: int) -> pa.Table:
        calendar_day = EPOCH + timedelta(days=day)
        return self._table.read(start=calendar_day, end=calendar_day).cast(schema.INTERACTIONS)

    def _days_in_table(self) -> Days:
        """On which day the table holds each interaction that was written, -1 where on none."""
        found = np.full(len(self._written.ids), -1, dtype=np.int64)
        for day in self._table_days.tolist() if len(found) else []:
            if day in self._stored:
                ids = self._stored[day].ids
            else:
                stored_day = EPOCH + timedelta(days=day)
                rows = self._table.read(columns=[schema.INTERACTION_ID], start=stored_day, end=stored_day)
                ids = id_hashes(rows[schema.INTERACTION_ID])
            places, there = self._written.find(ids)
            found[places[there]] = day
        return found

    def _leave_last_versions(self, day: int, final: _Index, unchanged: Mask) -> None:
        old = self._rows_of(day)
        new = [pq.read_table(file.path, filesystem=self._table.files) for file in self._staged.get(day, [])]
        table = pa.concat_tables([old, *new])
        ids = id_hashes(table[schema.INTERACTION_ID])
        places, contested = final.find(ids)
        is_old = np.arange(len(ids)) < old.num_rows
        stays = np.ones(len(ids), dtype=bool)
        kept_old, is_final = unchanged[places[contested]], content_hashes(table)[contested]
        is_final = is_final == final.contents[places[contested]]
        stays[contested] = np.where(kept_old, is_old[contested], ~is_old[contested] & is_final)
        stays[stays] = _is_last(ids[stays])
        self._delete_staged(day)
        self._removed += self._table.paths_of([EPOCH + timedelta(days=day)])
        self._stage(table.filter(pa.array(stays)))


def _is_last(ids: Hashes) -> Mask:
    """Whether no equal id follows, [rows]."""
    mask = np.zeros(len(ids), dtype=bool)
    mask[_last_of_each(ids)] = True
    return mask


def _last_of_each(ids: Hashes) -> npt.NDArray[np.int64]:
    """Where each id stands for the last time, in the order of the ids."""
    order = np.argsort(ids, kind="stable")
    is_last = np.ones(len(ids), dtype=bool)
    is_last[:-1] = ids[order][1:] != ids[order][:-1]
    return order[is_last]
