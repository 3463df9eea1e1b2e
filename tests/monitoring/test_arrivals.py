"""How far the log and the feedback reach, and their files wherever they lie."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from monitored_data import START, feature_rows, interactions, prediction_log

from feedrank import delta, schema
from feedrank.monitoring.arrivals import Arrivals, FeedbackOfTime, read_arrivals
from feedrank.monitoring.data_files import day_files
from feedrank.monitoring.rows import Sources
from feedrank.tables import write_partitioned

Write = Callable[[pa.Table, Path], None]
NOW = START + timedelta(days=3)


def as_table(rows: pa.Table, location: Path) -> None:
    layout = delta.Layout(rows.schema, day_of=schema.TIMESTAMP)
    delta.create_table(location, layout=layout).append(rows, layout=layout)


def as_folder(rows: pa.Table, location: Path) -> None:
    write_partitioned(rows, location)


@pytest.fixture(params=[as_folder, as_table])
def write(request: pytest.FixtureRequest) -> Write:
    return request.param


def arrivals(folder: Path, now: datetime = NOW) -> Arrivals:
    return read_arrivals(Sources(folder / "log", folder / "seen"), now=now, days=2)


def test_the_first_and_the_latest_time_and_the_feedback_of_each_hour_are_known(tmp_path: Path, write: Write) -> None:
    served = feature_rows(300, day=0, days=3)
    seen = interactions(served.slice(0, 250))
    write(prediction_log(served), tmp_path / "log")
    write(seen, tmp_path / "seen")
    found = arrivals(tmp_path)
    times = prediction_log(served)[schema.RECEIVED_AT].to_pylist()
    assert (found.first_prediction, found.latest_prediction) == (times[0], times[-1])
    assert found.latest_feedback == seen[schema.TIMESTAMP].to_pylist()[-1]
    start, end = START + timedelta(hours=30), START + timedelta(hours=54)
    inside = [row for row in seen.to_pylist() if start <= row[schema.TIMESTAMP] < end]
    assert found.feedback(start, end) == FeedbackOfTime(len(inside), sum(row[schema.CLICK] for row in inside))
    assert found.feedback(end, end) == FeedbackOfTime()


def test_rows_from_the_future_say_nothing_about_arrival(tmp_path: Path, write: Write) -> None:
    rows = interactions(feature_rows(300, day=0, days=3))
    write(rows, tmp_path / "seen")
    now = START + timedelta(days=1, hours=5)
    found = arrivals(tmp_path, now)
    assert found.latest_feedback == max(time for time in rows[schema.TIMESTAMP].to_pylist() if time <= now)
    assert found.feedback(now, NOW) == FeedbackOfTime()
    assert arrivals(tmp_path, START - timedelta(days=9)).latest_feedback is None


def test_nothing_and_damaged_files_are_nothing_that_arrived(tmp_path: Path) -> None:
    assert arrivals(tmp_path) == Arrivals(None, None, None, {})
    (tmp_path / "log" / "date=2024-01-02").mkdir(parents=True)
    (tmp_path / "log" / "date=2024-01-02" / "part-0.parquet").write_bytes(b"PAR1")
    assert arrivals(tmp_path).latest_prediction is None


def test_a_table_has_the_files_of_its_snapshot_only(tmp_path: Path) -> None:
    rows = interactions(feature_rows(100, day=0, days=2))
    as_table(rows, tmp_path)
    layout = delta.Layout(schema.INTERACTIONS, day_of=schema.TIMESTAMP)
    before = day_files(tmp_path)
    delta.open_table(tmp_path).append(rows, layout=layout).compact()
    after = day_files(tmp_path)
    assert list(after) == list(before) == [START.date(), START.date() + timedelta(days=1)]
    assert {len(files) for files in after.values()} == {1}
    assert list(day_files(tmp_path, start=START.date() + timedelta(days=1))) == [START.date() + timedelta(days=1)]


@pytest.mark.parametrize(
    ("rows", "clicks", "differs"),
    [(100, 10, False), (102, 10, False), (103, 10, True), (100, 11, True), (97, 10, True)],
)
def test_late_feedback_counts_when_it_changes_rows_or_clicks_by_more_than_a_share(
    rows: int, clicks: int, differs: bool
) -> None:
    assert FeedbackOfTime(rows, clicks).differs_from(FeedbackOfTime(100, 10), share=0.02) == differs
