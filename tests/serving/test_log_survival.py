"""What becomes of the prediction log when processes die, and stores and disks fail."""

import subprocess
import time
from collections import Counter

import psutil
import pytest
from conftest import Predictor, log_lines, running
from live_traffic import Traffic, assert_logged_once

from feedrank import schema
from feedrank.prediction_log import read_log


def test_after_sigkill_the_log_is_completed_at_the_next_start(models, tmp_path):
    environment = {"LOG__FLUSH_INTERVAL_MS": "50", "LOG__FILE_INTERVAL_SECONDS": "60"}
    with running(tmp_path, models["v1.0.0"], environment=environment) as predictor:
        with Traffic.to(predictor) as traffic:
            time.sleep(1)
            answered = dict(traffic.answered)
            time.sleep(0.3)  # more than the flush interval
            for process in [*psutil.Process(predictor.process.pid).children(), psutil.Process(predictor.process.pid)]:
                process.kill()
            predictor.process.wait()
        assert not list(predictor.log_directory.rglob("*.parquet"))
    with running(tmp_path, models["v1.0.0"], environment=environment) as predictor:
        predictor.wait(lambda: predictor.metric("feedrank_log_rows_recovered_total") > 0)
        predictor.stop()
    assert len(answered) > 20
    assert_logged_once(predictor, answered)
    assert not [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]


def test_the_log_is_completed_without_a_start_when_only_the_predictor_dies(models, tmp_path):
    with running(tmp_path, models["v1.0.0"], environment={"LOG__FILE_INTERVAL_SECONDS": "60"}) as predictor:
        assert predictor.predict(1, [1, 2, 3]).status_code == 200
        predictor.wait(lambda: bool(psutil.Process(predictor.process.pid).children()))  # the log's process
        predictor.process.kill()
        predictor.process.wait()
    deadline = time.monotonic() + 20
    while not list(predictor.log_directory.glob("_delta_log/*1.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert_logged_once(predictor, {1: "v1.0.0"})


@pytest.mark.parametrize("policy", ["shed", "drop"])
def test_when_the_log_cannot_be_written_the_policy_applies_and_shows(models, tmp_path, policy):
    (tmp_path / "spool").write_text("a file where the spool's folder should be")
    environment = {"LOG__WHEN_FULL": policy, "LOG__QUEUE_MAX_REQUESTS": "5"}
    with running(tmp_path, models["v1.0.0"], environment=environment) as predictor:
        statuses = [predictor.predict(user, [1, 2]).status_code for user in range(10)]
        assert statuses == [200] * 5 + [503 if policy == "shed" else 200] * 5
        assert predictor.metric("feedrank_log_rows_dropped_total") == (0 if policy == "shed" else 10)
        predictor.wait(lambda: predictor.metric("feedrank_log_failing") == 1)
        assert predictor.health()["status"] == "degraded"
        assert "spool" in predictor.health()["problems"][0]
        (tmp_path / "spool").unlink()
        predictor.wait(
            lambda: predictor.predict(11, [1, 2]).status_code == 200 and not predictor.metric("feedrank_log_failing")
        )
        predictor.stop()
    assert_logged_subset(predictor, users={0, 1, 2, 3, 4, 11})


def assert_logged_subset(predictor: Predictor, *, users: set[int]) -> None:
    table = read_log(predictor.log_directory)
    assert users <= set(table[schema.USER_ID].to_pylist())
    assert len(set(table[schema.PREDICTION_ID].to_pylist())) == table.num_rows


def test_a_log_folder_that_cannot_be_written_costs_nothing_but_patience(models, tmp_path):
    (tmp_path / "log").write_text("a file where the log's folder should be")
    with running(tmp_path, models["v1.0.0"]) as predictor:
        answered = {user: predictor.predict(user, [1, 2, 3]).json()["model_version"] for user in range(20)}
        predictor.wait(lambda: predictor.metric("feedrank_log_failing") == 1)
        assert predictor.health()["status"] == "degraded"
        assert predictor.metric("feedrank_log_spool_bytes") > 0
        (tmp_path / "log").unlink()
        predictor.wait(lambda: predictor.health()["status"] == "healthy", seconds=40)
        predictor.stop()
    assert_logged_once(predictor, answered)


def test_an_unreachable_store_shows_and_is_no_reason_to_stop(models, tmp_path):
    uri = "s3://bucket/log"
    secrets = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "x"}
    secrets["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in secrets.items():
            patch.setenv(name, value)
        with running(
            tmp_path, models["v1.0.0"], "--log-dir", uri, environment={"DRAIN__TIMEOUT_SECONDS": "2"}
        ) as predictor:
            assert predictor.predict(1, [1]).status_code == 200
            predictor.wait(lambda: predictor.health()["problems"])
            assert predictor.predict(2, [1]).status_code == 200
            assert predictor.stop() == 0
    assert list((tmp_path / "spool").rglob("*.arrows"))


def test_a_full_disk_is_survived(models, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True, check=False
    ).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        environment = {"LOG__QUEUE_MAX_REQUESTS": "1000", "LOG__WHEN_FULL": "shed"}
        environment |= {f"LOG__{key}_INTERVAL_SECONDS": "600" for key in ("FILE", "COMMIT")}
        options = ("--spool-dir", str(disk / "spool"))
        with running(tmp_path, models["v1.0.0"], *options, environment=environment) as predictor:
            answered = {}
            for user in range(3000):
                response = predictor.predict(user, list(range(100)))
                assert response.status_code in (200, 503)
                if response.status_code == 200:
                    answered[user] = response.json()["model_version"]
            assert any("No space left" in line["message"] for line in log_lines(predictor))
            predictor.wait(lambda: predictor.predict(20_000, [1]).status_code == 200)
            assert predictor.stop() == 0
        rows = Counter(read_log(predictor.log_directory)[schema.USER_ID].to_pylist())
        assert {user: rows[user] for user in answered} == dict.fromkeys(answered, 100)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_damaged_spool_file_is_kept_and_shows_until_it_is_dealt_with(models, tmp_path):
    environment = {"LOG__FILE_INTERVAL_SECONDS": "60"}
    with running(tmp_path, models["v1.0.0"], environment=environment) as predictor:
        for user in (1, 2, 3):
            assert predictor.predict(user, [1, 2, 3]).status_code == 200
            time.sleep(0.5)  # each a batch of its own
        for process in [*psutil.Process(predictor.process.pid).children(), psutil.Process(predictor.process.pid)]:
            process.kill()
        predictor.process.wait()
    [file] = (tmp_path / "spool").rglob("*.open")
    data = file.read_bytes()
    second = data.find(b"\xff\xff\xff\xff", len(data) // 2 - 200)
    file.write_bytes(data[:second] + b"damage!!" + data[second + 8 :])
    with running(tmp_path, models["v1.0.0"], environment=environment) as predictor:
        predictor.wait(lambda: predictor.metric("feedrank_log_damaged_files") == 1)
        health = predictor.health()
        assert (health["status"], predictor.predict(4, [1]).status_code) == ("degraded", 200)
        assert "1 damaged files kept aside" in health["problems"][0]
        [aside] = (tmp_path / "spool").rglob("*.damaged")
        predictor.wait(
            lambda: any(str(file.with_suffix(".arrows")) in line["message"] for line in log_lines(predictor))
        )
        users = set(read_log(predictor.log_directory)[schema.USER_ID].to_pylist())
        assert 1 in users
        assert len(users) == 2
        aside.unlink()
        predictor.wait(lambda: predictor.health()["status"] == "healthy")
