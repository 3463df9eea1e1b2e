"""Figures of each day: volume, rates, mixes and how the ids are spread."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feedrank import schema
from feedrank.config.validation import HistoryConfig, Tolerance
from feedrank.data import calendar
from feedrank.data.validation.batch import Batch, Bools, Floats, Ints
from feedrank.tables import US_PER_DAY

Numbers = Floats | Ints | npt.NDArray[np.int8]

SHORTEST_DWELL_SECONDS = 0.01
"""Shorter ones, and none at all, count as this in a geometric mean."""


@dataclass(frozen=True)
class DailyFigure:
    """One figure of every day from the first to the last, [days].

    `scaled` is a growing function of `value` whose standard deviation would be `noise` if the day's rows were
    independent: sin^-1(sqrt(p)) for a share, 2 sqrt(n) for a count (Anscombe, "The transformation of Poisson,
    binomial and negative-binomial data", Biometrika 1948), the logarithm for a length of time. Both are NaN where
    the day has too few rows.
    """

    name: str
    value: Floats
    scaled: Floats
    noise: Floats
    tolerance: Tolerance
    only_upwards: bool = False
    whole_day: bool = False
    """It makes no sense for a day that isn't over."""
    of_few: bool = False
    """It also tells of a day with too few rows, where such days have enough: it was lost but for a few."""


@dataclass(frozen=True)
class Days:
    """The rows of a batch counted by day, from the first to the last day without gaps."""

    first: int
    place: Ints
    """Day of each row as a place in the arrays per day, [rows]."""
    rows: Ints
    """[days]"""

    @property
    def count(self) -> int:
        """Number of days."""
        return len(self.rows)

    def label(self, place: int) -> str:
        """The day as YYYY-MM-DD."""
        return str(np.datetime64("1970-01-01") + self.first + place)

    def sum(self, values: Numbers, where: Bools | None = None) -> Floats:
        """Sums of the rows' values, [days]."""
        place = self.place if where is None else self.place[where]
        values = values if where is None else values[where]
        return np.bincount(place, weights=values, minlength=self.count).astype(np.float64)


@dataclass(frozen=True)
class IdCounts:
    """How the rows of each day spread over ids, [days]."""

    distinct: Floats
    largest: Floats
    """Rows of the most frequent id."""
    effective: Floats
    """Kish's effective number of ids, (sum of rows)^2 / sum of (rows of an id)^2."""
    new: Floats
    """Rows of ids that no earlier day has."""


def count_days(batch: Batch) -> Days:
    """Counts the rows of a batch that has at least one."""
    first = int(batch.days.min())
    place = batch.days - first
    return Days(first=first, place=place, rows=np.bincount(place).astype(np.int64))


def daily_figures(batch: Batch, days: Days, config: HistoryConfig) -> list[DailyFigure]:
    """Every figure that a day is judged by, but the profile of its hours."""
    clicks, least = days.sum(batch.clicks), config.min_day_rows
    users, items = _id_counts(batch.users, days), _id_counts(batch.items, days)
    user_limits = (config.users_per_row, config.top_user_share, config.new_user_share)
    item_limits = (config.items_per_row, config.top_item_share, config.new_item_share)
    return [
        _volume(days, config),
        _share("click_rate", clicks, days.rows, config.click_rate, least),
        *_engagement(batch, days, clicks, config),
        *_devices(batch, days, users, config),
        *_spread("user", users, days, user_limits, least),
        *_spread("item", items, days, item_limits, least),
        _moments(batch, days, config),
    ]


def _volume(days: Days, config: HistoryConfig) -> DailyFigure:
    value = np.where(days.rows > 0, days.rows, np.nan)
    return DailyFigure("rows", value, 2 * np.sqrt(value), np.ones(days.count), config.rows, whole_day=True, of_few=True)


def _share(
    name: str,
    part: Floats,
    whole: Numbers,
    tolerance: Tolerance,
    least: int,
    *,
    independent: Floats | None = None,
    only_upwards: bool = False,
) -> DailyFigure:
    """The share `part` / `whole`, on days whose `whole` is `least` or more.

    `independent` is how many rows count as independent, [days]; all of `whole` if unset.
    """
    value = np.where(whole >= max(least, 1), part / np.maximum(whole, 1), np.nan)
    scaled = np.arcsin(np.sqrt(np.clip(value, 0, 1)))
    noise = 0.5 / np.sqrt(np.maximum(whole if independent is None else independent, 1))
    return DailyFigure(name, value, scaled, noise, tolerance, only_upwards=only_upwards)


def _engagement(batch: Batch, days: Days, clicks: Floats, config: HistoryConfig) -> list[DailyFigure]:
    clicked = batch.clicks == 1
    repeats = _largest_count(days.place[clicked], (batch.dwell[clicked] * 1_000).astype(np.int64), days.count)
    least = config.min_day_clicks
    return [
        _share("like_rate", days.sum(batch.ints(schema.LIKE)), clicks, config.like_rate, least),
        _share("share_rate", days.sum(batch.ints(schema.SHARE)), clicks, config.share_rate, least),
        _typical_dwell(batch, days, clicks, config),
        _share("repeated_dwell", repeats, clicks, config.repeated_dwell, least, only_upwards=True),
    ]


def _typical_dwell(batch: Batch, days: Days, clicks: Floats, config: HistoryConfig) -> DailyFigure:
    """Geometric mean of the dwell on clicks; the noise comes from a typical day's variance, so bad days don't hide."""
    logs = np.log(np.maximum(batch.dwell, SHORTEST_DWELL_SECONDS))
    enough, clicked, count = clicks >= config.min_day_clicks, batch.clicks == 1, np.maximum(clicks, 1)
    mean = np.where(enough, days.sum(logs, clicked) / count, np.nan)
    variances = days.sum(logs**2, clicked)[enough] / count[enough] - mean[enough] ** 2
    spread = float(np.sqrt(np.maximum(np.median(variances), 0))) if enough.any() else 0.0
    return DailyFigure("typical_dwell", np.exp(mean), mean, spread / np.sqrt(count), config.typical_dwell)


def _devices(batch: Batch, days: Days, users: IdCounts, config: HistoryConfig) -> list[DailyFigure]:
    """A device goes with the user, so the rows of one user count together."""
    return [
        _share(
            f"{device}_share",
            days.sum((batch.devices == code).astype(np.int8)),
            days.rows,
            config.device_share,
            config.min_day_rows,
            independent=users.effective,
        )
        for code, device in enumerate(schema.DEVICES)
    ]


def _id_counts(ids: Ints, days: Days) -> IdCounts:
    _, first_rows, codes = np.unique(ids, return_index=True, return_inverse=True)
    owners, lengths = _group_lengths(days.place, codes)
    squares = np.bincount(owners, weights=lengths.astype(np.float64) ** 2, minlength=days.count)
    return IdCounts(
        distinct=np.bincount(owners, minlength=days.count).astype(np.float64),
        largest=_maxima(owners, lengths, days.count),
        effective=days.rows**2 / np.maximum(squares, 1),
        new=days.sum((days.place[first_rows[codes]] == days.place).astype(np.int8)),
    )


def _group_lengths(place: Ints, codes: Ints) -> tuple[Ints, Ints]:
    """Day and number of rows of each pair of day and code; codes are at least 0."""
    width = int(codes.max(initial=0)) + 1
    pairs, lengths = np.unique(place * width + codes, return_counts=True)
    return pairs // width, lengths


def _maxima(owners: Ints, lengths: Ints, count: int) -> Floats:
    largest = np.zeros(count)
    np.maximum.at(largest, owners, lengths)
    return largest


def _largest_count(place: Ints, values: Ints, count: int) -> Floats:
    """How often each day's most frequent value occurs, [days]; `values` are at least 0."""
    return _maxima(*_group_lengths(place, values), count)


def _spread(kind: str, ids: IdCounts, days: Days, tolerances: Sequence[Tolerance], least: int) -> list[DailyFigure]:
    """All rows of an id are new together; a typical day says how many of them count, so that bad days don't hide."""
    per_row, top, new = tolerances
    independent = days.rows * np.median((ids.effective / np.maximum(days.rows, 1))[days.rows > 0])
    return [
        _share(f"{kind}s_per_row", ids.distinct, days.rows, per_row, least),
        _share(f"top_{kind}_share", ids.largest, days.rows, top, least, only_upwards=True),
        _share(f"new_{kind}_share", ids.new, days.rows, new, least, independent=independent, only_upwards=True),
    ]


def _moments(batch: Batch, days: Days, config: HistoryConfig) -> DailyFigure:
    """The share of the most frequent timestamp, to the microsecond."""
    repeats = _largest_count(days.place, batch.times % US_PER_DAY, days.count)
    tolerance, least = config.top_timestamp_share, config.min_day_rows
    return _share("top_timestamp_share", repeats, days.rows, tolerance, least, only_upwards=True)


def hour_shares(batch: Batch, days: Days) -> Floats:
    """Share of each day's rows in each UTC hour, [days, 24]; NaN on a day without rows."""
    keys = days.place * 24 + calendar.hours(batch.times)
    counts = np.bincount(keys, minlength=days.count * 24).reshape(days.count, 24).astype(np.float64)
    return counts / np.where(days.rows > 0, days.rows, np.nan)[:, None]
