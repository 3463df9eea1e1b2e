"""What is kept of the events: one number for each entity, as of the start of a day."""

import math
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

US_PER_SECOND = 1_000_000
US_PER_MINUTE = 60 * US_PER_SECOND
US_PER_HOUR = 60 * US_PER_MINUTE
US_PER_DAY = 24 * US_PER_HOUR

Array = NDArray[Any]
Floats = NDArray[np.float32]

IMPRESSION, CLICK, LIKE, SHARE, DWELL = "impression", "click", "like", "share", "dwell"
"""What happens: something is shown, it is clicked, liked or shared, and the click lasts."""


class Entity(Enum):
    """What an aggregate is kept for."""

    ALL = "all"
    USER = "user"
    ITEM = "item"
    USER_ITEM = "user_item"


class Kind(Enum):
    """How events are folded into one number."""

    COUNT = "{}s"
    SUM = "clicked_{}_us"
    """Of the clicks, in whole microseconds: integer sums do not depend on the order of addition."""
    DAYS = "days"
    FIRST = "first_time_us"
    LAST = "last_time_us"
    DECAYED = "decayed_{}s"
    """Sum of 2^(-age / half-life), as of the start of a day."""


NEVER_YET, LONG_AGO = 2**60, -(2**60)
"""First and last time (µs) of an entity without an event: after, and before, all others. Floats hold them exactly."""


@dataclass(frozen=True)
class Aggregate:
    """One number kept for each entity; `of` is what happened."""

    entity: Entity
    kind: Kind
    of: str = IMPRESSION
    half_life_us: float = 0.0

    @property
    def name(self) -> str:
        """Of its column."""
        kind = self.kind.value.format(self.of)
        if self.kind in (Kind.DAYS, Kind.FIRST, Kind.LAST) and self.of != IMPRESSION:
            kind = f"{self.of}_{kind}"
        half_life = f"_{self.half_life_us / US_PER_HOUR:g}h" if self.kind is Kind.DECAYED else ""
        return f"{self.entity.value}_{kind}{half_life}"

    @property
    def unknown(self) -> int:
        """Of an entity without an event."""
        return {Kind.FIRST: NEVER_YET, Kind.LAST: LONG_AGO}.get(self.kind, 0)


class Context(NamedTuple):  # quicker to make than a frozen dataclass
    """What is known of the events themselves; all arrays broadcast against each other."""

    times_us: Array
    devices: Array
    """Indices into `schema.DEVICES`."""
    as_of_us: Array
    """The start of a day, of which the aggregates are."""


def decay(from_us: Array, to_us: Array, half_life_us: float) -> Array:
    """What is left of 1 between two times."""
    halvings = (from_us - to_us) / half_life_us
    return math.exp2(halvings) if isinstance(halvings, float) else np.exp2(halvings)  # ten times as fast for a request


@lru_cache(maxsize=1024)
def microseconds(half_life: str) -> float:
    """The length of a half-life such as 90m, 24h or 14d."""
    return float(half_life[:-1]) * {"m": US_PER_MINUTE, "h": US_PER_HOUR, "d": US_PER_DAY}[half_life[-1]]
