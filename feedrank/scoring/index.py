"""From ids to the rows that every table of the scorer shares."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from feedrank.features.events import Ints

Rows = NDArray[np.int32] | Ints
"""Row numbers, int32 where a table holds them."""

DENSE_ENTRIES_PER_ID = 4
DENSE_ENTRIES_FREE = 1_000_000


@dataclass(frozen=True)
class IdIndex:
    """Sorted known ids, shape [ids]; row `len(ids)` stands for every unknown one."""

    ids: Ints

    @staticmethod
    def union(*ids: Ints) -> "IdIndex":
        """The index of all ids of some arrays."""
        return IdIndex(np.unique(np.concatenate(ids)))

    @cached_property
    def _direct(self) -> NDArray[np.int32] | None:
        """Row of id i at place i + 1, with the unknown row at both ends; None when the ids are too sparse for it."""
        if not len(self.ids) or self.ids[-1] > DENSE_ENTRIES_PER_ID * len(self.ids) + DENSE_ENTRIES_FREE:
            return None
        table = np.full(int(self.ids[-1]) + 3, len(self.ids), dtype=np.int32)
        table[self.ids + 1] = np.arange(len(self.ids))
        return table

    def rows(self, ids: Ints) -> Rows:
        """Row of each id, shape of `ids`."""
        if self._direct is not None:
            return self._direct.take(ids + 1, mode="clip")
        if not len(self.ids):
            return np.zeros(len(ids), dtype=np.int64)
        rows = self.ids.searchsorted(ids)
        return np.where(self.ids.take(rows, mode="clip") == ids, rows, len(self.ids))

    def row(self, entity_id: int) -> int:
        """Row of one id."""
        direct = self._direct
        if direct is not None:
            return direct.item(entity_id + 1) if 0 <= entity_id < len(direct) - 1 else len(self.ids)
        return int(self.rows(np.array([entity_id]))[0])
