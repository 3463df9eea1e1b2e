"""What has arrived: how far the log and the feedback reach, and how much feedback each hour has got.

Feedback comes when its writer likes: every few seconds, or once a night. The newest row says how far it reaches, its
watermark. Rows that are stamped in the future say nothing about that.
"""

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from feedrank import schema
from feedrank.monitoring.rows import Sources
from feedrank.tables import day_of, parquet_files

US_PER_HOUR = 3_600_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COLUMNS = pa.schema([pa.field(schema.TIMESTAMP, schema.TIMESTAMP_TYPE), pa.field(schema.CLICK, pa.int8())])
"""A log has no clicks; they are null."""


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
        first_prediction=_first(sources.predictions, now=now),
        latest_prediction=_latest(sources.predictions, now=now),
        latest_feedback=_latest(sources.feedback, now=now),
        feedback_hours=_by_hour(sources.feedback, start=now - timedelta(days=days), now=now),
    )


def _first(folder: Path, *, now: datetime) -> datetime | None:
    times = (pc.min(batch[schema.TIMESTAMP]).as_py() for batch in _batches(folder, _days(folder)[:1], now=now))
    return min((time for time in times if time is not None), default=None)


def _latest(folder: Path, *, now: datetime) -> datetime | None:
    """The newest time that is not in the future."""
    for day in reversed(_days(folder)):
        times = (pc.max(batch[schema.TIMESTAMP]).as_py() for batch in _batches(folder, [day], now=now))
        if (newest := max((time for time in times if time is not None), default=None)) is not None:
            return newest
    return None


def _days(folder: Path) -> list[date]:
    return sorted(day for entry in folder.glob(f"{schema.DATE}=*") if (day := day_of(entry.name)) is not None)


def _by_hour(folder: Path, *, start: datetime, now: datetime) -> dict[int, FeedbackOfTime]:
    rows, clicks = Counter[int](), Counter[int]()
    days = [start.date() + timedelta(days=offset) for offset in range((now - start).days + 2)]
    for batch in _batches(folder, days, start=start, now=now):
        hours = batch[schema.TIMESTAMP].cast(pa.int64()).to_numpy() // US_PER_HOUR
        clicked = pc.fill_null(batch[schema.CLICK], 0).to_numpy()
        for counted, of_hours in ((rows, hours), (clicks, hours[clicked > 0])):
            counted.update(dict(zip(*(part.tolist() for part in np.unique(of_hours, return_counts=True)), strict=True)))
    return {hour: FeedbackOfTime(rows=rows[hour], clicks=clicks[hour]) for hour in rows}


def _batches(folder: Path, days: Iterable[date], *, now: datetime, start: datetime = EPOCH) -> Iterator[pa.RecordBatch]:
    """Times and clicks of [start, now] in some days' files; files that can't be read are named by the windows."""
    times = ds.field(schema.TIMESTAMP)
    inside = (times >= pa.scalar(start, schema.TIMESTAMP_TYPE)) & (times <= pa.scalar(now, schema.TIMESTAMP_TYPE))
    for file in (file for day in days for file in parquet_files(folder / f"{schema.DATE}={day.isoformat()}")):
        with contextlib.suppress(pa.ArrowException, OSError):
            yield from ds.dataset(file, schema=COLUMNS, format="parquet").to_batches(filter=inside)
