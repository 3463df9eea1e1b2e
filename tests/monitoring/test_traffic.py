"""Latency, feedback and visits."""

from dataclasses import replace
from datetime import datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitored_data import CONFIG, START, feature_rows, interactions, prediction_log

from feedrank import schema
from feedrank.monitoring.feedback import join_feedback
from feedrank.monitoring.results import FeedbackCounts, Signal
from feedrank.monitoring.rows import HourCounts, Latency
from feedrank.monitoring.traffic import (
    error_rate_signal,
    feedback_due,
    feedback_signals,
    latency_signal,
    measure_visits,
    volume_signal,
    waiting,
)

END = START + timedelta(days=1)
NO_COUNTS = FeedbackCounts(rows=0, joined=0, late=0, duplicate=0, orphan=0, invalid=0)


def hours(*answered: int, requests: int = 50) -> list[HourCounts]:
    """Hours from START on, each with so many requests and so many of them with feedback."""
    return [
        HourCounts(START + timedelta(hours=hour), requests, requests, requests, count)
        for hour, count in enumerate(answered)
    ]


def share(counted: list[HourCounts], usual: float | None, *, until: datetime = END) -> Signal:
    found = feedback_signals(counted, NO_COUNTS, until=until, usual_share=usual, config=CONFIG)
    return found[0]


def test_slow_answers_are_flagged() -> None:
    fast, slow = (latency_signal(Latency(500, 4.0, p99), config=CONFIG.performance) for p99 in (5.0, 150.0))
    assert fast.status == "ok"
    assert (slow.status, slow.kind) == ("drift", "serving")
    assert latency_signal(Latency(0, None, None), config=CONFIG.performance).status == "not_enough_data"


def test_failed_requests_are_flagged_and_an_unknown_rate_is_not() -> None:
    assert error_rate_signal(0.05, requests=100, config=CONFIG.performance).status == "drift"
    assert error_rate_signal(None, requests=0, config=CONFIG.performance).status == "not_enough_data"


def test_feedback_that_stops_or_falls_to_less_than_half_of_the_usual_is_flagged() -> None:
    assert share(hours(*[50] * 24), 1.0).status == "ok"
    assert share(hours(*[20] * 24), 1.0).status == "drift"
    assert "only 40.0% of 1150 requests got feedback; usual is 100.0%" in share(hours(*[20] * 24), 1.0).reason
    assert share(hours(*[20] * 24), None).status == "ok"
    assert share(hours(*[0] * 24), None).status == "drift"
    assert share(hours(9), None).status == "not_enough_data"


def test_hardly_any_predictions_are_flagged_and_more_than_usual_are_not() -> None:
    volumes = {1_000: "ok", 30_000: "ok", 99: "drift", 0: "drift"}
    for predictions, status in volumes.items():
        assert volume_signal(predictions, usual=1_000, config=CONFIG.performance).status == status
    assert volume_signal(0, usual=None, config=CONFIG.performance).status == "ok"
    found = volume_signal(99, usual=1_000, config=CONFIG.performance)
    assert found.reason == "only 99 predictions have arrived in the window; usual are 1000"


def test_hours_whose_feedback_is_not_due_do_not_lower_the_share() -> None:
    counted = hours(*[50] * 12, *[0] * 12)
    assert share(counted, 1.0).status == "ok", "half is exactly the limit"
    until = START + timedelta(hours=13)
    assert share(counted, 1.0, until=until).statistic == 1.0


@pytest.mark.parametrize("usual", [0.9, None])
def test_some_hours_without_feedback_are_flagged_and_named(usual: float | None) -> None:
    counted = hours(*[180] * 6, *[3] * 3, *[180] * 15, requests=200)
    found = share(counted, usual)
    assert found.status == "drift"
    assert found.reason == "3 hours have hardly any feedback, the first from 2024-01-01 06:00 UTC"
    assert share(hours(*[180] * 6, *[3] * 2, *[180] * 16, requests=200), usual).status == "ok"


@given(st.lists(st.integers(0, 300), min_size=24, max_size=24), st.integers(0, 23))
def test_feedback_is_due_when_95_of_100_requests_were_made(requests: list[int], hour: int) -> None:
    counted = [HourCounts(START + timedelta(hours=place), n, n, n, n) for place, n in enumerate(requests)]
    due = feedback_due(counted, end=END)
    assert START <= due <= END
    made = sum(n * min(max((due - START) / timedelta(hours=1) - place, 0), 1) for place, n in enumerate(requests))
    assert made == pytest.approx(0.95 * sum(requests), abs=1e-3)
    quiet_evening = [replace(count, requests=0) if place > hour else count for place, count in enumerate(counted)]
    if sum(count.requests for count in quiet_evening):
        assert feedback_due(quiet_evening, end=END) <= START + timedelta(hours=hour + 1)


def test_only_what_needs_feedback_waits_for_it() -> None:
    kinds = {"feature": False, "score": False, "serving": False, "performance": True, "feedback": True}
    for kind, waits in kinds.items():
        signal = share(hours(*[50] * 24), 1.0).model_copy(update={"kind": kind})
        assert (waiting(signal, due=END).status == "pending") == waits


def test_impossible_feedback_is_flagged() -> None:
    rows = feature_rows(1_000, day=0)
    seen = interactions(rows)
    place, field = seen.schema.get_field_index(schema.DWELL_TIME), seen.schema.field(schema.DWELL_TIME)
    in_ms = seen.set_column(place, field, pa.array(seen[schema.DWELL_TIME].to_numpy() * 1_000))
    for table, status in ((seen, "ok"), (in_ms, "drift")):
        counts = join_feedback(prediction_log(rows), table, config=CONFIG.window).counts
        found = feedback_signals([], counts, until=END, usual_share=None, config=CONFIG)
        assert found[1].status == status


def test_visits_and_retention_are_counted() -> None:
    table = interactions(feature_rows(6, day=0))
    minutes = [-60, -50, 0, 10, 100, 200]
    users = [1, 2, 1, 1, 1, 3]
    times = [START + timedelta(minutes=minute) for minute in minutes]
    table = table.set_column(1, table.schema.field(1), pa.array(users, pa.int64()))
    table = table.set_column(3, table.schema.field(3), pa.array(times, schema.TIMESTAMP_TYPE))
    visits = measure_visits(table, start=START, config=CONFIG)
    assert visits.users == 2
    assert visits.impressions_per_visit.value == pytest.approx(4 / 3)
    assert visits.minutes_per_visit.value == pytest.approx(10 / 3)
    assert visits.retention.value == pytest.approx(1 / 2)


def test_no_feedback_has_no_visits() -> None:
    visits = measure_visits(interactions(feature_rows(0, day=0)), start=START, config=CONFIG)
    assert visits.users == 0
    assert visits.retention.value is None
