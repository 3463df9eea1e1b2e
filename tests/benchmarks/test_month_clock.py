"""The injected clock of the month: all processes see it, and no pause is changed."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.month.clock import MonthClock
from benchmarks.month.schedule import runs

START = datetime(2024, 9, 2, tzinfo=UTC)
ASK = """
import datetime, json, sys, threading, time
import deltalake, pyarrow
started, clock = time.monotonic(), datetime.datetime.now(datetime.UTC).isoformat()
deltalake.write_deltalake(sys.argv[1], pyarrow.table({"a": [1]}))
threading.Event().wait(0.2)
time.sleep(0.2)
commit = deltalake.DeltaTable(sys.argv[1]).history()[0]["timestamp"]
print(json.dumps({"python": clock, "rust": commit, "seconds": time.monotonic() - started}))
"""


@pytest.fixture
def clock(tmp_path: Path) -> MonthClock:
    return MonthClock(tmp_path, start=START)


def ask(clock: MonthClock, table: Path) -> tuple[datetime, datetime, float]:
    """What the wall clocks of a new process show, and how long its pauses of 0.4 s took."""
    answer = subprocess.run(
        [sys.executable, "-c", ASK, str(table)], env=os.environ | clock.environment, capture_output=True, check=True
    )
    found = json.loads(answer.stdout)
    return datetime.fromisoformat(found["python"]), datetime.fromtimestamp(found["rust"] / 1000, UTC), found["seconds"]


def test_python_and_rust_see_the_injected_time_and_pauses_stay_real(clock: MonthClock, tmp_path: Path) -> None:
    python, rust, seconds = ask(clock, tmp_path / "before")
    assert START <= python <= rust <= clock.now() < START + timedelta(minutes=2)
    assert 0.4 <= seconds < 60
    clock.reach(START + timedelta(days=3))
    python, rust, _ = ask(clock, tmp_path / "after")
    assert START + timedelta(days=3) <= python <= rust <= clock.now()


def test_the_clock_never_goes_back(clock: MonthClock) -> None:
    clock.reach(START + timedelta(days=1))
    clock.reach(START)
    assert clock.now() >= START + timedelta(days=1)


def test_the_jobs_of_a_sunday_are_those_of_the_charts_values() -> None:
    sunday = datetime(2024, 9, 8, tzinfo=UTC)
    found = runs(sunday.date())
    assert [job for _, job in found].count("monitor") == 8
    assert found[0] == (sunday, "retraining")
    assert (sunday.replace(hour=2), "etl") in found
    assert "retraining" not in {job for _, job in runs(sunday.date() + timedelta(days=1))}
