"""The predictor's clocks.

A rehearsal (the simulation, the benchmark of a month) plays days in minutes: it keeps the time in a `ClockFile`, and a
predictor that finds the file's name in FEEDRANK_CLOCK goes by it.
"""

import mmap
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

CLOCK_VARIABLE = "FEEDRANK_CLOCK"
_TIME = struct.Struct("<q")


class ClockFile:
    """A time that processes share: microseconds since 1970 UTC in a file of eight bytes."""

    def __init__(self, path: Path) -> None:
        """Opens the clock at `path`; it must be there."""
        with path.open("rb+") as file:
            self._memory = mmap.mmap(file.fileno(), _TIME.size)

    @staticmethod
    def create(path: Path, *, time_us: int) -> "ClockFile":
        """Makes the clock's file."""
        path.write_bytes(_TIME.pack(time_us))
        return ClockFile(path)

    def set(self, time_us: int) -> None:
        """Sets the clock, for all processes at once."""
        _TIME.pack_into(self._memory, 0, time_us)

    def now_us(self) -> int:
        """What it shows."""
        return int(_TIME.unpack_from(self._memory)[0])


def wall_clock() -> Callable[[], int]:
    """What tells the time in microseconds since 1970 UTC: the system's clock, unless the environment names another."""
    named = os.environ.get(CLOCK_VARIABLE)
    return ClockFile(Path(named)).now_us if named else _system_us


def steady_clock() -> Callable[[], float]:
    """What tells how long something has waited, in seconds: `time.monotonic`, and what a named clock moves forward."""
    named = os.environ.get(CLOCK_VARIABLE)
    return _SteadyClock(ClockFile(Path(named))).seconds if named else time.monotonic


class _SteadyClock:
    """Never goes back, whatever its clock does."""

    def __init__(self, clock: ClockFile) -> None:
        self._clock, self._latest_us, self._passed_us = clock, clock.now_us(), 0

    def seconds(self) -> float:
        now_us = self._clock.now_us()
        self._passed_us += max(now_us - self._latest_us, 0)
        self._latest_us = now_us
        return time.monotonic() + self._passed_us / 1e6


def _system_us() -> int:
    return time.time_ns() // 1000
