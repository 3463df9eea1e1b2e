"""What has arrived: how far the log and the feedback reach, and how much feedback each hour has got.

Feedback comes when its writer likes: every few seconds, or once a night. The newest row says how far it reaches, its
watermark. Rows that are stamped in the future say nothing about that.
"""

import contextlib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from feedrank import schema
from feedrank.delta import Location
from feedrank.monitoring.data_files import DataFile, day_files
from feedrank.monitoring.recent import ARRIVAL
from feedrank.monitoring.rows import Sources

US_PER_HOUR = 3_600_000_000
TYPES = {ARRIVAL: schema.TIMESTAMP_TYPE, schema.TIMESTAMP: schema.TIMESTAMP_TYPE, schema.CLICK: pa.int8()}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class FeedbackOfTime:
    """Feedback on what was shown within some time; both grow when it comes late."""

    rows: int = 0
    clicks: int = 0

    def differs_from(self, earlier: "FeedbackOfTime", *, share: float) -> bool:
        """Whether one of the counts has changed by more than a share."""
        pairs = ((self.rows, earlier.rows), (self.clicks, earlier.clicks))
        return any(abs(now - before) > share * before for now, before in pairs)


NO_FEEDBACK = FeedbackOfTime()


@dataclass(frozen=True)
class Arrivals:
    """What was there when the monitor looked."""

    first_prediction: datetime | None
    """The oldest that is still in the log."""
    latest_prediction: datetime | None
    latest_feedback: datetime | None
    """The watermark: the newest feedback; None if there was never any."""
    feedback_hours: Mapping[int, FeedbackOfTime]
    """By hour since 1970, of the latest days."""

    def feedback(self, start: datetime, end: datetime) -> FeedbackOfTime:
        """What there is on [start, end), which begin at whole hours."""
        hours = range(math.floor(start.timestamp() / 3600), math.floor(end.timestamp() / 3600))
        found = [self.feedback_hours[hour] for hour in hours if hour in self.feedback_hours]
        return FeedbackOfTime(rows=sum(hour.rows for hour in found), clicks=sum(hour.clicks for hour in found))


def read_arrivals(sources: Sources, *, now: datetime, days: int) -> Arrivals:
    """Looks at both sources; the feedback of the latest `days` is counted by hour."""
    return Arrivals(
        first_prediction=_first(sources.predictions, by=ARRIVAL, now=now),
        latest_prediction=_latest(sources.predictions, by=ARRIVAL, now=now),
        latest_feedback=_latest(sources.feedback, by=schema.TIMESTAMP, now=now),
        feedback_hours=_by_hour(sources.feedback, start=now - timedelta(days=days), now=now),
    )


def _first(location: Location, *, by: str, now: datetime) -> datetime | None:
    days = day_files(location)
    return _extreme(days[min(days)], pc.min, by=by, now=now) if days else None


def _latest(location: Location, *, by: str, now: datetime) -> datetime | None:
    """The newest time that is not in the future."""
    newest = (_extreme(files, pc.max, by=by, now=now) for _, files in sorted(day_files(location).items(), reverse=True))
    return next((time for time in newest if time is not None), None)


def _extreme(
    files: Iterable[DataFile], extreme: Callable[[pa.Array], pa.Scalar], *, by: str, now: datetime
) -> datetime | None:
    """The least or the greatest time up to now in some files; None if there is none."""
    found = [extreme(batch[by]) for batch in _batches(files, [by], by=by, start=EPOCH, now=now) if batch.num_rows]
    return extreme(pa.array(found, schema.TIMESTAMP_TYPE)).as_py()


def _by_hour(location: Location, *, start: datetime, now: datetime) -> dict[int, FeedbackOfTime]:
    rows, clicks = Counter[int](), Counter[int]()
    days = day_files(location, start=start.date(), end=now.date() + timedelta(days=1))
    files = itertools.chain.from_iterable(days.values())
    for batch in _batches(files, [schema.TIMESTAMP, schema.CLICK], by=schema.TIMESTAMP, start=start, now=now):
        hours = batch[schema.TIMESTAMP].cast(pa.int64()).to_numpy() // US_PER_HOUR
        clicked = pc.fill_null(batch[schema.CLICK], 0).to_numpy()
        for counted, of_hours in ((rows, hours), (clicks, hours[clicked > 0])):
            counted.update(dict(zip(*(part.tolist() for part in np.unique(of_hours, return_counts=True)), strict=True)))
    return {hour: FeedbackOfTime(rows=rows[hour], clicks=clicks[hour]) for hour in rows}


def _batches(
    files: Iterable[DataFile], columns: list[str], *, by: str, start: datetime, now: datetime
) -> Iterator[pa.RecordBatch]:
    """Columns of the rows of [start, now]; a file that can't be read is named by its windows."""
    wanted = pa.schema([pa.field(name, TYPES[name]) for name in columns])
    first, last = (pa.scalar(moment, schema.TIMESTAMP_TYPE) for moment in (start, now))
    for file in files:
        with contextlib.suppress(pa.ArrowException, OSError):
            yield from file.batches(wanted, where=(ds.field(by) >= first) & (ds.field(by) <= last))
