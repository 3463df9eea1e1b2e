"""Plays logged visits again as requests: what a product would have asked the predictor, at the times it would have."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from feedrank import schema
from feedrank.client import Client, PredictionError
from feedrank.tables import sort_by_time, timestamps_us

VISIT_GAP_US = 30 * 60 * 1_000_000
MAX_ITEMS = 100
LEAD = timedelta(seconds=1)
"""A request comes before the first impression that it leads to."""


class Replayed(BaseModel):
    """What came of the requests."""

    requests: int
    failed: int
    items: int


def replay(
    url: str, interactions: Iterable[pa.Table], *, since: date, set_clock: Callable[[datetime], None]
) -> Replayed:
    """Sends a request for each visit from a day on, with the items that the visit saw, and before it tells the
    predictor's clock the time."""
    requests = failed = items = 0
    first = datetime(since.year, since.month, since.day, tzinfo=UTC)
    with Client(url) as client:
        for visit in visits(interactions, since=first):
            wanted = list(dict.fromkeys(visit[schema.ITEM_ID].to_pylist()))[:MAX_ITEMS]
            user, device = visit[schema.USER_ID][0].as_py(), visit[schema.DEVICE][0].as_py()
            moment = visit[schema.TIMESTAMP][0].as_py() - LEAD
            set_clock(moment)
            try:
                client.rank(user, wanted, device=device)
            except PredictionError:
                failed += 1
            requests, items = requests + 1, items + len(wanted)
    return Replayed(requests=requests, failed=failed, items=items)


def visits(interactions: Iterable[pa.Table], *, since: datetime) -> Iterator[pa.Table]:
    """The rows of each visit, the earliest first: those of one user without a longer pause."""
    parts = [table.filter(timestamps_us(table) >= since.timestamp() * 1_000_000) for table in interactions]
    table = sort_by_time(pa.concat_tables(parts))
    order = np.argsort(table[schema.USER_ID].to_numpy(), kind="stable")
    table = table.take(pa.array(order))
    users, times = table[schema.USER_ID].to_numpy(), timestamps_us(table)
    new = np.flatnonzero((np.diff(users, prepend=-1) != 0) | (np.diff(times, prepend=0) > VISIT_GAP_US))
    stops = np.append(new[1:], len(users))
    for visit in np.argsort(times[new], kind="stable"):
        yield table.slice(new[visit], stops[visit] - new[visit])
