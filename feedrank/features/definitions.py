"""The one definition of every feature.

A feature is computed from *aggregates* of earlier events (a count, a sum, a first or last time of one entity), as known
at the start of the event's UTC day, and from the event's own context. `AGGREGATES` declares the former,
`FEATURE_DEFINITIONS` the latter as plain functions over arrays. `fold.py` carries the aggregates from day to day; the
offline table (`offline.py`) and the snapshot (`snapshot.py`) read them there, and both call the same functions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedrank import schema
from feedrank.config.data import FeatureConfig

US_PER_HOUR = 3_600_000_000
US_PER_DAY = 24 * US_PER_HOUR
US_PER_SECOND = 1_000_000

Array = NDArray[Any]


class Entity(Enum):
    """What an aggregate is kept for."""

    ALL = "all"
    USER = "user"
    ITEM = "item"
    USER_ITEM = "user_item"


class Kind(Enum):
    """How earlier events are folded into one number; a SUM is over outcomes, all others over impressions."""

    COUNT = "count"
    SUM = "sum"
    DISTINCT_DAYS = "distinct_days"
    FIRST_TIME = "first_time"
    LAST_TIME = "last_time"
    DECAYED_COUNT = "decayed_count"
    """Sum of 2^(-age / half-life) over earlier impressions, as of the start of a day."""


NO_TIME = np.iinfo(np.int64).min
"""First and last time of an entity without an earlier event."""


@dataclass(frozen=True)
class Aggregate:
    """One number kept for each entity; `column` names what a SUM adds up of the clicks (int64: sums are exact)."""

    name: str
    entity: Entity
    kind: Kind
    column: str = ""


CLICKED_DWELL_US = "clicked_dwell_us"
"""Dwell of clicked events in whole microseconds: integer sums do not depend on the order of addition."""

IMPRESSIONS, CLICKS = (
    Aggregate("impressions", Entity.ALL, Kind.COUNT),
    Aggregate("clicks", Entity.ALL, Kind.SUM, schema.CLICK),
)
USER_IMPRESSIONS = Aggregate("user_impressions", Entity.USER, Kind.COUNT)
USER_CLICKS = Aggregate("user_clicks", Entity.USER, Kind.SUM, schema.CLICK)
USER_DWELL = Aggregate("user_clicked_dwell_us", Entity.USER, Kind.SUM, CLICKED_DWELL_US)
USER_DAYS = Aggregate("user_days", Entity.USER, Kind.DISTINCT_DAYS)
USER_LAST_TIME = Aggregate("user_last_time_us", Entity.USER, Kind.LAST_TIME)
ITEM_IMPRESSIONS = Aggregate("item_impressions", Entity.ITEM, Kind.COUNT)
ITEM_CLICKS = Aggregate("item_clicks", Entity.ITEM, Kind.SUM, schema.CLICK)
ITEM_DWELL = Aggregate("item_clicked_dwell_us", Entity.ITEM, Kind.SUM, CLICKED_DWELL_US)
ITEM_FIRST_TIME = Aggregate("item_first_time_us", Entity.ITEM, Kind.FIRST_TIME)
ITEM_DECAYED = Aggregate("item_decayed_impressions", Entity.ITEM, Kind.DECAYED_COUNT)
PAIR_IMPRESSIONS = Aggregate("user_item_impressions", Entity.USER_ITEM, Kind.COUNT)

AGGREGATES = (
    IMPRESSIONS, CLICKS,
    USER_IMPRESSIONS, USER_CLICKS, USER_DWELL, USER_DAYS, USER_LAST_TIME,
    ITEM_IMPRESSIONS, ITEM_CLICKS, ITEM_DWELL, ITEM_FIRST_TIME, ITEM_DECAYED,
    PAIR_IMPRESSIONS,
)  # fmt: skip


@dataclass(frozen=True)
class Context:
    """What is known of the events themselves; all arrays broadcast against each other."""

    times_us: NDArray[np.int64]
    devices: NDArray[np.int8]
    """Indices into `schema.DEVICES`."""
    as_of_us: NDArray[np.int64]
    """The start of a day, of which the aggregates are."""


State = Mapping[Aggregate, Array]
"""Each aggregate's value for the events."""


def global_ctr(state: State, config: FeatureConfig) -> Array:
    """Click-through rate of all earlier events, pulled to `initial_ctr` while they are few."""
    clicks = state[CLICKS] + config.initial_ctr * config.initial_ctr_weight
    return clicks / (state[IMPRESSIONS] + config.initial_ctr_weight)


def _smoothed(clicks: Array, impressions: Array, prior: Array, weight: float) -> Array:
    # The posterior mean of a beta-binomial with `weight` pseudo-impressions at the prior rate.
    return (clicks + prior * weight) / (impressions + weight)


def _mean_dwell_seconds(dwell_us: Array, clicks: Array) -> Array:
    return dwell_us / (np.maximum(clicks, 1) * float(US_PER_SECOND))


def decay(from_us: Array, to_us: Array, half_life_us: float) -> Array:
    """What is left of 1 between two times."""
    return np.exp2((from_us - to_us) / half_life_us)


def popularity_half_life_us(config: FeatureConfig) -> float:
    """In the unit of all times."""
    return config.popularity_half_life_days * US_PER_DAY


def _item_popularity(state: State, context: Context, config: FeatureConfig) -> Array:
    since = decay(context.as_of_us, context.times_us, popularity_half_life_us(config))
    return np.log1p(state[ITEM_DECAYED] * since)


def _item_age_days(state: State, context: Context, _: FeatureConfig) -> Array:
    first = state[ITEM_FIRST_TIME]
    return np.where(first == NO_TIME, 0, (context.times_us - np.where(first == NO_TIME, 0, first)) // US_PER_DAY)


def _recency_score(state: State, context: Context, config: FeatureConfig) -> Array:
    last = state[USER_LAST_TIME]
    hours = (context.times_us - np.where(last == NO_TIME, 0, last)) / float(US_PER_HOUR)
    return np.where(last == NO_TIME, 0.0, np.exp2(-hours / config.recency_half_life_hours))


def hour_of_day(times_us: Array) -> Array:
    """UTC hour, 0-23."""
    return times_us // US_PER_HOUR % 24


def day_of_week(times_us: Array) -> Array:
    """UTC weekday, Monday = 0; day 0 of the epoch was a Thursday."""
    return (times_us // US_PER_DAY + 3) % 7


def _device_is(index: int) -> "Definition":
    return lambda _state, context, _config: context.devices == index


Definition = Callable[[State, Context, FeatureConfig], Array]

FEATURE_DEFINITIONS: dict[str, Definition] = {
    schema.USER_HISTORICAL_CTR: (
        lambda s, _, c: _smoothed(s[USER_CLICKS], s[USER_IMPRESSIONS], global_ctr(s, c), c.user_ctr_prior_weight)
    ),
    schema.USER_AVG_DWELL_TIME: lambda s, _, c: _mean_dwell_seconds(s[USER_DWELL], s[USER_CLICKS]),
    schema.USER_INTERACTION_COUNT: lambda s, _, c: s[USER_IMPRESSIONS],
    schema.USER_DAYS_ACTIVE: lambda s, _, c: s[USER_DAYS],
    schema.ITEM_POPULARITY: _item_popularity,
    schema.ITEM_CTR: (
        lambda s, _, c: _smoothed(s[ITEM_CLICKS], s[ITEM_IMPRESSIONS], global_ctr(s, c), c.item_ctr_prior_weight)
    ),
    schema.ITEM_AVG_DWELL_TIME: lambda s, _, c: _mean_dwell_seconds(s[ITEM_DWELL], s[ITEM_CLICKS]),
    schema.ITEM_AGE_DAYS: _item_age_days,
    schema.HOUR_OF_DAY: lambda _, x, c: hour_of_day(x.times_us),
    schema.DAY_OF_WEEK: lambda _, x, c: day_of_week(x.times_us),
    schema.DEVICE_MOBILE: _device_is(0),
    schema.DEVICE_DESKTOP: _device_is(1),
    schema.DEVICE_TABLET: _device_is(2),
    schema.USER_ITEM_PREVIOUS_INTERACTIONS: lambda s, _, c: s[PAIR_IMPRESSIONS],
    schema.RECENCY_SCORE: _recency_score,
}

ITEM_STATE_FEATURES = (schema.ITEM_CTR, schema.ITEM_AVG_DWELL_TIME)
"""Item features that change only with events, not with the clock: item vectors may be computed once from them."""
