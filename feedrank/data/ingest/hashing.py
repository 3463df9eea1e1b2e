"""Hashes of interactions, computed on whole columns: of their ids, and of all else that they are."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feedrank import schema
from feedrank.data.ingest.identity import Hashes, text_hashes

UUID_LENGTH = 36
_ODD = np.uint64(0x9E3779B97F4A7C15)


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
