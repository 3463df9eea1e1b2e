"""The monitor on tables in an object store, by the command's and the pipeline's own code."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import boto3
import pyarrow as pa
import pytest
from monitored_data import CONFIG, FIRST_SERVED_DAY, START, feature_rows, interactions, make_reference, prediction_log
from moto.server import ThreadedMotoServer

from feedrank import delta, schema
from feedrank.errors import StorageError
from feedrank.monitoring.results import MonitoringResult
from feedrank.monitoring.rows import Sources
from feedrank.monitoring.run import monitor

NOW = START + timedelta(days=FIRST_SERVED_DAY + 2, minutes=10)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    variables = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
    for name, value in {**variables, "AWS_ENDPOINT_URL": address}.items():
        monkeypatch.setenv(name, value)
    boto3.resource("s3", region_name="us-east-1").Bucket("monitored").create()
    yield "s3://monitored"
    server.stop()


def write(rows: pa.Table, location: str, *, day_of: str) -> None:
    layout = delta.Layout(rows.schema, day_of=day_of)
    delta.create_table(location, layout=layout).append(rows, layout=layout)


def run(folder: Path, predictions: str, feedback: str) -> MonitoringResult:
    return monitor(
        reference_directory=folder / "reference", sources=Sources(predictions, feedback), output=folder / "output",
        config=CONFIG, now=NOW, channels=(),
    )  # fmt: skip


def test_tables_in_an_object_store_are_judged_and_a_missing_one_is_an_alarm(bucket: str, tmp_path: Path) -> None:
    make_reference(tmp_path / "reference")
    rows = feature_rows(3_000, day=FIRST_SERVED_DAY, days=2, seed=4)
    write(prediction_log(rows), f"{bucket}/predictions", day_of=schema.RECEIVED_AT)
    write(interactions(rows), f"{bucket}/interactions", day_of=schema.TIMESTAMP)
    result = run(tmp_path, f"{bucket}/predictions", f"{bucket}/interactions")
    assert (result.verdict, result.latest.feedback_in, result.latest.warnings) == ("healthy", True, [])
    assert 1_000 < result.latest.predictions < 2_000
    silent = run(tmp_path, f"{bucket}/nothing", f"{bucket}/interactions")
    assert silent.alarms[0].reason == f"no prediction was ever logged in {bucket}/nothing"


def test_a_store_that_does_not_answer_is_an_error_that_is_alerted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_reference(tmp_path / "reference")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setitem(delta.store.STORE_OPTIONS, "retry_timeout", "1s")
    with pytest.raises(StorageError, match=r"s3://monitored/predictions.*the store"):
        run(tmp_path, "s3://monitored/predictions", "s3://monitored/interactions")
