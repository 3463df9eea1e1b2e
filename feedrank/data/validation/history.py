"""Each day against the days before it.

A day stands out when it differs from the median of the week before it, from that of the longer window, and from that
of the same weekdays in it (so neither growth nor weekends alarm), each time by more than a tolerance that matters and
by more than the noise. The noise is that of independent rows, times a factor for the day-to-day variation that the
table itself shows: the control chart for overdispersed proportions of Laney (2002), "Improved control charts for
attributes", Quality Engineering 14(4), here with medians, so that a few bad days don't hide others. Two days in a row
on the same side need half the distance from the noise each (a run rule, as in the Western Electric Handbook, 1956).

A day that stands out is held if it is judged now, and is not what was accepted. It is a warning if it is older than
every accepted day, as all days of a first import are. A day like one that a person accepted doesn't stand out.
"""

import warnings
from collections.abc import Set
from dataclasses import dataclass

import numpy as np
import pandas as pd

from feedrank.config.validation import HistoryConfig, Tolerance
from feedrank.data import calendar
from feedrank.data.validation.batch import Batch, Bools, Floats, Ints
from feedrank.data.validation.daily import DailyFigure, Days, count_days, daily_figures, hour_shares
from feedrank.data.validation.record import DayRecord

MAD_TO_SD = 1.4826
"""Median absolute deviation to standard deviation, normal distribution."""
WEEK = 7
MISSING_DAYS = "missing_days"


@dataclass(frozen=True)
class Standing:
    """What was decided about each day before, [days]."""

    judged: Bools
    """Judged now: it is new, its rows changed, or it wasn't over."""
    past: Bools
    """Older than every accepted day, as all days of a first import are: it is over, and may stand out."""
    unchanged: Bools
    """Still near what was accepted."""

    @property
    def told(self) -> Bools:
        """Days of which it is told that they stand out."""
        return self.judged & ~self.unchanged


@dataclass(frozen=True)
class Comparison:
    """One figure of each day against its expectation, [days]; `excess` above 1 stands out, NaN isn't judged."""

    name: str
    value: Floats
    expected: Floats
    excess: Floats
    standing: Standing

    @property
    def judged(self) -> bool:
        """Whether any day could be judged."""
        return bool(np.isfinite(self.excess).any())


@dataclass(frozen=True)
class History:
    """The days of a batch and all comparisons."""

    days: Days
    today: int
    """Place of the day that isn't over, perhaps behind the last."""
    comparisons: tuple[Comparison, ...]

    @property
    def figures(self) -> pd.DataFrame:
        """Index: days since 1970-01-01; one column a figure."""
        frame = pd.DataFrame({c.name: c.value for c in self.comparisons})
        frame.index = pd.RangeIndex(self.days.first, self.days.first + self.days.count)
        return frame


@dataclass(frozen=True)
class _Known:
    """What compares a batch's days with: the record, and the days to judge."""

    record: DayRecord
    days: range
    judged: Bools
    present: Bools
    by_hand: Bools

    def standing(self, name: str, value: Floats, tolerance: Tolerance) -> Standing:
        first = self.record.first_accepted
        past = np.ones(len(self.days), dtype=bool) if first is None else np.asarray(self.days) < first
        unchanged = _tolerance_excess(value, self.record.figure(name, self.days), tolerance) <= 1
        return Standing(self.judged, past, unchanged)


def compare_days(
    batch: Batch, config: HistoryConfig, *, record: DayRecord, settled: Set[int], present: Set[int]
) -> History:
    """Compares every day of a batch that has rows with the days before it.

    Args:
        batch: good rows.
        config: tolerances.
        record: of the days that were judged before; without accepted ones it is a first import.
        settled: days that are not judged now; every other day from the first to the last is.
        present: days that have rows, good or bad.
    """
    days = count_days(batch)
    today = int(batch.limits.now_us // (calendar.US_PER_HOUR * 24) - days.first)
    span = range(days.first, days.first + days.count)
    known = _Known(record, span, ~_among(span, settled), _among(span, present), record.by_hand(span))
    figures = [*daily_figures(batch, days, config), _hour_figure(batch, days, config)]
    comparisons = (
        *(_compare(figure, days, today=today, known=known, config=config) for figure in figures),
        _missing_days(days, today=today, known=known, config=config),
    )
    return History(days, today, comparisons)


def _among(span: range, days: Set[int]) -> Bools:
    return np.array([day in days for day in span], dtype=bool)


def _lagged(values: Floats, lags: Ints) -> Floats:
    """The values `lags` days earlier, [days, lags, ...]; NaN before the first."""
    places = np.arange(len(values))[:, None] - lags[None, :]
    out = values[np.maximum(places, 0)]
    out[places < 0] = np.nan
    return out


def _median(values: Floats, *, axis: int = 1) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmedian(values, axis=axis)


def _lag_groups(config: HistoryConfig) -> list[Ints]:
    lags = np.arange(1, config.window_days + 1)
    return [lags[:WEEK], lags, lags[lags % WEEK == 0]]


def _judged(values: Floats, config: HistoryConfig) -> Bools:
    """Days that have a value, and enough such days before them, [days]."""
    return _enough_before(values, config) & np.isfinite(values)


def _enough_before(values: Floats, config: HistoryConfig) -> Bools:
    before = np.isfinite(_lagged(values, np.arange(1, config.window_days + 1))).sum(axis=1)
    return np.asarray(before >= config.min_days)


def _usual_rows(days: Days, config: HistoryConfig) -> Floats:
    """What a day has at least, by the days before it or the same weekdays among them, [days]."""
    rows = days.rows.astype(np.float64)
    return np.asarray(np.fmin.reduce([_median(_lagged(rows, lags)) for lags in _lag_groups(config)]))


def _accepted_by_hand(values: Floats, by_hand: Bools, config: HistoryConfig) -> Floats:
    """The value of the last day before each that a person accepted, [days]; NaN if none is within the window."""
    places = np.arange(len(values))
    last = np.maximum.accumulate(np.where(by_hand & np.isfinite(values), places, -1))
    last = np.concatenate([[-1], last[:-1]])
    return np.where((last >= 0) & (places - last <= config.window_days), values[np.maximum(last, 0)], np.nan)


def _compare(figure: DailyFigure, days: Days, *, today: int, known: _Known, config: HistoryConfig) -> Comparison:
    full = days.rows >= (config.min_day_rows if figure.whole_day else 0)
    scaled, value = (np.where(full, column, np.nan) for column in (figure.scaled, figure.value))
    lags = _lag_groups(config)
    usual = [*(_median(_lagged(scaled, group)) for group in lags), _accepted_by_hand(scaled, known.by_hand, config)]
    differences = figure.scaled - np.stack(usual)
    nearest = np.argmin(np.where(np.isfinite(differences), np.abs(differences), np.inf), axis=0)
    places = np.arange(days.count)
    difference = differences[nearest, places]
    typical = [*(_median(_lagged(value, group)) for group in lags), _accepted_by_hand(value, known.by_hand, config)]
    expected = np.stack(typical)[nearest, places]
    if figure.only_upwards:
        difference = np.maximum(difference, 0)
    judged = _judged(scaled, config) & np.isfinite(difference)
    if figure.of_few:
        judged |= (
            _enough_before(scaled, config)
            & np.isfinite(difference)
            & (_usual_rows(days, config) >= config.min_day_rows)
        )
    if figure.whole_day:
        judged &= places < today
    excess = np.fmin(
        _noise_excess(np.where(judged, difference, 0.0), figure.noise, judged, config),
        _tolerance_excess(figure.value, expected, figure.tolerance),
    )
    standing = known.standing(figure.name, figure.value, figure.tolerance)
    return Comparison(figure.name, figure.value, expected, np.where(judged, excess, np.nan), standing)


def _noise_excess(difference: Floats, noise: Floats, judged: Bools, config: HistoryConfig) -> Floats:
    """Distance from the expectation over what noise explains; above 1 it doesn't."""
    ratio = np.divide(difference, noise, out=np.copysign(np.inf, difference), where=noise > 0)
    ratio[difference == 0] = 0.0
    ratio /= config.noise_limit * _overdispersion(ratio[judged])
    before = np.concatenate([[0.0], ratio[:-1]])
    lasting = np.where(np.sign(ratio) == np.sign(before), 2 * np.fmin(np.abs(ratio), np.abs(before)), 0.0)
    return np.fmax(np.abs(ratio), lasting)


def _overdispersion(ratio: Floats) -> float:
    """How much more the days vary than independent rows would let them; widened where few days tell it."""
    if not len(ratio):
        return 1.0
    spread = MAD_TO_SD * float(np.median(np.abs(ratio)))
    return max(1.0, spread if np.isfinite(spread) else 1.0) * (1 + 2 / np.sqrt(len(ratio)))


def _tolerance_excess(value: Floats, expected: Floats, tolerance: Tolerance) -> Floats:
    """Distance from the expectation over what is tolerated anyway; above 1 it matters."""
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.abs(np.log(value / expected)) / np.log(tolerance.factor)
        distance = np.abs(value - expected) / tolerance.absolute
    return np.where(value == expected, 0.0, np.fmin(steps, distance))


def _hour_figure(batch: Batch, days: Days, config: HistoryConfig) -> DailyFigure:
    """Total variation distance between the day's hours and those of the days before it; the nearest counts."""
    full = np.where((days.rows >= config.min_day_rows)[:, None], hour_shares(batch, days), np.nan)
    distances = []
    for lags in _lag_groups(config):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            profile = np.nanmean(_lagged(full, lags), axis=1)
        distances.append(np.abs(full - profile).sum(axis=1) / 2)
    value = np.fmin.reduce(distances)
    noise = 1 / np.sqrt(np.maximum(days.rows, 1))
    return DailyFigure("hour_profile", value, value, noise, config.hour_profile, only_upwards=True, whole_day=True)


def _missing_days(days: Days, *, today: int, known: _Known, config: HistoryConfig) -> Comparison:
    """A day without rows where the days before it, and the same weekdays among them, have enough."""
    rows = days.rows.astype(np.float64)
    expected = _usual_rows(days, config)
    history = np.arange(days.count) >= config.min_days
    judged = history & (expected >= config.min_day_rows) & (np.arange(days.count) < today)
    excess = np.where(known.present, 0.0, 2.0)
    standing = known.standing(MISSING_DAYS, rows, Tolerance())
    return Comparison(MISSING_DAYS, rows, expected, np.where(judged, excess, np.nan), standing)
