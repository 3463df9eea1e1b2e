"""The rows of one window: a sample of users with all that is known of them, and figures over everybody.

The log may hold any number of rows. Users are chosen by a hash of their id before anything is kept, so that a user is
in the sample with all candidates, feedback and earlier rows, or not at all; volume and latency are counted as the rows
stream by. All times of the log are those of arrival.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.config.monitoring import MonitoringConfig
from feedrank.delta import Location
from feedrank.monitoring.feedback import Joined, join_feedback, without_duplicates
from feedrank.monitoring.recent import ARRIVAL, Source
from feedrank.monitoring.sampling import chosen_users
from feedrank.tables import sort_by_time, timestamps_us

Ints = NDArray[np.int64]
LOG_COLUMNS = (
    schema.TIMESTAMP, schema.RECEIVED_AT, schema.USER_ID, schema.ITEM_ID, schema.SCORE, schema.RANK, schema.LATENCY_MS,
    schema.MODEL_VERSION, schema.FEATURES_STRUCT,
)  # fmt: skip


@lru_cache(maxsize=16)
def read_log(feed: Feed) -> pa.Schema:
    """The columns of the prediction log that the monitor looks at, with a feed's features."""
    return pa.schema([feed.log.field(name) for name in LOG_COLUMNS])


@lru_cache(maxsize=16)
def flat_log(feed: Feed) -> pa.Schema:
    """The same with the struct of features as columns."""
    version = pa.field(schema.MODEL_VERSION, pa.dictionary(pa.int32(), pa.string()))
    return pa.schema([*(feed.log.field(name) for name in LOG_COLUMNS[:-2]), version, *feed.fields])


KEYS = (schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP)
US_PER_HOUR = 3_600_000_000
LATENCY_EDGES_MS = np.geomspace(0.001, 1e6, 4_001)
"""Bins 0.5 % wide, so a quantile is right to that."""


@dataclass(frozen=True)
class Sources:
    """Where the recent data lies; both are partitioned by date."""

    predictions: Location
    feedback: Location


@dataclass(frozen=True)
class HourCounts:
    """Traffic that arrived in one hour."""

    start: datetime
    predictions: int
    requests: int
    """Of all users."""
    sampled_requests: int
    answered_requests: int
    """Of the sampled ones: those that have feedback so far."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of the requests of all users; None without any."""

    requests: int
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class WindowRows:
    """What is known of one window."""

    start: datetime
    end: datetime
    user_share: float
    """Of the users that are looked at; 1 is everybody."""
    total_predictions: int
    """Of all users."""
    version_rows: dict[str, int]
    """Predictions of all users by model version."""
    hours: list[HourCounts]
    latency: Latency
    predictions: pa.Table
    """All candidates of the sampled users in the window, all model versions (`flat_log`), by arrival."""
    joined: Joined
    """Those of the predictions that were shown and have feedback, and the sampled users' feedback counts."""
    feedback: pa.Table
    """Of the sampled users in the window and the one before, without duplicates."""
    warnings: list[str]

    def shown(self) -> pa.Table:
        """The predictions with feedback, in the order of `joined`."""
        return self.predictions.take(pa.array(self.joined.rows))


def read_window(
    end: datetime, *, sources: Sources, feed: Feed, config: MonitoringConfig, feedback_until: datetime | None = None
) -> WindowRows:
    """The rows of the window that ends at `end` (excluded), in bounded memory; days without feedback are warned of.

    Feedback that has not come yet, of days after `feedback_until`, is nothing to warn of.
    """
    start = end - config.window_length
    attribution = timedelta(minutes=config.window.attribution_minutes)
    log = Source.open(
        sources.predictions, wanted=read_log(feed), by=ARRIVAL, start=start - attribution, end=end, expected_from=start
    )
    seen = Source.open(
        sources.feedback,
        wanted=schema.INTERACTIONS,
        by=schema.TIMESTAMP,
        start=start - config.window_length,
        end=end,
        expected_from=start,
        expected_until=feedback_until,
    )
    share = min(1.0, config.window.max_read_rows / max(log.rows, seen.rows, 1))
    traffic = _Traffic(start, end)
    predictions = sort_by_time(
        pa.concat_tables(
            [flat_log(feed).empty_table(), *_sampled_log(log, feed=feed, share=share, traffic=traffic)]
        ).unify_dictionaries(),
        column=ARRIVAL,
    )
    feedback = sort_by_time(pa.concat_tables([schema.INTERACTIONS.empty_table(), *_sampled(seen, share=share)]))
    inside = pa.array(timestamps_us(feedback) >= _us(start))
    joined = join_feedback(predictions, feedback.filter(inside), config=config.window)
    earlier = int((timestamps_us(predictions, column=ARRIVAL) < _us(start)).sum())
    predictions, joined = predictions.slice(earlier), joined.without_first(earlier)
    return WindowRows(
        start=start,
        end=end,
        user_share=share,
        total_predictions=int(traffic.predictions.sum()),
        version_rows=dict(sorted(traffic.versions.items())),
        hours=list(_hours(traffic, predictions, joined)),
        latency=traffic.latency(),
        predictions=predictions,
        joined=joined,
        feedback=without_duplicates(feedback),
        warnings=[*log.warnings, *seen.warnings],
    )


def flat(log: pa.Table, feed: Feed) -> pa.Table:
    """Rows of `read_log` as `flat_log`."""
    features = log[schema.FEATURES_STRUCT]
    columns = [log[name] for name in LOG_COLUMNS[:-2]]
    columns.append(pc.dictionary_encode(log[schema.MODEL_VERSION]))
    columns += [pc.struct_field(features, name) for name in feed.names]
    return pa.Table.from_arrays(columns, schema=flat_log(feed))


def by_arrival(rows: pa.Table) -> pa.Table:
    """Rows of `flat_log` whose time is that of arrival: by their own, some lie in hours that the window lacks."""
    place = rows.schema.get_field_index(schema.TIMESTAMP)
    return rows.set_column(place, rows.schema.field(place), rows[ARRIVAL])


def _sampled_log(source: Source, *, feed: Feed, share: float, traffic: "_Traffic") -> Iterator[pa.Table]:
    for batch in source.batches(keys=dict.fromkeys([*KEYS, source.by])):
        traffic.add(batch)
        yield flat(_of_chosen_users(batch, share=share), feed)


def _sampled(source: Source, *, share: float) -> Iterator[pa.Table]:
    for batch in source.batches(keys=dict.fromkeys([*KEYS, source.by])):
        yield _of_chosen_users(batch, share=share)


def _of_chosen_users(batch: pa.Table, *, share: float) -> pa.Table:
    if share >= 1:
        return batch
    return batch.filter(pa.array(chosen_users(batch[schema.USER_ID].to_numpy(), share=share)))


@dataclass
class _Traffic:
    """Counts over all users, filled batch by batch."""

    start: datetime
    end: datetime
    versions: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.first_hour = _us(self.start) // US_PER_HOUR
        hours = -(-_us(self.end) // US_PER_HOUR) - self.first_hour
        self.predictions, self.requests = np.zeros(hours, dtype=np.int64), np.zeros(hours, dtype=np.int64)
        self._latencies = np.zeros(len(LATENCY_EDGES_MS) + 1, dtype=np.int64)

    def add(self, batch: pa.Table) -> None:
        """Counts rows of `read_log`; those before the window are not counted."""
        times = timestamps_us(batch, column=ARRIVAL)
        if not len(times):
            return
        if times.min() < _us(self.start):
            batch = batch.filter(pa.array(times >= _us(self.start)))
            times = times[times >= _us(self.start)]
        hours = times // US_PER_HOUR - self.first_hour
        # Each request has one item of rank 1.
        first = pc.fill_null(pc.equal(batch[schema.RANK], 1), False).to_numpy()
        self.predictions += np.bincount(hours, minlength=len(self.predictions))
        self.requests += np.bincount(hours[first], minlength=len(self.requests))
        latencies = batch[schema.LATENCY_MS].filter(pa.array(first)).drop_null().to_numpy()
        bins = np.searchsorted(LATENCY_EDGES_MS, latencies)
        self._latencies += np.bincount(bins, minlength=len(self._latencies))
        for counted in pc.value_counts(batch[schema.MODEL_VERSION].drop_null()).to_pylist():
            name = str(counted["values"])
            self.versions[name] = self.versions.get(name, 0) + counted["counts"]

    def latency(self) -> Latency:
        """The quantiles so far."""
        requests = int(self._latencies.sum())
        return Latency(requests, p50_ms=self._quantile(0.5), p99_ms=self._quantile(0.99))

    def _quantile(self, rank: float) -> float | None:
        total = np.cumsum(self._latencies)
        if not total[-1]:
            return None
        place = int(np.searchsorted(total, rank * total[-1]))
        return float(LATENCY_EDGES_MS[min(place, len(LATENCY_EDGES_MS) - 1)])


def _hours(traffic: _Traffic, predictions: pa.Table, joined: Joined) -> Iterator[HourCounts]:
    hours = timestamps_us(predictions, column=ARRIVAL) // US_PER_HOUR - traffic.first_hour
    requests = request_of_row(predictions)
    count = len(traffic.predictions)
    answered = np.zeros(requests.max(initial=-1) + 1, dtype=bool)
    answered[requests[joined.rows]] = True
    _, first = np.unique(requests, return_index=True)
    sampled = np.bincount(hours[first], minlength=count)
    with_feedback = np.bincount(hours[first[answered]], minlength=count)
    for index in range(count):
        yield HourCounts(
            start=datetime.fromtimestamp((traffic.first_hour + index) * 3_600, tz=UTC),
            predictions=int(traffic.predictions[index]),
            requests=int(traffic.requests[index]),
            sampled_requests=int(sampled[index]),
            answered_requests=int(with_feedback[index]),
        )


def request_of_row(predictions: pa.Table) -> Ints:
    """Number of each row's request (rows of one user and moment), from 0."""
    users, times = predictions[schema.USER_ID].to_numpy(), timestamps_us(predictions, column=ARRIVAL)
    order = np.lexsort((users, times))
    new = (np.diff(users[order], prepend=0) != 0) | (np.diff(times[order], prepend=0) != 0)
    new[:1] = True
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[order] = np.cumsum(new) - 1
    return numbers


def _us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
