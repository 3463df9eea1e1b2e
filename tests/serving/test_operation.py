"""Draining, several workers, tokens and shedding, with real processes and signals."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import psutil
import pytest
import tritonclient.grpc as triton_grpc
from conftest import Predictor, running
from live_traffic import Traffic, assert_logged_once

from serving.metrics import STALE_SECONDS


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
