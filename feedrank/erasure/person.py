"""Who is erased: the numbers that tables hold for an id, and the words by which a raw record may name it."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feedrank import schema
from feedrank.errors import ConfigError

Mask = NDArray[np.bool_]
RECORD = "record"
"""Column of the ingestion's quarantine: a row as it was, JSON or a line."""
_WORD = re.compile(r"[^\s,;|:\"'{}\[\]()]+")
_INT64 = range(-(2**63), 2**63)


def numbers_of(text: str) -> list[int]:
    """What a table may hold for an id: the hash of its text (a mapping's `hash: true`), and the number that it is."""
    from feedrank.data.ingest.identity import hashed_ids

    hashed = hashed_ids([pa.chunked_array([pa.array([text])])]).to_pylist()
    is_number = re.fullmatch(r"-?\d{1,19}", text) is not None and int(text) in _INT64
    return [int(text), *hashed] if is_number else hashed


def words_of(record: str) -> set[str]:
    """The values of a record, each whole; of a line that is no JSON, its words."""
    try:
        values = json.loads(record)
    except ValueError:
        values = None
    if isinstance(values, dict):
        return {str(value).strip() for value in values.values()}
    return set(_WORD.findall(record))


@dataclass(frozen=True)
class People:
    """Those who are erased together, by their ids as clients send them."""

    texts: tuple[str, ...]

    @staticmethod
    def of(texts: Iterable[str]) -> "People":
        """Raises ConfigError if there is none, or one is empty."""
        people = People(tuple(dict.fromkeys(text.strip() for text in texts)))
        if not people.texts or not all(people.texts):
            raise ConfigError("--user: an id is missing; give it as clients send it, such as 123 or user-abc")
        return people

    @cached_property
    def numbers(self) -> list[int]:
        """As tables of interactions and the log hold them."""
        return [number for text in self.texts for number in numbers_of(text)]

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """With those of their earlier selves, which models and feature tables of earlier releases' retrainings hold."""
        numbers = np.array(self.numbers, dtype=np.int64)
        return np.unique(np.concatenate([numbers, numbers + schema.EARLIER_SELF]))

    @cached_property
    def words(self) -> frozenset[str]:
        """What a text may name them by."""
        return frozenset([*self.texts, *map(str, self.numbers)])

    def rows(self, batch: pa.RecordBatch | pa.Table) -> Mask:
        """Which rows are theirs, [rows]: by the user's id, or by a raw record that has it as any of its values."""
        names = batch.schema.names
        if schema.USER_ID in names:
            return self._named_by(batch.column(schema.USER_ID))
        if RECORD in names:
            records = batch.column(RECORD).to_pylist()
            return np.array([record is not None and bool(words_of(record) & self.words) for record in records], bool)
        return np.zeros(batch.num_rows, dtype=bool)

    def _named_by(self, users: pa.Array | pa.ChunkedArray) -> Mask:
        if pa.types.is_integer(users.type):
            known = pc.is_in(users.cast(pa.int64()), value_set=pa.array(self.ids))
        else:
            known = pc.is_in(users.cast(pa.string()), value_set=pa.array(sorted(self.words)))
        return np.asarray(known.to_numpy() if isinstance(known, pa.ChunkedArray) else known.to_numpy(False), bool)
