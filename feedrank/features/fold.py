"""Carries the aggregates of features from day to day: the one kernel of offline table and snapshot.

What is read for a UTC day is what was known at its start: the impressions before it and the outcomes that became known
before it. A decayed count is anchored at the start of the last day on which it happened: there what happens at time t
adds 2^((t - start) / half-life), and at the next such day the sum is carried over by one factor. All other aggregates
are integers. So the state is the same, bit by bit, however many days are folded at a time, and in whatever order
simultaneous events come.
"""

import itertools
from collections.abc import Iterable

import numpy as np

from feedrank.features.aggregates import IMPRESSION, NEVER_YET, US_PER_DAY, Aggregate, Array, Entity, Kind, decay
from feedrank.features.events import Events, Ints


class Fold:
    """Aggregates of all entities of some events, as of the start of a day that only goes on."""

    def __init__(self, events: Events, aggregates: Iterable[Aggregate]) -> None:
        """Nothing has happened yet."""
        self._events = events
        self._values = {a: self._empty(a) for a in aggregates}
        self._anchor_days = {
            a: np.zeros(len(values), dtype=np.int64) for a, values in self._values.items() if a.kind is Kind.DECAYED
        }
        self._done = dict.fromkeys({a.of for a in self._values} - {IMPRESSION}, 0)
        """How many outcomes have been added."""

    def _empty(self, aggregate: Aggregate) -> Array:
        first = 0 if aggregate.entity is Entity.ALL else -1
        entities = int(self._events.codes[aggregate.entity].max(initial=first)) + 1
        dtype = np.float64 if aggregate.kind is Kind.DECAYED else np.int64
        return np.full(entities, aggregate.unknown, dtype=dtype)

    def read(self, codes: dict[Entity, Ints], day: int) -> dict[Aggregate, Array]:
        """The aggregates of some entities as of the start of a day, of which nothing has been added yet."""
        self._add_outcomes_before(day)
        return {a: self._as_of(a, codes[a.entity], day) for a in self._values if a.entity in codes}

    def _as_of(self, aggregate: Aggregate, codes: Ints, day: int) -> Array:
        values = self._values[aggregate].take(codes)
        if aggregate.kind is Kind.DECAYED:
            anchors = self._anchor_days[aggregate].take(codes)
            values *= decay(anchors * US_PER_DAY, np.asarray(day * US_PER_DAY), aggregate.half_life_us)
        return values

    def add(self, day: int, rows: slice | Ints) -> None:
        """Adds the impressions of a whole day."""
        times = self._events.times_us[rows]
        self._add(IMPRESSION, day, rows, times, np.ones(len(times), dtype=np.int64))

    def _add_outcomes_before(self, day: int) -> None:
        for of, start in self._done.items():
            outcomes = self._events.outcomes[of]
            stop = int(np.searchsorted(outcomes.times_us, day * US_PER_DAY))
            days = outcomes.times_us[start:stop] // US_PER_DAY
            borders = np.flatnonzero(np.diff(days, prepend=days[:1] - 1)) + start
            for first, end in itertools.pairwise([*borders.tolist(), stop]):
                rows = slice(first, end)
                known = int(days[first - start])
                self._add(of, known, outcomes.events[rows], outcomes.times_us[rows], outcomes.amounts[rows])
            self._done[of] = stop

    def _add(self, of: str, day: int, events: slice | Ints, times: Ints, amounts: Ints) -> None:
        """Adds what happened on one day, in the order of time, to impressions."""
        codes_of: dict[Entity, Ints] = {}
        for aggregate, values in self._values.items():
            if aggregate.of != of:
                continue
            if aggregate.entity not in codes_of:
                codes_of[aggregate.entity] = self._events.codes[aggregate.entity][events]
            codes = codes_of[aggregate.entity]
            match aggregate.kind:
                case Kind.COUNT | Kind.SUM:
                    np.add.at(values, codes, amounts)
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
