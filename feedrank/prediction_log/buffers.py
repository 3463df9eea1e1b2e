"""Rankings on their way to the spool, in columns that were allocated before: taking one costs a few microseconds."""

import struct
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.scoring import Ranking
from feedrank.scoring.features import Layout, layout_of

MAX_REQUESTS = 512
MAX_ROWS = 25_600
"""About 0.8 MB of columns."""

COUNTER, ITEM_IDS, SCORES, ITEM_VALUES, DEVICE = "counter", "item_ids", "scores", "item_values", "device"
FEED = b"feed"
"""In the metadata of a spool's schema: the declaration of the features, as JSON."""


class SpoolFormat:
    """How rankings of one layout of features lie in the spool: one row per request, items in lists by rank."""

    def __init__(self, layout: Layout) -> None:
        self.item_values = len(layout.item)
        self.header = struct.Struct(f"<qqqfhh{len(layout.shared)}fb")
        """Time, time of arrival, user, latency, version, items, then `Layout.shared` and the device."""
        self.header_dtype = np.dtype(
            [
                (schema.TIMESTAMP, "<i8"),
                (schema.RECEIVED_AT, "<i8"),
                (schema.USER_ID, "<i8"),
                (schema.LATENCY_MS, "<f4"),
                (schema.MODEL_VERSION, "<i2"),
                (ITEM_IDS, "<i2"),
                *((name, "<f4") for name in layout.shared),
                (DEVICE, "i1"),
            ]
        )
        assert self.header.size == self.header_dtype.itemsize
        self.values_type = pa.list_(pa.float32(), self.item_values)
        self.schema = pa.schema(
            [
                pa.field(COUNTER, pa.int64()),
                pa.field(schema.TIMESTAMP, pa.int64()),
                pa.field(schema.RECEIVED_AT, pa.int64()),
                pa.field(schema.USER_ID, pa.int64()),
                pa.field(schema.MODEL_VERSION, pa.string()),
                pa.field(schema.LATENCY_MS, pa.float32()),
                *(layout.feed.fields.field(name) for name in layout.shared),
                pa.field(DEVICE, pa.int8()),
                pa.field(ITEM_IDS, pa.list_(pa.int64())),
                pa.field(SCORES, pa.list_(pa.float32())),
                pa.field(ITEM_VALUES, pa.list_(self.values_type)),
            ],
            metadata={FEED: layout.feed.model_dump_json()},
        )


@lru_cache(maxsize=16)
def format_of(feed: Feed) -> SpoolFormat:
    """The format of rankings by a feed's features."""
    return SpoolFormat(layout_of(feed))


class RequestBuffer:
    """Room for some requests of one feed. Not safe for several threads."""

    def __init__(self, feed: Feed) -> None:
        self.feed, self.format = feed, format_of(feed)
        self._header = self.format.header
        self._headers = bytearray(MAX_REQUESTS * self._header.size)
        self._item_ids = np.empty(MAX_ROWS, dtype=np.int64)
        self._scores = np.empty(MAX_ROWS, dtype=np.float32)
        self._values = np.empty((MAX_ROWS, self.format.item_values), dtype=np.float32)
        self._versions: dict[str, int] = {}
        self.requests = self.rows = 0

    def has_room(self, ranking: Ranking) -> bool:
        """Whether it fits."""
        rows = self.rows + len(ranking.item_ids)
        return self.feed is ranking.layout.feed and self.requests < MAX_REQUESTS and rows <= MAX_ROWS

    def add(self, ranking: Ranking, *, received_us: int, model_version: str, latency_ms: float) -> None:
        """Copies a ranking."""
        start, stop = self.rows, self.rows + len(ranking.item_ids)
        shared = ranking.shared
        self._header.pack_into(
            self._headers,
            self.requests * self._header.size,
            ranking.time_us,
            received_us,
            ranking.user_id,
            latency_ms,
            self._versions.setdefault(model_version, len(self._versions)),
            stop - start,
            *shared.values,
            shared.context[-1],
        )
        self._item_ids[start:stop] = ranking.item_ids
        self._scores[start:stop] = ranking.scores
        ranking.item_matrix[:, : self.format.item_values].take(
            ranking.order, axis=0, out=self._values[start:stop], mode="clip"
        )
        self.rows = stop
        self.requests += 1

    def batch(self, *, first_counter: int) -> pa.RecordBatch:
        """The requests as rows of the spool, numbered from `first_counter`; it refers to this buffer's memory."""
        headers = np.frombuffer(self._headers, dtype=self.format.header_dtype, count=self.requests)
        versions = np.array(list(self._versions), dtype=np.object_)[headers[schema.MODEL_VERSION]]
        offsets = np.zeros(self.requests + 1, dtype=np.int32)
        np.cumsum(headers[ITEM_IDS], out=offsets[1:])
        lists = {
            ITEM_IDS: pa.array(self._item_ids[: self.rows]),
            SCORES: pa.array(self._scores[: self.rows]),
            ITEM_VALUES: pa.FixedSizeListArray.from_arrays(
                pa.array(self._values[: self.rows].reshape(-1)), type=self.format.values_type
            ),
        }
        columns: dict[str, NDArray[np.generic]] = {
            name: headers[name] for name in headers.dtype.names or () if name not in (schema.MODEL_VERSION, ITEM_IDS)
        }
        columns[COUNTER] = np.arange(first_counter, first_counter + self.requests)
        columns[schema.MODEL_VERSION] = versions
        arrays = [
            pa.ListArray.from_arrays(offsets, lists[field.name])
            if field.name in lists
            else pa.array(columns[field.name]).cast(field.type)
            for field in self.format.schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.format.schema)

    def clear(self) -> None:
        """Forgets the requests."""
        self.requests = self.rows = 0
        self._versions.clear()
