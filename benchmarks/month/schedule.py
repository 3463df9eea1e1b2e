"""What runs when: the schedules of the chart's values."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import yaml

VALUES = Path(__file__).parents[2] / "helm" / "feedrank" / "values.yaml"
JOBS = ("retraining", "monitor", "upkeep", "etl")
"""Values with a `schedule`, in the order in which those of the same minute start."""


def runs(day: date) -> list[tuple[datetime, str]]:
    """The times (UTC) and jobs of a day, in order."""
    values = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    found = [(moment, job) for job in JOBS for moment in _moments(values[job]["schedule"], day)]
    return sorted(found, key=lambda run: run[0])


def backoff_limit(job: str) -> int:
    """How often Kubernetes starts a job's pod again, by the chart."""
    text = (VALUES.parent / "templates" / f"{job}.yaml").read_text(encoding="utf-8")
    return int(text.split("backoffLimit:")[1].split()[0])


def _moments(schedule: str, day: date) -> Iterator[datetime]:
    minutes, hours, *days = schedule.split()
    of_month, month, of_week = ([*_numbers(field, first, last)] for field, first, last in zip(
        days, (1, 1, 0), (31, 12, 6), strict=True
    ))  # fmt: skip
    if day.day not in of_month or day.month not in month or day.isoweekday() % 7 not in of_week:
        return
    for hour in _numbers(hours, 0, 23):
        for minute in _numbers(minutes, 0, 59):
            yield datetime.combine(day, time(), UTC) + timedelta(hours=hour, minutes=minute)


def _numbers(field: str, first: int, last: int) -> range | list[Any]:
    """Of one field: `*`, `*/3` or numbers."""
    if field.startswith("*"):
        return range(first, last + 1, int(field.partition("/")[2] or 1))
    return [int(number) for number in field.split(",")]
