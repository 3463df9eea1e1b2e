"""What goes wrong in the month, when people must know it, and by which sentence they do."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from benchmarks.month.settings import Sizes

DEADLINE = timedelta(hours=24)


@dataclass(frozen=True)
class Incident:
    """One."""

    name: str
    known: datetime
    """The first moment at which the platform can know it: of what only the nightly export tells, the ETL after it."""
    sentence: str
    """A pattern that what people are told must have."""
    begins: datetime
    ends: datetime
    """Days from the beginning to here are none without an incident: consequences and repairs are told, too."""

    @property
    def due(self) -> datetime:
        """When people must know at the latest."""
        return self.known + DEADLINE


CLOCK_AHEAD, LOST_DAY, BAD_DAY, BUSY_DAY = 3, 5, 8, 10
ROLLBACK, FULL, RESTART, CONSTANT = 13, 16, 18, 19
"""Served days. The taste and the device shift are `Sizes`'."""
BUSY_FACTOR = 3.0


def of_month(sizes: Sizes) -> list[Incident]:
    """All ten of the whole story."""

    def incident(name: str, day: int, known: datetime, sentence: str, *, until: int) -> Incident:
        return Incident(name, known, sentence, begins=sizes.at(day), ends=sizes.at(until))

    at, lost, bad, busy = sizes.at, *(sizes.date_of(day) for day in (LOST_DAY, BAD_DAY, BUSY_DAY))
    assert sizes.device_shift is not None
    is_lost = f"{lost} are (missing|held)|no feedback has"
    return [
        incident("client nine hours ahead", CLOCK_AHEAD, at(CLOCK_AHEAD), "stamped in the future", until=5),
        incident("lost day", LOST_DAY, at(LOST_DAY + 1, "02:00"), is_lost, until=8),
        incident("bad rows", BAD_DAY, at(BAD_DAY + 1, "02:00"), f"{bad} are held.*(device|bad)", until=11),
        incident("three times the traffic", BUSY_DAY, at(BUSY_DAY + 1, "02:00"), f"{busy} are held.*rows", until=13),
        incident("rollback", ROLLBACK, at(ROLLBACK, "14:00"), "rollback to .* done", until=14),
        *taste_shift(sizes),
        incident("full volume", FULL, at(FULL, "08:00"), "no space left", until=18),
        incident("restart, store unreachable", RESTART, at(RESTART, "10:00"), "snapshot:", until=19),
        incident("changed constant", CONSTANT, at(CONSTANT + 1, "02:00"), "another declaration", until=22),
        incident("device shift", sizes.device_shift, at(sizes.device_shift), "device_", until=sizes.device_shift + 3),
    ]


def taste_shift(sizes: Sizes) -> list[Incident]:
    """The only one of the short story; clicks tell of it, so with the first export."""
    day = sizes.taste_shift
    sentence = "calibration|auc|_ctr|score"
    return [Incident("taste shift", sizes.at(day + 1, "02:00"), sentence, sizes.at(day), ends=sizes.at(day + 9))]
