"""The forms of features: all that the system knows of a feature follows from its form.

A form says which aggregates of earlier events it is computed from (`aggregates.py`), how, what the network gets of it,
and what monitoring may expect of it. To add one, write its class here, name it in `FORMS`, and test it:
offline table, snapshot, request path, training and monitoring ask the form. tests/feeds.py has a strategy of each.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

from feedrank import schema
from feedrank.features.aggregates import (
    CLICK,
    DWELL,
    IMPRESSION,
    US_PER_DAY,
    US_PER_HOUR,
    US_PER_MINUTE,
    US_PER_SECOND,
    Aggregate,
    Array,
    Context,
    Entity,
    Floats,
    Kind,
    decay,
    microseconds,
)

HARMONICS = 2
MIN_RATE = 1e-4


def _distinct(per: tuple[str, ...]) -> tuple[str, ...]:
    if not per or len(set(per)) < len(per):
        raise ValueError("expected user, item or both")
    return per


def _some_time(half_life: str) -> str:
    if microseconds(half_life) < US_PER_MINUTE:
        raise ValueError("expected at least a minute")
    return half_life


Growth = Literal["none", "count", "age", "rate"]
Outcome = Literal["click", "like", "share"]
Happening = Literal["impression", "click", "like", "share"]
HalfLife = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)?(m|h|d)$"), AfterValidator(_some_time)]
"""Such as 90m, 24h or 14d."""


class Form(BaseModel):
    """One feature."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    categorical: ClassVar[bool] = False
    """Its values have no order."""

    @property
    def type(self) -> pa.DataType:
        """Of its column."""
        return pa.float32()

    @property
    def growth(self) -> Growth:
        """What a longer history does to it."""
        return "none"

    @property
    def entity(self) -> Entity:
        """What it differs by, beside the context."""
        return Entity.ALL

    @property
    def clocked(self) -> bool:
        """Whether it changes with the time alone."""
        return False

    @property
    def cumulative(self) -> bool:
        """Whether it grows with the history of its user or item; pairs come and go."""
        return self.growth in ("count", "age") and self.entity is not Entity.USER_ITEM

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

    per: Annotated[tuple[Literal["user", "item"], ...], AfterValidator(_distinct)]

    @property
    def entity(self) -> Entity:
        """By `per`."""
        return Entity("_".join(sorted(self.per, reverse=True)))


class Fading(OfHistory):
    """A form that may forget: with a half-life, what is so old counts for half."""

    half_life: HalfLife | None = None

    @property
    def clocked(self) -> bool:
        """Whether it fades."""
        return self.half_life is not None

    def _counted(self, of: str, entity: Entity) -> Aggregate:
        if self.half_life is None:
            return Aggregate(entity, Kind.COUNT, of)
        return Aggregate(entity, Kind.DECAYED, of, microseconds(self.half_life))

    def _left(self, context: Context) -> Array | float:
        """What is left at the event of 1 at the time that the aggregates are of."""
        if self.half_life is None:
            return 1
        return decay(context.as_of_us, context.times_us, microseconds(self.half_life))


class Count(Fading):
    """How often something happened, or log(1 + that)."""

    count: Happening
    transform: Literal["log1p"] | None = None

    @property
    def growth(self) -> Growth:
        """Proportional, unless it fades."""
        return "none" if self.half_life else "count"

    @property
    def type(self) -> pa.DataType:
        """A whole number as long as nothing makes it another."""
        return pa.float32() if self.half_life or self.transform else pa.int32()

    @cached_property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """The count."""
        return (self._counted(self.count, self.entity),)

    def value(self, context: Context, *known: Array) -> Array:
        """The count as of the time."""
        count = known[0] * self._left(context)
        return np.log1p(count) if self.transform else count

    def inputs(self, values: Floats) -> Floats:
        """The logarithm."""
        return values if self.transform else np.log1p(values)


class Rate(Fading):
    """Outcomes over impressions, pulled to the rate of all events while they are few.

    The posterior mean of a beta-binomial with `prior_weight` pseudo-impressions at the rate of all, which itself is
    pulled to `initial_rate` by `initial_weight` impressions.
    """

    rate: Outcome
    prior_weight: float = Field(default=10.0, gt=0)
    initial_rate: float = Field(default=0.1, ge=0, le=1)
    initial_weight: float = Field(default=100.0, gt=0)

    @property
    def growth(self) -> Growth:
        """It comes closer to what is true, unless it fades."""
        return "none" if self.half_life else "rate"

    @cached_property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """Outcomes and impressions, its own and all."""
        return tuple(
            self._counted(of, entity) for entity in (self.entity, Entity.ALL) for of in (self.rate, IMPRESSION)
        )

    def value(self, context: Context, *known: Array) -> Array:
        """The smoothed rate."""
        if self.half_life is not None:
            known = tuple(count * self._left(context) for count in known)
        outcomes, impressions, all_outcomes, all_impressions = known
        prior = (all_outcomes + self.initial_rate * self.initial_weight) / (all_impressions + self.initial_weight)
        return (outcomes + prior * self.prior_weight) / (impressions + self.prior_weight)

    def inputs(self, values: Floats) -> Floats:
        """Its logit."""
        rate = np.clip(values, MIN_RATE, 1 - MIN_RATE)
        return np.log(rate) - np.log1p(-rate)


class Amount(OfHistory):
    """A form without an upper bound."""

    def inputs(self, values: Floats) -> Floats:
        """The logarithm."""
        return np.log1p(values)


class Whole(Amount):
    """An amount in whole numbers."""

    @property
    def type(self) -> pa.DataType:
        """Whole numbers."""
        return pa.int32()


class Mean(Amount):
    """Seconds that a click lasts on average."""

    mean: Literal["dwell_time"]

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

    days: Happening

    @property
    def growth(self) -> Growth:
        """Proportional."""
        return "count"

    @cached_property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """The days."""
        return (Aggregate(self.entity, Kind.DAYS, self.days),)

    def value(self, context: Context, *known: Array) -> Array:
        """The aggregate."""
        return known[0]


class Age(Whole):
    """Whole days since something happened for the first time; 0 if it has not yet."""

    age: Happening

    @property
    def growth(self) -> Growth:
        """A day a day."""
        return "age"

    @property
    def clocked(self) -> bool:
        """It grows."""
        return True

    @cached_property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """The first time."""
        return (Aggregate(self.entity, Kind.FIRST, self.age),)

    def value(self, context: Context, *known: Array) -> Array:
        """In days."""
        return np.maximum(np.floor((context.times_us - known[0]) / float(US_PER_DAY)), 0.0)


class Since(OfHistory):
    """1 when something has just happened, and half of that after each half-life; 0 if it never has."""

    since: Happening
    half_life: HalfLife

    @property
    def clocked(self) -> bool:
        """It falls."""
        return True

    @cached_property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """The last time."""
        return (Aggregate(self.entity, Kind.LAST, self.since),)

    def value(self, context: Context, *known: Array) -> Array:
        """From 0 to 1."""
        return decay(known[0], context.times_us, microseconds(self.half_life))


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


FORMS = {
    "count": Count, "rate": Rate, "mean": Mean, "days": Days, "age": Age, "since": Since, "clock": Clock,
    "context": Equals,
}  # fmt: skip
"""By the key that says which form a declaration is of."""


def _form_of(declared: Any) -> str | None:
    keys = declared if isinstance(declared, dict) else type(declared).model_fields
    return next((key for key in FORMS if key in keys), None)


if TYPE_CHECKING:
    Declared = Form
else:
    Declared = Annotated[
        Union[tuple(Annotated[form, Tag(key)] for key, form in FORMS.items())],  # noqa: UP007  # of a computed tuple
        Discriminator(
            _form_of,
            custom_error_type="no_form",
            custom_error_message="expected one of the forms " + ", ".join(FORMS),
        ),
    ]
"""A feature as a declaration has it."""
