"""Latency, feedback and visits."""

from datetime import timedelta

import pyarrow as pa
import pytest
from monitored_data import CONFIG, START, feature_rows, interactions, prediction_log

from feedrank import schema
from feedrank.monitoring.feedback import Joined, join_feedback
from feedrank.monitoring.results import Signal
from feedrank.monitoring.rows import Latency
from feedrank.monitoring.traffic import error_rate_signal, feedback_signals, latency_signal, measure_visits

END = START + timedelta(days=1)


def signals(predictions: pa.Table, joined: Joined, usual: float | None) -> dict[str, Signal]:
    found = feedback_signals(predictions, joined, end=END, usual_share=usual, config=CONFIG)
    return {signal.name: signal for signal in found}


def test_slow_answers_are_flagged() -> None:
    fast, slow = (latency_signal(Latency(500, 4.0, p99), config=CONFIG.performance) for p99 in (5.0, 150.0))
    assert fast.status == "ok"
    assert (slow.status, slow.kind) == ("drift", "serving")
    assert latency_signal(Latency(0, None, None), config=CONFIG.performance).status == "not_enough_data"


def test_failed_requests_are_flagged_and_an_unknown_rate_is_not() -> None:
    assert error_rate_signal(0.05, requests=100, config=CONFIG.performance).status == "drift"
    assert error_rate_signal(None, requests=0, config=CONFIG.performance).status == "not_enough_data"


def test_feedback_that_stops_or_falls_to_less_than_half_of_the_usual_is_flagged() -> None:
    rows = feature_rows(1_000, day=0)
    predictions = prediction_log(rows)
    all_seen = join_feedback(predictions, interactions(rows), config=CONFIG.window)
    few_seen = join_feedback(predictions, interactions(rows.slice(0, 200)), config=CONFIG.window)
    none_seen = join_feedback(predictions, interactions(rows.slice(0, 0)), config=CONFIG.window)
    assert signals(predictions, all_seen, 1.0)["feedback_share"].status == "ok"
    assert signals(predictions, few_seen, 1.0)["feedback_share"].status == "drift"
    assert signals(predictions, few_seen, None)["feedback_share"].status == "ok"
    assert signals(predictions, none_seen, None)["feedback_share"].status == "drift"


def test_impossible_feedback_is_flagged() -> None:
    rows = feature_rows(1_000, day=0)
    seen = interactions(rows)
    place, field = seen.schema.get_field_index(schema.DWELL_TIME), seen.schema.field(schema.DWELL_TIME)
    in_ms = seen.set_column(place, field, pa.array(seen[schema.DWELL_TIME].to_numpy() * 1_000))
    predictions = prediction_log(rows)
    good, bad = (join_feedback(predictions, table, config=CONFIG.window) for table in (seen, in_ms))
    assert signals(predictions, good, None)["bad_feedback"].status == "ok"
    assert signals(predictions, bad, None)["bad_feedback"].status == "drift"


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
