"""What follows from a timestamp alone: day, hour, weekday and time of day, all UTC."""

import numpy as np
import numpy.typing as npt

from feedrank.tables import US_PER_DAY

US_PER_HOUR = US_PER_DAY // 24
TIME_OF_DAY_BY_HOUR = np.array([3] * 6 + [0] * 6 + [1] * 6 + [2] * 4 + [3] * 2, dtype=np.int8)
"""Index into schema.TIMES_OF_DAY: morning 06-12 h, afternoon 12-18, evening 18-22, night 22-06."""

Ints = npt.NDArray[np.int64]


def days_since_epoch(timestamps_us: Ints) -> Ints:
    """Whole days since 1970-01-01 of microseconds since then."""
    return timestamps_us // US_PER_DAY


def hours(timestamps_us: Ints) -> Ints:
    """Hour of the day, 0-23."""
    return timestamps_us % US_PER_DAY // US_PER_HOUR


def weekdays(days: Ints) -> Ints:
    """Weekday of days since 1970-01-01 (a Thursday), Monday = 0."""
    return (days + 3) % 7
