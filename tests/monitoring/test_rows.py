"""The rows of a window, sampled by users, and its counts over everybody."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from monitored_data import CONFIG, START, VERSION, feature_rows, interactions, prediction_log

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.monitoring.rows import Sources, WindowRows, flat_log, read_window
from feedrank.tables import write_partitioned

END = START + timedelta(days=2)
ROWS = 3_000


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """A day before the window and its day; every second prediction has feedback."""
    directory = tmp_path_factory.mktemp("served")
    sources = Sources(directory / "predictions", directory / "interactions")
    rows = pa.concat_tables([feature_rows(ROWS, day=0), feature_rows(ROWS, day=1, seed=1)])
    write_partitioned(prediction_log(rows), sources.predictions)
    write_partitioned(interactions(rows.take(pa.array(np.arange(0, rows.num_rows, 2)))), sources.feedback)
    return sources


def read(sources: Sources, *, max_rows: int = 10_000_000) -> WindowRows:
    window = CONFIG.window.model_copy(update={"max_read_rows": max_rows})
    return read_window(END, sources=sources, feed=Feed(), config=CONFIG.model_copy(update={"window": window}))


def test_few_rows_are_all_kept_flat_and_in_time_order(sources: Sources) -> None:
    window = read(sources)
    assert window.user_share == 1
    assert window.predictions.schema.equals(flat_log(Feed()))
    assert abs(window.predictions.num_rows - ROWS) < 10
    times = window.predictions[schema.TIMESTAMP].to_pylist()
    assert times == sorted(times)
    assert window.start <= times[0]


def test_of_many_rows_a_sample_of_the_users_is_kept_whole(sources: Sources) -> None:
    everybody, sample = read(sources), read(sources, max_rows=1_000)
    assert 200 < sample.predictions.num_rows < 800
    users = set(sample.predictions[schema.USER_ID].to_pylist())
    expected = everybody.predictions.filter(
        pa.array([user in users for user in everybody.predictions[schema.USER_ID].to_pylist()])
    )
    assert sample.predictions.num_rows == expected.num_rows
    assert set(sample.feedback[schema.USER_ID].to_pylist()) & users
    assert sample.joined.counts.joined == pytest.approx(sample.predictions.num_rows / 2, abs=60)


def test_volume_versions_and_latency_are_those_of_all_rows_however_few_are_kept(sources: Sources) -> None:
    everybody, sample = read(sources), read(sources, max_rows=1_000)
    assert sample.total_predictions == everybody.total_predictions == everybody.predictions.num_rows
    assert sample.version_rows == {VERSION: sample.total_predictions}
    assert sample.latency == everybody.latency
    assert sample.latency.p99_ms == pytest.approx(5, rel=0.006)
    assert [hour.predictions for hour in sample.hours] == [hour.predictions for hour in everybody.hours]
    assert sum(hour.predictions for hour in sample.hours) == sample.total_predictions


def test_each_hour_says_how_many_of_its_requests_have_feedback(sources: Sources) -> None:
    hours = read(sources).hours
    assert len(hours) == 24
    assert hours[0].start == END - timedelta(days=1)
    assert sum(hour.sampled_requests for hour in hours) == sum(hour.requests for hour in hours)
    assert all(0.3 < hour.answered_requests / hour.sampled_requests < 0.7 for hour in hours)


def test_the_same_window_is_the_same_sample_each_time(sources: Sources) -> None:
    assert read(sources, max_rows=500).predictions.equals(read(sources, max_rows=500).predictions)


def test_nothing_is_an_empty_window_with_warnings(tmp_path: Path) -> None:
    window = read(Sources(tmp_path / "a", tmp_path / "b"))
    assert window.predictions.num_rows == window.total_predictions == window.latency.requests == 0
    assert len(window.warnings) == 2
