"""The clock of a rehearsal."""

import time
from pathlib import Path

import pytest

from feedrank.clock import CLOCK_VARIABLE, ClockFile, steady_clock


def test_without_a_named_clock_time_passes_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CLOCK_VARIABLE, raising=False)
    assert steady_clock() is time.monotonic


def test_a_named_clock_moves_what_has_passed_forward_and_never_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ClockFile.create(tmp_path / "clock", time_us=1_000_000)
    monkeypatch.setenv(CLOCK_VARIABLE, str(tmp_path / "clock"))
    seconds = steady_clock()
    before = seconds()
    clock.set(61_000_000)
    assert 60 <= (later := seconds()) - before < 90
    clock.set(0)
    assert later <= seconds() < later + 30
    clock.set(10_000_000)
    assert seconds() - later >= 10
