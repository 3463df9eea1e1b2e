"""Carries the aggregates of features from day to day: the one kernel of offline table and snapshot.

What is read for a UTC day is what was known at its start: the impressions before it and the outcomes that became known
before it. A decayed count is anchored at the start of the last day with an impression: there an impression at time t
adds 2^((t - start) / half-life), and at the next such day the sum is carried over by one factor. All other aggregates
are integers. So the state is the same, bit by bit, however many days are folded at a time, and in whatever order
simultaneous events come.
"""

import numpy as np

from feedrank.config.data import FeatureConfig
from feedrank.features.aggregates import IMPRESSION, NEVER_YET, US_PER_DAY, Aggregate, Array, Entity, Kind, decay
from feedrank.features.definitions import definitions
from feedrank.features.events import Events, Ints
from feedrank.features.forms import aggregates_of


class Fold:
    """The aggregates of all entities of some events, as of the start of a day that only goes on."""

    def __init__(self, events: Events, *, config: FeatureConfig) -> None:
        """Nothing has happened yet."""
        self._events = events
        self._values = {a: self._empty(a) for a in aggregates_of(definitions(config).values())}
        self._anchor_days = {
            a: np.zeros(len(values), dtype=np.int64) for a, values in self._values.items() if a.kind is Kind.DECAYED
        }
        self._outcomes_done = 0

    def _empty(self, aggregate: Aggregate) -> Array:
        entities = int(self._events.codes[aggregate.entity].max(initial=-1)) + 1
        dtype = np.float64 if aggregate.kind is Kind.DECAYED else np.int64
        return np.full(entities, aggregate.unknown, dtype=dtype)

    def read(self, codes: dict[Entity, Ints], day: int) -> dict[Aggregate, Array]:
        """The aggregates of some entities as of the start of a day, of which nothing has been added yet."""
        self._add_outcomes_before(day)
        return {a: self._as_of(a, codes[a.entity], day) for a in self._values if a.entity in codes}

    def total(self, aggregate: Aggregate) -> int:
        """An aggregate over all events, as of the day that was read last."""
        return int(self._values[aggregate].sum())

    def _as_of(self, aggregate: Aggregate, codes: Ints, day: int) -> Array:
        values = self._values[aggregate].take(codes)
        if aggregate.kind is Kind.DECAYED:
            anchors = self._anchor_days[aggregate].take(codes)
            values *= decay(anchors * US_PER_DAY, np.asarray(day * US_PER_DAY), aggregate.half_life_us)
        return values

    def add(self, day: int, rows: slice) -> None:
        """Adds the impressions of a whole day."""
        times = self._events.times_us[rows]
        codes_of = {entity: codes[rows] for entity, codes in self._events.codes.items()}
        for aggregate, values in self._values.items():
            if aggregate.of != IMPRESSION:
                continue
            codes = codes_of[aggregate.entity]
            match aggregate.kind:
                case Kind.COUNT:
                    np.add.at(values, codes, 1)
                case Kind.DAYS:
                    values[codes] += 1  # once for an entity, however often it is among the codes
                case Kind.FIRST:
                    new = values[codes] == NEVER_YET
                    values[codes[new][::-1]] = times[new][::-1]  # of several values the last one stays
                case Kind.LAST:
                    values[codes] = times
                case Kind.DECAYED:
                    values[codes] = self._as_of(aggregate, codes, day)
                    self._anchor_days[aggregate][codes] = day
                    np.add.at(values, codes, decay(times, np.asarray(day * US_PER_DAY), aggregate.half_life_us))

    def _add_outcomes_before(self, day: int) -> None:
        outcomes, start = self._events.outcomes, self._outcomes_done
        rows = slice(start, start + int(np.searchsorted(outcomes.days[start:], day)))
        events = outcomes.events[rows]
        for aggregate, values in self._values.items():
            if aggregate.of != IMPRESSION:
                codes = self._events.codes[aggregate.entity][events]
                np.add.at(values, codes, outcomes.summands(aggregate.of, rows))
        self._outcomes_done = rows.stop
