"""From spool batches (one row per request) to rows of the log (one per item, `Feed.log`)."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.features.aggregates import Context
from feedrank.features.events import Ints
from feedrank.prediction_log.buffers import COUNTER, DEVICE, FEED, ITEM_IDS, ITEM_VALUES, SCORES
from feedrank.scoring.features import Layout, layout_of

COUNTER_DIGITS, POSITION_DIGITS = 10, 3


def log_rows(requests: pa.Table, *, boot: str) -> pa.Table:
    """The log's rows of some requests, in the order of their arrival; items of a request by rank."""
    layout = layout_of(_feed_of(requests))
    requests = requests.take(pc.sort_indices(requests[schema.RECEIVED_AT])).combine_chunks()
    sizes = pc.list_value_length(requests[ITEM_IDS]).to_numpy().astype(np.int64)
    request_of_row = np.repeat(np.arange(len(sizes)), sizes)
    position = np.arange(len(request_of_row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)

    def repeated(name: str) -> pa.Array:
        return requests[name].combine_chunks().take(pa.array(request_of_row))

    item_values = pc.list_flatten(requests[ITEM_VALUES]).combine_chunks()
    matrix = item_values.flatten().to_numpy().reshape(-1, len(layout.item))
    columns = {
        schema.PREDICTION_ID: _prediction_ids(boot, requests[COUNTER].to_numpy(), request_of_row, position),
        schema.TIMESTAMP: repeated(schema.TIMESTAMP).cast(schema.TIMESTAMP_TYPE),
        schema.RECEIVED_AT: repeated(schema.RECEIVED_AT).cast(schema.TIMESTAMP_TYPE),
        schema.USER_ID: repeated(schema.USER_ID),
        schema.ITEM_ID: pc.list_flatten(requests[ITEM_IDS]).combine_chunks(),
        schema.SCORE: pc.list_flatten(requests[SCORES]).combine_chunks(),
        schema.RANK: pa.array((position + 1).astype(np.int16)),
        schema.MODEL_VERSION: repeated(schema.MODEL_VERSION),
        schema.LATENCY_MS: repeated(schema.LATENCY_MS),
        schema.FEATURES_STRUCT: _features(layout, requests, request_of_row, matrix),
    }
    return pa.table(columns, schema=layout.feed.log)


def _feed_of(requests: pa.Table) -> Feed:
    """Releases without a declaration wrote none, and had the default one."""
    stored = (requests.schema.metadata or {}).get(FEED)
    return Feed() if stored is None else Feed.model_validate_json(stored)


def _features(layout: Layout, requests: pa.Table, request_of_row: Ints, matrix: NDArray[np.float32]) -> pa.StructArray:
    devices = requests[DEVICE].to_numpy()
    columns: dict[str, NDArray[np.generic]] = {
        name: requests[name].to_numpy()[request_of_row] for name in layout.shared
    }
    context = Context(np.asarray(0), devices[request_of_row], np.asarray(0))
    columns |= {name: form.value(context) for name, form in layout.feed.flags.items()}
    columns |= {name: matrix[:, i] for i, name in enumerate(layout.item)}
    return pa.StructArray.from_arrays(
        [pa.array(columns[f.name].astype(f.type.to_pandas_dtype()), type=f.type) for f in layout.feed.fields],
        fields=list(layout.feed.fields),
    )


def _prediction_ids(boot: str, counters: Ints, request_of_row: Ints, positions: Ints) -> pa.StringArray:
    """BOOT-COUNTER-POSITION: unique for a process of a predictor, its request and the item."""
    prefix = np.frombuffer(f"{boot}-".encode(), dtype=np.uint8)
    of_request = np.empty((len(counters), len(prefix) + COUNTER_DIGITS + 1), dtype=np.uint8)
    of_request[:, : len(prefix)] = prefix
    of_request[:, len(prefix) : -1] = _digits(counters, COUNTER_DIGITS)
    of_request[:, -1] = ord("-")
    width = of_request.shape[1] + POSITION_DIGITS
    text = np.empty((len(positions), width), dtype=np.uint8)
    text[:, :-POSITION_DIGITS] = of_request[request_of_row]
    text[:, -POSITION_DIGITS:] = _digits(np.arange(10**POSITION_DIGITS), POSITION_DIGITS)[positions]
    offsets = np.arange(len(positions) + 1, dtype=np.int32) * width
    return pa.StringArray.from_buffers(len(positions), pa.py_buffer(offsets), pa.py_buffer(text))


def _digits(numbers: Ints, count: int) -> NDArray[np.uint8]:
    """The last decimal digits of each number as text, [numbers, count]."""
    places = 10 ** np.arange(count - 1, -1, -1)
    return (numbers[:, None] // places % 10 + ord("0")).astype(np.uint8)
