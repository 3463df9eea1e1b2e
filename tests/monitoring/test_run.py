"""A whole monitoring run: from logs to verdict, alerts, trigger and report."""

import html
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from monitored_data import CONFIG, FIRST_SERVED_DAY, START, feature_rows, make_reference, serve, with_column

from feedrank import schema
from feedrank.config import MonitoringConfig
from feedrank.config.feed import Feed
from feedrank.errors import DataError, StorageError
from feedrank.monitoring.channels import Message
from feedrank.monitoring.results import MonitoringResult, TriggerDecision
from feedrank.monitoring.rows import Sources
from feedrank.monitoring.run import monitor
from feedrank.monitoring.triggers import FILE as RETRAINING_FILE
from feedrank.monitoring.triggers import SUCCEEDED, RetrainingLog
from feedrank.tables import timestamps_us, write_partitioned

DAYS = 3
ROWS_PER_DAY = 1_500
NOW = START + timedelta(days=FIRST_SERVED_DAY + DAYS, minutes=10)


class Outbox:
    """A channel that keeps its messages."""

    name = "outbox"

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def send(self, message: Message) -> None:
        self.messages.append(message)


class House:
    """A reference and served days in a folder, and the runs of the monitor on them."""

    def __init__(self, directory: Path, reference: Path) -> None:
        self.directory, self.reference, self.outbox = directory, reference, Outbox()

    def serve(self, day: int, *, shift: float = 0.0) -> None:
        rows = feature_rows(ROWS_PER_DAY, day=FIRST_SERVED_DAY + day, seed=100 + day)
        values = rows["item_popularity"].to_numpy() + shift
        serve(with_column(rows, "item_popularity", values), self.directory)

    def run(self, now: datetime = NOW, *, config: MonitoringConfig = CONFIG, **options) -> MonitoringResult:  # type: ignore[no-untyped-def]
        sources = Sources(predictions=self.directory / "predictions", feedback=self.directory / "interactions")
        return monitor(
            reference_directory=self.reference, sources=sources, output=self.directory / "output", config=config,
            now=now, channels=[self.outbox], **options,
        )  # fmt: skip

    def retraining_events(self) -> list[str]:
        path = self.directory / "output" / RETRAINING_FILE
        return [json.loads(line)["event"] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("reference")
    make_reference(directory)
    return directory


@pytest.fixture
def house(tmp_path: Path, reference: Path) -> House:
    return House(tmp_path, reference)


@pytest.fixture
def clean(house: House) -> House:
    for day in range(DAYS):
        house.serve(day)
    return house


@pytest.fixture
def drifted(house: House) -> House:
    for day in range(DAYS):
        house.serve(day, shift=1.0 if day == DAYS - 1 else 0.0)
    return house


def test_clean_traffic_is_healthy_and_silent(clean: House) -> None:
    result = clean.run()
    assert result.verdict == "healthy"
    assert not result.alarms
    assert not clean.outbox.messages
    assert "no drift" in result.headline
    assert not result.latest.warnings


def test_drift_raises_an_alarm_sends_one_message_and_starts_one_retraining(drifted: House) -> None:
    started: list[TriggerDecision] = []
    result = drifted.run(start_retraining=started.append)
    assert [alarm.signal for alarm in result.alarms] == ["item_popularity"]
    assert result.trigger.start
    assert [decision.request_id for decision in started] == [result.trigger.request_id]
    (message,) = drifted.outbox.messages
    assert message.title == result.headline
    assert "item_popularity moved: KS distance" in message.text
    again = drifted.run(NOW + timedelta(hours=1), start_retraining=started.append)
    assert "runs since" in again.trigger.refused_because
    assert len(started) == len(drifted.outbox.messages) == 1
    assert drifted.retraining_events() == ["requested", "refused"]
    RetrainingLog(drifted.directory / "output", config=CONFIG.retraining).finish(
        result.trigger.request_id, outcome=SUCCEEDED, now=NOW
    )
    later = drifted.run(NOW + timedelta(hours=CONFIG.retraining.cool_down_hours), start_retraining=started.append)
    assert "had all feedback that there is" in later.trigger.refused_because


def test_the_result_is_saved_as_json_with_a_report_that_needs_no_other_file(drifted: House) -> None:
    result = drifted.run()
    report = Path(result.report)
    assert MonitoringResult.model_validate_json((report.parent / "result.json").read_bytes()) == result
    page = report.read_text()
    assert result.headline in page
    assert page.count("data:image/png;base64,") == 2
    assert "http://" not in page
    assert "https://" not in page


def test_the_history_has_one_row_per_window_and_signal(clean: House) -> None:
    result = clean.run()
    history = pq.ParquetFile(clean.directory / "output" / "history.parquet").read()
    assert history.num_rows == sum(len(window.signals) for window in result.windows)
    clean.run()
    assert pq.ParquetFile(clean.directory / "output" / "history.parquet").read().num_rows == history.num_rows


def test_the_next_run_judges_every_window_that_was_missed(clean: House) -> None:
    clean.run(NOW - timedelta(days=1))
    result = clean.run()
    step = timedelta(hours=CONFIG.window.step_hours)
    assert len(result.windows) == timedelta(days=1) // step
    assert {b.end - a.end for a, b in zip(result.windows, result.windows[1:], strict=False)} == {step}


def test_an_empty_log_is_an_alarm_of_its_own_and_none_of_drift(house: House) -> None:
    result = house.run()
    assert [(alarm.signal, alarm.kind) for alarm in result.alarms] == [("predictions", "arrival")]
    assert f"no prediction was ever logged in {house.directory / 'predictions'}" in house.outbox.messages[0].text
    assert not result.trigger.reasons
    assert any("no data of" in warning for warning in result.latest.warnings)


def test_a_log_whose_feedback_stopped_raises_an_alarm_but_no_retraining(clean: House) -> None:
    for file in (clean.directory / "interactions").rglob("*.parquet"):
        file.unlink()
    result = clean.run()
    assert [alarm.signal for alarm in result.alarms] == ["feedback"]
    assert "for 72 hours (limit 30), there was never any" in result.headline
    assert not result.trigger.start


def test_no_retraining_starts_on_broken_feedback(drifted: House) -> None:
    for file in (drifted.directory / "interactions").rglob("*.parquet"):
        table = pq.ParquetFile(file).read()
        milliseconds = pa.array(table[schema.DWELL_TIME].to_numpy() * 1_000)
        place = table.schema.get_field_index(schema.DWELL_TIME)
        pq.write_table(table.set_column(place, table.schema.field(place), milliseconds), file)
    result = drifted.run()
    assert {alarm.signal for alarm in result.alarms} == {"item_popularity", "bad_feedback"}
    assert "broken feedback" in result.trigger.refused_because
    assert "of the feedback is impossible" in result.trigger.refused_because
    record = RetrainingLog(drifted.directory / "output", config=CONFIG.retraining)
    assert not record.decide(["it was scheduled"], now=NOW).start, "the schedule does not either"


def test_retrainings_are_allowed_again_once_the_alarm_of_the_feedback_is_over(drifted: House) -> None:
    record = RetrainingLog(drifted.directory / "output", config=CONFIG.retraining)
    record.note_feedback("only 3 % of the requests got feedback", now=NOW - timedelta(hours=3))
    assert not record.decide(["it was scheduled"], now=NOW).start
    assert drifted.run().trigger.start
    assert drifted.retraining_events() == ["feedback_broken", "refused", "feedback_mended", "requested"]


def test_a_truncated_file_is_a_warning_and_the_rest_is_judged(clean: House) -> None:
    file = next((clean.directory / "predictions").rglob("*.parquet"))
    last = sorted((clean.directory / "predictions").rglob("*.parquet"))[-1]
    (last.parent / "part-9.parquet").write_bytes(file.read_bytes()[:1_000])
    result = clean.run()
    assert result.verdict == "healthy"
    assert any("part-9.parquet" in warning for warning in result.latest.warnings)


def test_another_deployed_model_is_named_instead_of_compared(clean: House) -> None:
    for file in (clean.directory / "predictions").rglob("*.parquet"):
        table = pq.ParquetFile(file).read()
        place = table.schema.get_field_index(schema.MODEL_VERSION)
        other = pa.array(["v2.0.0"] * table.num_rows)
        pq.write_table(table.set_column(place, table.schema.field(place), other), file)
    result = clean.run()
    assert result.verdict == "not_enough_data"
    assert any("only of v2.0.0" in warning for warning in result.latest.warnings)
    assert [metrics.name for metrics in result.latest.versions] == ["v2.0.0"]


def shifted(folder: Path, hours: int) -> None:
    """Rewrites a table as if its times had been so much later."""
    tables = [pq.ParquetFile(file).read() for file in sorted(folder.rglob("*.parquet"))]
    shutil.rmtree(folder)
    table = pa.concat_tables(tables)
    place = table.schema.get_field_index(schema.TIMESTAMP)
    times = pa.array(timestamps_us(table) + hours * 3_600_000_000).cast(schema.TIMESTAMP_TYPE)
    write_partitioned(table.set_column(place, table.schema.field(place), times), folder)


@pytest.mark.parametrize(
    ("table", "hours", "clock"),
    [
        ("predictions", 9, "of the predictor and of clients"),
        ("predictions", 24 * 400, "of the predictor"),
        ("interactions", 9, "of what writes the feedback"),
    ],
)
def test_rows_from_the_future_are_a_warning_in_result_report_headline_and_alert(
    clean: House, table: str, hours: int, clock: str
) -> None:
    shifted(clean.directory / table, hours)
    result = clean.run()
    (warning,) = result.latest.clock_warnings
    folder = clean.directory / table
    count = sum(
        time > NOW + timedelta(seconds=CONFIG.window.clock_skew_seconds)
        for file in folder.rglob("*.parquet")
        for time in pq.ParquetFile(file).read()[schema.TIMESTAMP].to_pylist()
    )
    assert count > 400
    assert f"{folder}: {count} rows are stamped in the future (the latest 20" in warning
    assert clock in warning
    assert warning in result.latest.warnings
    assert "Rows are stamped in the future" in result.headline
    assert warning in html.unescape(Path(result.report).read_text())
    (message,) = clean.outbox.messages
    assert f"- warning: {warning}" in message.text
    assert "clock" in result.alerts.sent
    assert "clock" in clean.run(NOW + timedelta(hours=1)).alerts.suppressed


def test_a_run_in_another_zone_judges_and_names_the_same_windows(clean: House) -> None:
    result = clean.run(NOW.astimezone(timezone(timedelta(hours=9))))
    assert result.headline == clean.run().headline
    assert not result.latest.warnings


def test_another_deployed_model_is_named_before_it_has_any_feedback(clean: House) -> None:
    for file in (clean.directory / "predictions").rglob("*.parquet"):
        table = pq.ParquetFile(file).read()
        place = table.schema.get_field_index(schema.MODEL_VERSION)
        pq.write_table(table.set_column(place, table.schema.field(place), [["v2.0.0"] * table.num_rows]), file)
    for file in (clean.directory / "interactions").rglob("*.parquet"):
        file.unlink()
    assert any("no predictions of model v1.0.0, only of v2.0.0" in warning for warning in clean.run().latest.warnings)


def test_predictions_without_feedback_are_no_sign_of_another_model(clean: House) -> None:
    for file in (clean.directory / "interactions").rglob("*.parquet"):
        file.unlink()
    assert not any("another model" in warning for warning in clean.run().latest.warnings)


def test_the_headline_names_every_alarm_and_the_message_has_each_reason(house: House) -> None:
    moved = [n for n, form in Feed().features.items() if not (form.categorical or form.cumulative)][:5]
    for day in range(DAYS):
        rows = feature_rows(ROWS_PER_DAY, day=FIRST_SERVED_DAY + day, seed=100 + day)
        for name in moved if day == DAYS - 1 else ():
            rows = with_column(rows, name, rows[name].to_numpy() + 10)
        serve(rows, house.directory)
    result = house.run()
    (message,) = house.outbox.messages
    assert len(result.alarms) >= len(moved)
    assert f": {len(result.alarms)} alarms: " in message.title
    for alarm in result.alarms:
        assert alarm.signal in message.title
        assert f"- {alarm.reason}" in message.text


def test_a_missing_reference_is_alerted_and_raised_and_the_next_run_catches_up(clean: House) -> None:
    reference, clean.reference = clean.reference, clean.directory / "nowhere"
    with pytest.raises(DataError, match="train a model"):
        clean.run()
    (message,) = clean.outbox.messages
    assert message.title == "feedrank monitoring failed (DataError)"
    clean.reference = reference
    assert clean.run().verdict == "healthy"


def test_a_retraining_that_cannot_be_started_is_alerted_and_tried_again(drifted: House) -> None:
    def unreachable(_: TriggerDecision) -> None:
        raise ConnectionError("KFP does not answer")

    result = drifted.run(start_retraining=unreachable)
    assert "KFP does not answer" in result.trigger.refused_because
    assert any("KFP does not answer" in message.text for message in drifted.outbox.messages)
    started: list[TriggerDecision] = []
    drifted.run(NOW + timedelta(hours=1), start_retraining=started.append)
    assert len(started) == 1


class MetricsHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"error_rate": 0.2, "requests_total": 1000}')

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def metrics_server() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), MetricsHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
    server.shutdown()
    server.server_close()


def test_the_error_rate_of_the_predictor_is_judged_and_its_absence_is_a_warning(clean: House) -> None:
    def with_url(url: str) -> MonitoringConfig:
        performance = CONFIG.performance.model_copy(update={"metrics_url": url})
        return CONFIG.model_copy(update={"performance": performance})

    with metrics_server() as url:
        signals = {signal.name: signal for signal in clean.run(config=with_url(url)).latest.signals}
        assert signals["error_rate"].status == "drift"
    gone = clean.run(config=with_url(url)).latest
    assert any("metrics could not be read" in warning for warning in gone.warnings)


HOLDER = """
import sys, time
from pathlib import Path
from feedrank import storage
with storage.exclusive(Path(sys.argv[1]) / "monitor"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_monitor_refuses_and_a_killed_one_blocks_nobody(clean: House) -> None:
    output = clean.directory / "output"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(output)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StorageError, match="another monitor runs on this folder"):
        clean.run()
    assert not clean.outbox.messages
    holder.kill()
    holder.communicate()
    assert clean.run().verdict == "healthy"


def test_segments_show_where_the_drift_is(house: House) -> None:
    for day in range(DAYS):
        rows = feature_rows(6_000, day=FIRST_SERVED_DAY + day, seed=100 + day)
        mobile = rows["device_mobile"].to_numpy() == 1
        shift = 2.0 if day == DAYS - 1 else 0.0
        values = rows["item_popularity"].to_numpy() + np.where(mobile, 0, shift)
        serve(with_column(rows, "item_popularity", values), house.directory)
    segments = {segment.metrics.name: segment for segment in house.run().latest.segments}
    assert not segments["mobile"].drifted
    assert segments["desktop"].drifted == ["item_popularity"]
