"""Alarms of what does not arrive."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from feedrank.config.monitoring import ArrivalConfig
from feedrank.monitoring.arrivals import Arrivals
from feedrank.monitoring.rows import Sources
from feedrank.monitoring.silence import silence_alarms

NOW = datetime(2024, 3, 2, 3, 10, tzinfo=UTC)
CONFIG = ArrivalConfig(predictions_hours=12, feedback_hours=30)


def silent(first: float | None, latest: float | None, feedback: float | None) -> dict[str, str]:
    """Alarms when the first and the latest prediction and the latest feedback are so many hours old."""
    times = [None if hours is None else NOW - timedelta(hours=hours) for hours in (first, latest, feedback)]
    found = silence_alarms(Arrivals(*times, {}), sources=Sources(Path("log"), Path("seen")), now=NOW, config=CONFIG)
    assert all(alarm.active and alarm.kind == "arrival" for alarm in found)
    return {alarm.signal: alarm.sentence for alarm in found}


@pytest.mark.parametrize(
    ("first", "latest", "feedback", "expected"),
    [
        (100, 0.1, 0.1, set()),
        (100, 0.1, 27, set()),
        (100, 13, 14, {"predictions"}),
        (100, 0.1, 31, {"feedback"}),
        (100, 13, 31, {"predictions", "feedback"}),
        (None, None, None, {"predictions"}),
        (None, None, 5_000, {"predictions"}),
        (3, 0.1, None, set()),
        (3, 0.1, 5_000, set()),
        (31, 0.1, None, {"feedback"}),
        (31, 0.1, 5_000, {"feedback"}),
        (100, 62, 61, {"predictions"}),
    ],
)
def test_what_has_not_come_for_too_long_is_an_alarm(
    first: float | None, latest: float | None, feedback: float | None, expected: set[str]
) -> None:
    assert set(silent(first, latest, feedback)) == expected


def test_the_sentence_says_what_since_when_and_what_to_do() -> None:
    assert silent(100, 13, 13)["predictions"] == (
        "no prediction has arrived in log for 13 hours (limit 12), the latest is of 2024-03-01 14:10 UTC; "
        "look at what writes it (runbook.md#no-data-arrive)"
    )
    assert (
        "no feedback has arrived in seen for 31 hours (limit 30), the latest is of 2024-02-29 20:10 UTC"
        in (silent(100, 0, 31)["feedback"])
    )
