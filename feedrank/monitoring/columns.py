"""What is compared: a feature of the reference beside that of a window, and what the growth of the history does to it.

Features of the calendar are compared at the hours of the week that both samples have, each from as many weeks of the
reference: else a lost day, or a reference of ten days, would be a drift of the hours. Features summarise a history that
gets longer: a cumulative one may stay as it is (users and items come and go) or grow in proportion (nobody does), a
click rate may move by as much when the clicks double or halve.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feedrank.features.forms import Clock, Form
from feedrank.monitoring.engines import Values
from feedrank.monitoring.reference import Reference
from feedrank.tables import US_PER_DAY, timestamps_us

US_PER_HOUR = US_PER_DAY // 24
HOURS_PER_WEEK = 168
QUIET_HOURS = 3
"""So many hours without a row are night, more are an outage."""


@dataclass(frozen=True)
class Sample:
    """One feature of a sample of rows."""

    values: Values
    """Finite values only."""
    times_us: NDArray[np.int64]
    rows: int
    """Missing ones included."""

    @property
    def missing_share(self) -> float:
        """Share of rows without a finite value."""
        return missing_share(len(self.values), self.rows)


@dataclass(frozen=True)
class Column:
    """One column in both samples."""

    name: str
    form: Form
    reference: Sample
    window: Sample
    natural: tuple[Values, Values] | None = None
    """The reference's values at the two ends of what the growth of the history does to them."""
    growth: float = 1.0
    """Length of the history behind the window over that behind the reference."""


def feature_columns(window: pa.Table, *, reference: Reference, features: Collection[str] | None = None) -> list[Column]:
    """Features, all or some, as they are compared."""
    start_us = reference.info.history_start.timestamp() * 1e6
    everything, same_hours = (reference.features, window), _same_hours(reference.features, window)
    return [
        _column(name, form, *(same_hours if isinstance(form, Clock) else everything), start_us=start_us)
        for name, form in reference.info.feed.features.items()
        if features is None or name in features
    ]


def _column(name: str, form: Form, rows: pa.Table, window: pa.Table, *, start_us: float) -> Column:
    before, now = _sample(rows, name), _sample(window, name)
    lengths = [np.mean(sample.times_us) - start_us if len(sample.times_us) else 0.0 for sample in (before, now)]
    growth = max(lengths[1] / lengths[0], 1.0) if min(lengths) > 0 else 1.0
    return Column(
        name=name,
        form=form,
        reference=before,
        window=now,
        natural=_natural(form, before, now, start_us=start_us),
        growth=float(growth),
    )


def _natural(form: Form, before: Sample, now: Sample, *, start_us: float) -> tuple[Values, Values] | None:
    if not len(before.values) or not len(now.values):
        return None
    # Each row by its own growth, as the reference may be days long.
    growth = np.maximum((now.times_us.mean() - start_us) / np.maximum(before.times_us - start_us, US_PER_DAY), 1.0)
    if form.growth == "age" and form.cumulative:
        days = np.ceil((now.times_us.max() - before.times_us) / US_PER_DAY)  # ages are whole days
        return before.values, before.values + np.maximum(days, 0)
    if form.cumulative:
        # A count c grows at a rate of about (c + 1) / length.
        return before.values, (before.values + 1) * growth - 1
    if form.growth == "rate":  # a ranker with twice the clicks moves it by its growth
        return before.values / growth, before.values * growth
    return None


def _sample(rows: pa.Table, feature: str) -> Sample:
    """The finite values of a feature."""
    raw = pc.cast(rows[feature], pa.float64()).to_numpy()
    finite = np.isfinite(raw)
    return Sample(values=raw[finite], times_us=timestamps_us(rows)[finite], rows=len(raw))


def _same_hours(rows: pa.Table, window: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows of both at hours of the week that both have; of the reference from the latest weeks, as many each."""
    hours, window_hours = (timestamps_us(table) // US_PER_HOUR for table in (rows, window))
    known, served = _active_hours(hours), _active_hours(window_hours)
    common = np.intersect1d(known % HOURS_PER_WEEK, served % HOURS_PER_WEEK)
    known = known[np.isin(known % HOURS_PER_WEEK, common)][::-1]
    of_week = pd.Series(known % HOURS_PER_WEEK)
    latest = known[(of_week.groupby(of_week).cumcount() < of_week.value_counts().min()).to_numpy()]
    inside = np.isin(window_hours % HOURS_PER_WEEK, common)
    return rows.filter(pa.array(np.isin(hours, latest))), window.filter(pa.array(inside))


def _active_hours(hours: NDArray[np.int64]) -> NDArray[np.int64]:
    """The hours (since 1970) with rows and the quiet ones between them, in order; a longer gap is no activity."""
    present = np.unique(hours)
    if not len(present):
        return present
    span = np.arange(present[0], present[-1] + 1)
    before = present[np.searchsorted(present, span, side="right") - 1]
    after = present[np.searchsorted(present, span)]
    return span[after - before <= QUIET_HOURS + 1]


def missing_share(present: int, rows: int) -> float:
    """Of all rows."""
    return 1 - present / rows if rows else 0.0
