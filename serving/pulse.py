"""How late a worker's event loop is: so late is every request, too, and no request's own figure shows it."""

import asyncio
import time
from collections.abc import Awaitable, Callable

PULSE_SECONDS = 0.1
_BIN_SECONDS, _BINS = 5.0, 12


class LoopDelay:
    """The longest delay of the last minute. The loop writes, any thread reads."""

    def __init__(self) -> None:
        self._due = float("inf")
        self._bins = [(0, 0.0)] * _BINS
        """Number of a bin of time, and the longest delay in it."""

    def due(self, moment: float) -> None:
        """When the loop is to turn next, by `time.monotonic`."""
        self._due = moment

    def turned(self) -> None:
        """The loop has turned."""
        now = time.monotonic()
        number = int(now / _BIN_SECONDS)
        known, worst = self._bins[number % _BINS]
        late = max(now - self._due, 0.0)
        self._bins[number % _BINS] = (number, max(late, worst if known == number else 0.0))

    def worst(self) -> float:
        """In seconds, a delay that goes on included."""
        now = time.monotonic()
        oldest = int(now / _BIN_SECONDS) - _BINS
        return max(now - self._due, 0.0, *(worst for number, worst in self._bins if number > oldest))


async def pulse(delay: LoopDelay, each: Callable[[], Awaitable[None]]) -> None:
    """Calls `each` several times a second for ever, and measures how late the loop comes to it."""
    while True:
        delay.due(time.monotonic() + PULSE_SECONDS)
        await asyncio.sleep(PULSE_SECONDS)
        delay.turned()
        delay.due(float("inf"))
        await each()
