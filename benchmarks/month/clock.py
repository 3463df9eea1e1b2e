"""The injected clock: one wall clock for all processes of the platform, which the benchmark moves on.

A small library (`clock.c`, compiled when the benchmark starts) answers their questions for the time, those of Python
and of Rust alike, by the system's clock and an offset in a shared file. It goes on by itself as the system's does.
The predictor's waiting intervals (`feedrank/clock.py`) go by a clock file beside it.
"""

import mmap
import struct
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from feedrank.clock import CLOCK_VARIABLE, ClockFile

OFFSET_VARIABLE = "BENCHMARK_CLOCK_OFFSET"
_OFFSET = struct.Struct("<q")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MonthClock:
    """The time of the platform."""

    def __init__(self, folder: Path, *, start: datetime) -> None:
        """Compiles the library into `folder`, which must be there, and sets the clock.

        Raises:
            CalledProcessError: the C compiler refuses.
        """
        self._library, offset = folder / "clock.so", folder / "clock-offset"
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", self._library, source, "-ldl"], check=True)
        offset.write_bytes(bytes(_OFFSET.size))
        with offset.open("rb+") as file:
            self._memory = mmap.mmap(file.fileno(), _OFFSET.size)
        self._file = ClockFile.create(folder / "clock-file", time_us=0)
        self.environment = {"LD_PRELOAD": str(self._library.resolve()), OFFSET_VARIABLE: str(offset.resolve())}
        self.predictor_environment = self.environment | {CLOCK_VARIABLE: str((folder / "clock-file").resolve())}
        self._set_us(_microseconds(start))

    def now(self) -> datetime:
        """What the platform's processes see."""
        return _EPOCH + timedelta(microseconds=self._system_us() + _OFFSET.unpack_from(self._memory)[0])

    def reach(self, moment: datetime) -> None:
        """Moves the clock on to a moment; one that has passed leaves it as it is."""
        self._set_us(max(_microseconds(moment), _microseconds(self.now())))

    def reach_later(self, *, seconds: float) -> None:
        """Lets some seconds pass."""
        self.reach(self.now() + timedelta(seconds=seconds))

    def _set_us(self, time_us: int) -> None:
        _OFFSET.pack_into(self._memory, 0, time_us - self._system_us())
        self._file.set(time_us)

    @staticmethod
    def _system_us() -> int:
        return time.time_ns() // 1000


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
