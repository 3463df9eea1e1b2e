"""Stable ids: the same content gets the same id on every machine and in every run.

Hashes are pandas' (SipHash of the text; the combination of several columns depends on their order), 64 bits wide.
An id of n distinct texts collides with a probability of about n^2 / 2^64: 5e-8 for a million users.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

Hashes = npt.NDArray[np.uint64]

SLICE_ROWS = 500_000
"""Rows hashed at a time: pandas needs a Python object for each text."""

_DIGITS = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
_DASHES = (8, 13, 18, 23)
_PLACES = np.array([place for place in range(36) if place not in _DASHES])


def text_hashes(columns: list[pa.ChunkedArray]) -> Hashes:
    """One hash for the combination of texts in each row, [rows]; a missing text hashes like an empty one."""
    rows = len(columns[0])
    slices = [_slice_hashes([c.slice(i, SLICE_ROWS) for c in columns]) for i in range(0, rows, SLICE_ROWS)]
    return np.concatenate([np.array([], dtype=np.uint64), *slices])


def _slice_hashes(columns: list[pa.ChunkedArray]) -> Hashes:
    texts = {str(i): pc.fill_null(column.cast(pa.string()), "") for i, column in enumerate(columns)}
    frame = pd.DataFrame({name: text.to_numpy(zero_copy_only=False) for name, text in texts.items()})
    hashes = pd.util.hash_pandas_object(frame, index=False, categorize=len(columns) > 1)
    return np.asarray(hashes, dtype=np.uint64)


def hashed_ids(columns: list[pa.ChunkedArray]) -> pa.Array:
    """63-bit ids (0 … 2^63 - 1) of the combination of texts in each row."""
    return pa.array((text_hashes(columns) >> np.uint64(1)).astype(np.int64))


class ImpressionIds:
    """UUIDs for the rows of one file that has none: made of what an impression is, not of what became of it.

    The n-th row of the same user, item and time gets the same id whenever the file is read. So equal rows of one file
    stay several, and an export that knows a later click is a later version. The form is that of version 8 (RFC 9562,
    section 5.8), as the bits are a hash of our own.
    """

    def __init__(self) -> None:
        self._seen = np.array([], dtype=np.uint64)

    def of(self, users: pa.Array, items: pa.Array, times_us: npt.NDArray[np.int64]) -> pa.Array:
        """The ids of the file's next rows."""
        frame = pd.DataFrame({"user": np.asarray(users), "item": np.asarray(items), "time": times_us})
        forward = np.asarray(pd.util.hash_pandas_object(frame, index=False), dtype=np.uint64)
        backward = np.asarray(pd.util.hash_pandas_object(frame[frame.columns[::-1]], index=False), dtype=np.uint64)
        earlier = np.searchsorted(self._seen, forward, "right") - np.searchsorted(self._seen, forward, "left")
        occurrence = pd.Series(forward).groupby(forward).cumcount().to_numpy() + earlier
        self._seen = np.sort(np.concatenate([self._seen, forward]))
        salt = np.asarray(pd.util.hash_array(occurrence.astype(np.uint64)), dtype=np.uint64)
        return _uuid_text(pd.util.hash_array(forward ^ salt), backward ^ salt)


def text_uuids(texts: pa.ChunkedArray) -> pa.Array:
    """UUIDs made of the text in each row, for ids that aren't UUIDs."""
    forward = text_hashes([texts])
    return _uuid_text(forward, text_hashes([pc.utf8_reverse(texts.cast(pa.string()))]) ^ forward)


def _uuid_text(high: Hashes, low: Hashes) -> pa.Array:
    raw = np.stack([high, low], axis=1).astype(">u8").view(np.uint8).reshape(len(high), 16)
    raw[:, 6] = raw[:, 6] & 0x0F | 0x80
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    text = np.full((len(high), 36), ord("-"), dtype=np.uint8)
    text[:, _PLACES[0::2]] = _DIGITS[raw >> 4]
    text[:, _PLACES[1::2]] = _DIGITS[raw & 0x0F]
    offsets = np.arange(len(high) + 1, dtype=np.int32) * 36
    return pa.StringArray.from_buffers(len(high), pa.py_buffer(offsets), pa.py_buffer(text))
