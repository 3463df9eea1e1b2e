"""What the processes of a worker set know of each other: one slot each in a small file that all of them map.

A worker's event loop beats in its slot, and says whether it has a model. The parent sees by it who hangs; a worker
without a model sees whether it may leave the port to others.
"""

import mmap
import struct
from pathlib import Path

_SLOT = struct.Struct("<q?7x")
"""Beats since the start, and whether there is a model."""
LEAVING = -1


class WorkerBoard:
    """The slots. Each is written by its worker, and cleared by the parent when the worker has ended."""

    def __init__(self, path: Path, *, count: int) -> None:
        self._count = count
        with path.open("a+b") as file:
            file.truncate(count * _SLOT.size)
            self._slots = mmap.mmap(file.fileno(), count * _SLOT.size)

    def beats(self, place: int) -> int:
        """How often a worker has beaten; 0 while it starts."""
        return int(self._read(place)[0])

    def beat(self, place: int, *, has_model: bool) -> None:
        """The worker's event loop turns."""
        _SLOT.pack_into(self._slots, place * _SLOT.size, self.beats(place) + 1, has_model)

    def leave(self, place: int) -> None:
        """The worker's event loop has ended, and it beats no more; its log is still to be completed."""
        _SLOT.pack_into(self._slots, place * _SLOT.size, LEAVING, False)

    def clear(self, place: int) -> None:
        """The worker has ended."""
        _SLOT.pack_into(self._slots, place * _SLOT.size, 0, False)

    def others_have_model(self, place: int) -> bool:
        """Whether another worker than this can answer."""
        return any(self._read(other)[1] for other in range(self._count) if other != place)

    def _read(self, place: int) -> tuple[int, bool]:
        return _SLOT.unpack_from(self._slots, place * _SLOT.size)
