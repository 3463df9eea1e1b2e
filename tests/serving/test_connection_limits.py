"""Clients that hold connections: half a head, none, too many, and what a slow one does to the figures."""

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest
from conftest import Predictor, running
from test_connections import JSON, RANKING
from wire import Connection, ask, request

LIMIT = 5
HEAD = request("/predict", RANKING, JSON)[:40]
SOON = 8.0
"""Seconds within which a head that may take one second is cut off, on a busy machine."""


@pytest.fixture(scope="module")
def impatient(models, tmp_path_factory) -> Iterator[Predictor]:
    environment = {"LIMITS__HEAD_TIMEOUT_SECONDS": "1", "LIMITS__MAX_CONNECTIONS": str(LIMIT)}
    with running(tmp_path_factory.mktemp("impatient"), models["v1.0.0"], environment=environment) as predictor:
        predictor.http.close()
        yield predictor


def test_half_a_head_is_408_and_closed_also_after_a_whole_request(impatient: Predictor):
    whole = request("/predict", RANKING, JSON)
    for first in (b"", whole, request("/health", method="GET")):
        with Connection(impatient.http_port, patience=SOON) as connection:
            connection.send([first] if first else [])
            assert not first or connection.reply().status == 200
            connection.send([HEAD])
            reply = connection.reply()
            assert (reply.status, reply.headers["connection"]) == (408, "close")
            assert reply.json() == {"reason": "the request's head did not arrive in time"}
            assert connection.closed()


def test_a_head_that_trickles_in_does_not_win_time(impatient: Predictor):
    with Connection(impatient.http_port, patience=SOON) as connection:
        connection.send([bytes([byte]) for byte in HEAD], pause=0.1)
        assert connection.reply().status == 408


def test_a_connection_without_a_request_is_closed_in_silence_on_both_ports(impatient: Predictor):
    with Connection(impatient.http_port, patience=SOON) as connection:
        assert connection.closed()
    with socket.create_connection(("127.0.0.1", impatient.grpc_port), timeout=SOON) as raw:
        while raw.recv(1000):
            pass  # the server's own preface, then its end


def test_the_rest_of_a_request_that_was_answered_is_not_waited_for(impatient: Predictor):
    with Connection(impatient.http_port, patience=SOON) as connection:
        connection.send([request("/health", b"x" * 100, method="GET")[:-50]])
        assert connection.reply("GET").status == 200
        connection.send([b"x"])
        assert connection.closed()


def test_an_idle_connection_and_a_slow_body_are_none_of_this(impatient: Predictor):
    whole = request("/predict", RANKING, JSON)
    with Connection(impatient.http_port) as connection:
        connection.send([whole])
        assert connection.reply().status == 200
        time.sleep(4)
        connection.send([whole[:-5], whole[-5:]], pause=3)
        assert connection.reply().status == 200


def test_a_client_that_sends_slowly_is_in_no_latency(impatient: Predictor):
    whole = request("/predict", RANKING, JSON)
    with Connection(impatient.http_port) as connection:
        connection.send([whole[:-5], whole[-5:]], pause=1)
        assert connection.reply().json()["latency_ms"] < 500


def test_beyond_the_limit_of_connections_requests_are_503_but_probes_are_answered(impatient: Predictor):
    whole = request("/predict", RANKING, JSON)
    time.sleep(0.5)  # for the connections of the tests before
    with ExitStack() as stack:
        held = [stack.enter_context(Connection(impatient.http_port)) for _ in range(LIMIT)]
        for connection in held:
            connection.send([whole])
            assert connection.reply().status == 200
        with Connection(impatient.http_port) as more:
            more.send([whole])
            reply = more.reply()
            assert (reply.status, reply.headers["retry-after"], reply.headers["connection"]) == (503, "1", "close")
            assert reply.json() == {"reason": "too many connections; try again"}
            assert more.closed()
        for path in ("/v2/health/live", "/v2/health/ready", "/health"):
            assert ask(impatient.http_port, request(path, method="GET"), method="GET").status == 200
        metrics = ask(impatient.http_port, request("/metrics", method="GET"), method="GET").body.decode()
        assert 'feedrank_errors_total{kind="connections"} 1.0' in metrics
        held[0].send([whole])
        assert held[0].reply().status == 200, "who was there before is served on"
        with Connection(impatient.http_port, patience=SOON) as idle:
            assert idle.closed()
    time.sleep(0.5)
    assert ask(impatient.http_port, whole).status == 200


def test_a_stalled_event_loop_shows_in_a_figure_of_its_own(models, tmp_path):
    with running(tmp_path, models["v1.0.0"]) as predictor:
        process = psutil.Process(predictor.process.pid)
        process.send_signal(signal.SIGSTOP)
        time.sleep(2)
        process.send_signal(signal.SIGCONT)
        predictor.wait(lambda: predictor.metric("feedrank_event_loop_delay_seconds") > 1.5, seconds=5)
        assert predictor.predict(1, [1]).json()["latency_ms"] < 500
