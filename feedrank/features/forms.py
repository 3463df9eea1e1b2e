"""The forms of features: all that the system knows of a feature follows from its form.

A form says which aggregates of earlier events it is computed from (`aggregates.py`), how, what the network gets of it,
and what monitoring may expect of it. To add one, write its class here with a test in tests/features/test_forms.py:
offline table, snapshot, request path, training and monitoring ask the form.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from feedrank import schema
from feedrank.features.aggregates import (
    CLICK,
    DWELL,
    IMPRESSION,
    US_PER_DAY,
    US_PER_HOUR,
    US_PER_SECOND,
    Aggregate,
    Array,
    Context,
    Entity,
    Floats,
    Kind,
    decay,
)

HARMONICS = 2
MIN_RATE = 1e-4


class Form(BaseModel):
    """One feature."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    categorical: ClassVar[bool] = False
    """Its values have no order."""
    growth: ClassVar[Literal["none", "count", "age", "rate"]] = "none"
    """What a longer history does to it."""

    @property
    def type(self) -> pa.DataType:
        """Of its column."""
        return pa.float32()

    @property
    def entity(self) -> Entity:
        """What it differs by, beside the context."""
        return Entity.ALL

    @property
    def clocked(self) -> bool:
        """Whether it changes with the time alone."""
        return False

    @property
    def ranked(self) -> bool:
        """Whether another ranker changes it: what is shown, and what comes of it; not who comes when."""
        return self.entity in (Entity.ITEM, Entity.USER_ITEM) or any(a.of != IMPRESSION for a in self.aggregates)

    @property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """What it is computed from."""
        return ()

    @property
    def width(self) -> int:
        """Number of its network inputs."""
        return 1

    def value(self, context: Context, *known: Array) -> Array:
        """The feature from the context and its aggregates' values."""
        raise NotImplementedError

    def of(self, context: Context, state: Mapping[Aggregate, Array]) -> Array:
        """The feature from the context and the values of all aggregates."""
        return self.value(context, *(state[aggregate] for aggregate in self.aggregates))

    def inputs(self, values: Floats) -> Floats:
        """Values [rows] as network inputs: [rows], or [rows, width] if that is above 1."""
        return values


class OfHistory(Form):
    """A form over the earlier events of a user, an item, or both together."""

    per: Entity

    @property
    def entity(self) -> Entity:
        """By `per`."""
        return self.per


class Amount(OfHistory):
    """A form without an upper bound."""

    def inputs(self, values: Floats) -> Floats:
        """The logarithm."""
        return np.log1p(values)


class Whole(Amount):
    """An amount in whole numbers: its one aggregate."""

    @property
    def type(self) -> pa.DataType:
        """Whole numbers."""
        return pa.int32()

    def value(self, context: Context, *known: Array) -> Array:
        """The aggregate."""
        return known[0]


class Count(Whole):
    """How often something happened."""

    count: Literal["impression"]

    growth = "count"

    @cached_property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """The count."""
        return (Aggregate(self.entity, Kind.COUNT),)


class Popularity(OfHistory):
    """log(1 + c), where an event counts for half after each half-life."""

    popularity: Literal["impression"]
    half_life_us: float

    @property
    def clocked(self) -> bool:
        """It falls."""
        return True

    @cached_property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """The decayed count."""
        return (Aggregate(self.entity, Kind.DECAYED, IMPRESSION, self.half_life_us),)

    def value(self, context: Context, *known: Array) -> Array:
        """The logarithm of the count as of the time."""
        return np.log1p(known[0] * decay(context.as_of_us, context.times_us, self.half_life_us))


class Rate(OfHistory):
    """Clicks over impressions, pulled to the rate of all events while they are few.

    The posterior mean of a beta-binomial with `prior_weight` pseudo-impressions at the rate of all, which itself is
    pulled to `initial_rate` by `initial_weight` impressions.
    """

    rate: Literal["click"]
    prior_weight: float
    initial_rate: float
    initial_weight: float

    growth = "rate"

    @cached_property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """Clicks and impressions, its own and all."""
        return tuple(
            Aggregate(entity, Kind.COUNT, of) for entity in (self.entity, Entity.ALL) for of in (CLICK, IMPRESSION)
        )

    def value(self, context: Context, *known: Array) -> Array:
        """The smoothed rate."""
        clicks, impressions, all_clicks, all_impressions = known
        prior = (all_clicks + self.initial_rate * self.initial_weight) / (all_impressions + self.initial_weight)
        return (clicks + prior * self.prior_weight) / (impressions + self.prior_weight)

    def inputs(self, values: Floats) -> Floats:
        """Its logit."""
        rate = np.clip(values, MIN_RATE, 1 - MIN_RATE)
        return np.log(rate) - np.log1p(-rate)


class Mean(Amount):
    """Seconds that a click lasts on average."""

    mean: Literal["dwell"]

    @cached_property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """Their sum, and the clicks."""
        return Aggregate(self.entity, Kind.SUM, DWELL), Aggregate(self.entity, Kind.COUNT, CLICK)

    def value(self, context: Context, *known: Array) -> Array:
        """0 without a click."""
        dwell_us, clicks = known
        return dwell_us / (np.maximum(clicks, 1) * float(US_PER_SECOND))


class Days(Whole):
    """On how many UTC days something happened."""

    days: Literal["impression"]

    growth = "count"

    @cached_property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """The days."""
        return (Aggregate(self.entity, Kind.DAYS),)


class Age(Whole):
    """Whole days since something happened for the first time; 0 if it has not yet."""

    age: Literal["impression"]

    growth = "age"

    @property
    def clocked(self) -> bool:
        """It grows."""
        return True

    @cached_property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """The first time."""
        return (Aggregate(self.entity, Kind.FIRST),)

    def value(self, context: Context, *known: Array) -> Array:
        """In days."""
        return np.maximum(np.floor((context.times_us - known[0]) / float(US_PER_DAY)), 0.0)


class Since(OfHistory):
    """1 when something has just happened, and half of that after each half-life; 0 if it never has."""

    since: Literal["impression"]
    half_life_us: float

    @property
    def clocked(self) -> bool:
        """It falls."""
        return True

    @cached_property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """The last time."""
        return (Aggregate(self.entity, Kind.LAST),)

    def value(self, context: Context, *known: Array) -> Array:
        """From 0 to 1."""
        return decay(known[0], context.times_us, self.half_life_us)


class Clock(Form):
    """The UTC hour, 0-23, or weekday, Monday = 0."""

    clock: Literal["hour", "weekday"]

    categorical = True

    @property
    def type(self) -> pa.DataType:
        """Small numbers."""
        return pa.int8()

    @property
    def cycle(self) -> int:
        """Number of its values."""
        return {"hour": 24, "weekday": 7}[self.clock]

    @property
    def clocked(self) -> bool:
        """It is the time."""
        return True

    @property
    def width(self) -> int:
        """Sines and cosines."""
        return 2 * HARMONICS

    def value(self, context: Context, *known: Array) -> Array:
        """Day 0 of the epoch was a Thursday."""
        if self.clock == "hour":
            return context.times_us // US_PER_HOUR % 24
        return (context.times_us // US_PER_DAY + 3) % 7

    def inputs(self, values: Floats) -> Floats:
        """The first harmonics of the cycle."""
        angles = values[:, None] * (2 * np.pi / self.cycle) * np.arange(1, HARMONICS + 1)
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


class Equals(Form):
    """Whether the request's context has a value: 1 or 0."""

    context: Literal["device"]
    equals: Literal["mobile", "desktop", "tablet"]

    categorical = True

    @property
    def type(self) -> pa.DataType:
        """Flags."""
        return pa.int8()

    @cached_property
    def index(self) -> int:
        """Of the value among those of the context."""
        return schema.DEVICES.index(self.equals)

    def value(self, context: Context, *known: Array) -> Array:
        """A flag."""
        return context.devices == self.index


def aggregates_of(forms: Iterable[Form]) -> tuple[Aggregate, ...]:
    """What all of them need, each once."""
    return tuple(dict.fromkeys(aggregate for form in forms for aggregate in form.aggregates))
