"""Starting, reloading, draining, dying and shedding, with real processes and signals."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import httpx
import psutil
import pytest
import tritonclient.grpc as triton_grpc
from conftest import Predictor, log_lines, running

from feedrank import schema
from feedrank.features.snapshot import SnapshotInfo, publish_snapshot
from feedrank.model.bundle import CHECKSUMS_FILE
from feedrank.prediction_log import read_log
from serving.metrics import STALE_SECONDS


class Traffic:
    """Requests of unique users from several threads, until told to stop."""

    def __init__(self, predictor: Predictor, *, threads: int = 4) -> None:
        self._url = f"{predictor.url}/predict"
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(threads)]
        self._stop = threading.Event()
        self.answered: dict[int, str] = {}
        """Model version by user."""
        self.failures: list[str] = []

    def _run(self, number: int) -> None:
        user = number * 1_000_000
        with httpx.Client(timeout=20) as client:
            while not self._stop.is_set():
                user += 1
                try:
                    response = client.post(self._url, json={"user_id": user, "item_ids": [1, 2, 3]})
                except httpx.TransportError as error:
                    self.failures.append(repr(error))
                    continue
                if response.status_code == 200:
                    self.answered[user] = response.json()["model_version"]
                else:
                    self.failures.append(f"{response.status_code} {response.text}")

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @staticmethod
    @contextmanager
    def to(predictor: Predictor) -> Iterator["Traffic"]:
        traffic = Traffic(predictor)
        for thread in traffic._threads:
            thread.start()
        try:
            yield traffic
        finally:
            traffic.stop()


def assert_logged_once(predictor: Predictor, answered: dict[int, str]) -> None:
    """Every answered prediction is in the log exactly once, as it was answered."""
    table = read_log(predictor.log_directory)
    versions = dict(zip(table[schema.USER_ID].to_pylist(), table[schema.MODEL_VERSION].to_pylist(), strict=True))
    rows = Counter(table[schema.USER_ID].to_pylist())
    assert {user: rows[user] for user in answered} == dict.fromkeys(answered, 3)
    assert {user: versions[user] for user in answered} == answered
    assert len(set(table[schema.PREDICTION_ID].to_pylist())) == table.num_rows


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def test_without_a_model_it_lives_but_is_not_ready_and_takes_the_model_when_it_comes(models, tmp_path):
    folder = tmp_path / "model"
    with running(tmp_path, folder, ready=False) as predictor:
        predictor.wait(lambda: predictor.health()["problems"])
        assert predictor.http.get("/v2/health/live").status_code == 200
        assert predictor.http.get("/v2/health/ready").status_code == 503
        assert predictor.http.get("/v1/models/feedrank-ranker").status_code == 503
        assert predictor.http.get("/health").status_code == 503
        assert predictor.health()["status"] == "not_ready"
        refused = predictor.predict(1, [1])
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        for path in ("/v1/models/feedrank-ranker:predict", "/v2/models/feedrank-ranker/infer"):
            assert predictor.http.post(path, json={"instances": [], "inputs": []}).status_code == 503
        rpc = triton_grpc.InferenceServerClient(f"127.0.0.1:{predictor.grpc_port}")
        assert rpc.is_server_live()
        assert not rpc.is_server_ready()
        copy(models["v1.0.0"], folder)
        predictor.wait_ready()
        assert predictor.predict(1, [1]).status_code == 200
        assert predictor.health()["problems"] == []


def test_reloads_under_load_fail_no_request_and_lose_no_row(models, tmp_path):
    link = tmp_path / "champion"
    link.symlink_to(models["v1.0.0"])
    with running(tmp_path / "run", link) as predictor:
        with Traffic.to(predictor) as traffic:
            for version in ("v1.0.1", "v2.0.0", "v1.0.0", "v2.0.0"):
                fresh = tmp_path / "new"
                fresh.symlink_to(models[version])
                fresh.rename(link)
                predictor.wait(lambda: predictor.health()["model_version"] == version)  # noqa: B023
        assert predictor.http.post("/admin/reload").json() == {"reloaded": False, "model_version": "v2.0.0"}
        assert predictor.metric("feedrank_reloads_total", result="ok") == 5
        assert predictor.stop() == 0
    assert traffic.failures == []
    assert set(traffic.answered.values()) == {"v1.0.0", "v1.0.1", "v2.0.0"}
    assert_logged_once(predictor, traffic.answered)


def spoil(model: Path, how: str) -> None:
    if how == "truncated":
        file = next((model / "arrays").glob("item_embedding*"))
        os.truncate(file, file.stat().st_size // 2)
    elif how == "tampered":
        metadata = model / "model_metadata.json"
        metadata.write_text(metadata.read_text().replace('"metrics": {}', '"metrics": {"auc": 1.0}'))
    elif how == "another schema":
        metadata = model / "model_metadata.json"
        text = json.loads(metadata.read_text())
        metadata.write_text(json.dumps(text | {"feature_fingerprint": "0" * 16}))
        sums = json.loads((model / CHECKSUMS_FILE).read_text())
        digest = subprocess.run(["sha256sum", metadata], capture_output=True, check=True, text=True).stdout.split()[0]
        (model / CHECKSUMS_FILE).write_text(json.dumps(sums | {"model_metadata.json": digest}))
    else:
        (model / "model_config.json").unlink()


def test_a_model_that_cannot_be_used_keeps_the_old_one_serving_and_shows(models, tmp_path):
    link = tmp_path / "champion"
    link.symlink_to(models["v1.0.0"])
    with running(tmp_path / "run", link) as predictor:
        for number, how in enumerate(("truncated", "tampered", "another schema", "incomplete"), start=1):
            bad = copy(models["v1.0.1"], tmp_path / how.replace(" ", "-"))
            spoil(bad, how)
            (tmp_path / "new").symlink_to(bad)
            (tmp_path / "new").rename(link)
            response = predictor.http.post("/admin/reload", timeout=60)
            assert response.status_code == 409, how
            assert str(bad.resolve()) in response.json()["reason"]
            health = predictor.health()
            assert (health["status"], health["model_version"]) == ("degraded", "v1.0.0")
            assert health["problems"][0].startswith("model: ")
            assert predictor.metric("feedrank_reloads_total", result="failed") >= number
            assert predictor.predict(1, [1]).json()["model_version"] == "v1.0.0"
        assert any("can't load the model" in line["message"] for line in log_lines(predictor))
        link.unlink()
        assert predictor.http.post("/admin/reload").status_code == 409
        link.symlink_to(models["v1.0.1"])
        assert predictor.http.post("/admin/reload", timeout=60).json()["model_version"] == "v1.0.1"
        assert predictor.health()["status"] == "ok"


def test_online_features_are_those_published_once_they_are_newer_than_the_models(models, tmp_path):
    published = tmp_path / "online"
    newer = copy(models["v1.0.1"] / "snapshot", tmp_path / "newer")
    info = SnapshotInfo.model_validate_json((newer / "snapshot.json").read_text())
    cutoff = info.cutoff + timedelta(days=1)
    (newer / "snapshot.json").write_text(info.model_copy(update={"cutoff": cutoff}).model_dump_json())

    def scores():
        answer = predictor.predict(5, [1, 2], timestamp="2024-12-16T00:00:00Z").json()
        return {p["item_id"]: p["score"] for p in answer["predictions"]}

    with running(tmp_path / "run", models["v1.0.0"], "--snapshot", str(published / "current")) as predictor:
        own = scores()
        publish_snapshot(newer, published)
        predictor.wait(lambda: predictor.health()["snapshot_cutoff"] == cutoff.isoformat())
        assert predictor.metric("feedrank_snapshot_cutoff_timestamp_seconds") == cutoff.timestamp()
        assert scores() != pytest.approx(own)
        publish_snapshot(models["v1.0.1"] / "snapshot", published)
        predictor.wait(lambda: predictor.metric("feedrank_reloads_total", result="ok") == 3)
        assert scores() == pytest.approx(own)


def test_sigterm_under_load_drains_without_a_failure_or_a_lost_row(models, tmp_path):
    with running(tmp_path, models["v1.0.0"], environment={"DRAIN__DELAY_SECONDS": "1.5"}) as predictor:
        with Traffic.to(predictor) as traffic:
            time.sleep(0.5)
            predictor.process.send_signal(signal.SIGTERM)
            predictor.wait(lambda: predictor.http.get("/v2/health/ready").status_code == 503)
            assert predictor.health()["status"] == "draining"
            fresh = httpx.post(f"{predictor.url}/predict", json={"user_id": 99_000_000, "item_ids": [1, 2, 3]})
            assert (fresh.status_code, fresh.headers["connection"]) == (200, "close")
            before = len(traffic.answered)
            time.sleep(0.3)
            assert len(traffic.answered) > before  # who has not noticed yet is still answered
        assert predictor.process.wait(30) == 0
    assert traffic.failures == []
    assert_logged_once(predictor, traffic.answered | {99_000_000: "v1.0.0"})


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
    while not list(predictor.log_directory.rglob("*.parquet")) and time.monotonic() < deadline:
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
        predictor.wait(lambda: predictor.health()["status"] == "ok", seconds=40)
        predictor.stop()
    assert_logged_once(predictor, answered)


def test_an_unreachable_store_shows_and_is_no_reason_to_stop(models, tmp_path):
    uri = "s3://bucket/log?endpoint_override=127.0.0.1:9&scheme=http&region=x&connect_timeout=1&request_timeout=1"
    secrets = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
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
        environment = {"LOG__QUEUE_MAX_REQUESTS": "1000", "LOG__FILE_INTERVAL_SECONDS": "600"}
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


def test_two_workers_answer_as_one(models, tmp_path):
    with running(tmp_path, models["v1.0.0"], "--workers", "2") as predictor:
        children = psutil.Process(predictor.process.pid).children()
        assert len(children) == 2
        predictor.wait(lambda: predictor.metric("feedrank_ready_workers") == 2)

        def ask(user: int) -> int:
            return httpx.post(f"{predictor.url}/predict", json={"user_id": user, "item_ids": [1, 2, 3]}).status_code

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(ask, range(200))) == {200}
        time.sleep(0.7)  # each worker publishes its counts every quarter of a second
        scrapes = {scraped(predictor) for _ in range(20)}
        assert scrapes == {200.0}
        children[0].kill()
        predictor.wait(lambda: others(predictor, children[0]) == 2)
        time.sleep(STALE_SECONDS)
        predictor.wait(lambda: predictor.metric("feedrank_ready_workers") == 2)
        assert scraped(predictor) == 200.0
        assert predictor.stop() == 0
    assert_logged_once(predictor, dict.fromkeys(range(200), "v1.0.0"))


def others(predictor: Predictor, killed: psutil.Process) -> int:
    return sum(child.pid != killed.pid for child in psutil.Process(predictor.process.pid).children())


def scraped(predictor: Predictor) -> float:
    """Over a connection of its own, so that either worker may answer."""
    kept = predictor.http
    with httpx.Client(base_url=predictor.url) as predictor.http:
        requests = predictor.metric("feedrank_requests_total", route="predict", status="200")
    predictor.http = kept
    return requests


def test_a_token_is_asked_for_where_it_matters_and_may_change(models, tmp_path):
    token = tmp_path / "token"
    token.write_text("first\n")
    with running(tmp_path / "run", models["v1.0.0"], "--token-file", str(token)) as predictor:
        body = {"user_id": 1, "item_ids": [1]}

        def status(path: str, given: str | None, method: str = "POST") -> int:
            headers = {} if given is None else {"authorization": f"Bearer {given}"}
            return predictor.http.request(method, path, json=body, headers=headers).status_code

        assert status("/predict", "first") == 200
        assert status("/predict", None) == status("/predict", "wrong") == 401
        assert status("/v1/models/feedrank-ranker:predict", None) == 401
        assert status("/v2/models/feedrank-ranker/infer", None) == 401
        assert status("/admin/reload", None) == status("/config", None, "GET") == 401
        assert status("/health", None, "GET") == status("/metrics", None, "GET") == 200
        rpc = triton_grpc.InferenceServerClient(f"127.0.0.1:{predictor.grpc_port}")
        assert rpc.is_server_ready()
        with pytest.raises(triton_grpc.InferenceServerException, match="UNAUTHENTICATED"):
            rpc.get_model_metadata("feedrank-ranker")
        assert rpc.get_model_metadata("feedrank-ranker", headers={"authorization": "Bearer first"}).name
        token.write_text("second")
        predictor.wait(lambda: status("/predict", "second") == 200)
        assert status("/predict", "first") == 401


def test_overload_is_shed_at_once_and_a_slow_body_does_not_wait_for_ever(models, tmp_path):
    environment = {"LIMITS__MAX_CONCURRENCY": "2", "LIMITS__BODY_TIMEOUT_SECONDS": "1"}
    with running(tmp_path, models["v1.0.0"], environment=environment) as predictor:

        def slow() -> Iterator[bytes]:
            yield b"{"
            time.sleep(3)
            yield b"}"

        def send(_: int) -> int:
            with suppress(httpx.WriteError):
                headers = {"content-type": "application/json"}
                return httpx.post(f"{predictor.url}/predict", content=slow(), headers=headers, timeout=10).status_code
            return 408

        with ThreadPoolExecutor(2) as pool:
            held = pool.map(send, range(2))
            predictor.wait(lambda: predictor.predict(1, [1]).status_code == 503, seconds=5)
            refused = predictor.predict(1, [1])
            assert refused.status_code == 200 or refused.headers["retry-after"] == "1"
            assert set(held) == {408}
        assert predictor.predict(1, [1]).status_code == 200
        assert predictor.metric("feedrank_errors_total", kind="overloaded") > 0


def test_reload_is_for_this_machine_only(models, tmp_path):
    addresses = [a.address for nics in psutil.net_if_addrs().values() for a in nics if a.family.name == "AF_INET"]
    other = next((a for a in addresses if not a.startswith("127.")), None)
    if other is None:
        pytest.skip("this machine has no other address")
    with running(tmp_path, models["v1.0.0"], "--host", "0.0.0.0") as predictor:
        assert httpx.post(f"http://{other}:{predictor.http_port}/admin/reload").status_code == 403
        forwarded = {"x-forwarded-for": "10.0.0.1"}
        assert predictor.http.post("/admin/reload", headers=forwarded).status_code == 403
        assert predictor.http.post("/admin/reload").status_code == 200


def test_a_wrong_setting_is_one_sentence(tmp_path):
    command = ["-m", "serving", "--http-port", "99999"]
    import sys

    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "http_port" in done.stderr
