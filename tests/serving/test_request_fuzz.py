"""The same bytes in one segment, in several, and to a server with another HTTP parser get the same answers."""

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Predictor, log_lines, running
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_connections import BODIES, H2C, JSON, RANKING, WEBSOCKET
from wire import Connection, Reply, request, split

REFERENCE = Path(__file__).with_name("reference_server.py")
SETTINGS = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
QUIET_SECONDS = 0.25
GETS = ("/", "/health", "/v2/health/live", "/v2/health/ready", "/v1/models", "/v2/models/feedrank-ranker", "/nowhere")


@pytest.fixture(scope="module")
def reference(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Predictor]:
    with running(tmp_path_factory.mktemp("reference"), models["v1.0.0"], program=(str(REFERENCE),)) as started:
        yield started


ids = st.one_of(st.integers(0, 600), st.integers(-2, 2**64), st.floats(allow_nan=True), st.text(max_size=3))
rankings = st.fixed_dictionaries(
    {"user_id": ids, "item_ids": st.lists(st.one_of(st.integers(0, 600), ids), max_size=102)},
    optional={
        "context": st.none()
        | st.fixed_dictionaries(
            {}, optional={"device": st.sampled_from(["mobile", None, "x"]), "timestamp": st.text(max_size=3)}
        ),
        "model": st.text(max_size=3),
    },
)
documents = st.one_of(
    st.sampled_from(list(BODIES.values())),
    rankings.map(lambda content: json.dumps(content).encode()),
    st.lists(rankings, max_size=3).map(lambda content: json.dumps({"instances": content}).encode()),
    st.recursive(st.none() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=3), max_leaves=5).map(
        lambda content: json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ),
    st.binary(max_size=40),
)
CODINGS: dict[str, Any] = {
    "gzip": gzip.compress, "X-GZIP": gzip.compress, "deflate": zlib.compress, "identity": bytes, "br": bytes,
}  # fmt: skip
CONTENT_TYPES = (
    JSON, "content-type: application/JSON;charset=utf-8", "Content-Type:application/json; charset=latin1",
    "Content-Type: text/plain", "Content-Type: application/octet-stream", "Content-Type: application/cloudevents+json",
)  # fmt: skip
EXTRAS = (
    (), H2C, WEBSOCKET, ("Connection: close",), ("Connection: keep-alive",), ("Expect: 100-continue",),
    ("Accept: application/json", "X-Empty:", "Cookie: \xe4\xff"), ("Inference-Header-Content-Length: 10",),
    ("ce-specversion: 1.0",), ("Upgrade: h2c",), ("Connection: upgrade",),
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, bytes]:
    """Method and bytes of a request that is whole HTTP/1.1."""
    extras = draw(st.sampled_from(EXTRAS))
    if draw(st.integers(0, 3)) == 0:
        method = draw(st.sampled_from(("GET", "HEAD", "OPTIONS", "DELETE", "PUT")))
        path = draw(st.sampled_from((*GETS, *BODIES)))
        return method, request(path, b"", *extras, method=method)
    path = draw(st.sampled_from((*BODIES, "/predict?x=1", "/%70redict", "/v1/models/other:predict", "/health", "/x")))
    body = draw(st.sampled_from([BODIES.get(path, RANKING)]) | documents)
    headers = [*draw(st.sampled_from([(), *((content_type,) for content_type in CONTENT_TYPES)])), *extras]
    coding = draw(st.none() | st.sampled_from(list(CODINGS)))
    if coding is not None:
        body = CODINGS[coding](body)
        headers.append(f"Content-Encoding: {coding}")
    return "POST", request(path, body, *headers, chunks=draw(st.integers(0, 3)))


def outcome(reply: Reply) -> tuple[int, str]:
    """Status, and the body without what differs between two answers to the same."""
    body = re.sub(rb'"(latency_ms|uptime_seconds)":[0-9.]+|"(ce-)?(id|time)": "[^"]*"', b"", reply.body)
    varies = reply.headers.get("content-type") is None or b"last_prediction" in body
    return reply.status, "" if varies else body.decode()


def answers(port: int, asked: list[tuple[str, bytes]], places: list[int]) -> list[tuple[int, str]]:
    """All answers to requests that are sent one after the other, in segments that end at the places."""
    with Connection(port) as connection:
        connection.send(split(b"".join(data for _, data in asked), places), pause=0.002 if places else 0)
        found = []
        for method, _ in asked:
            reply = connection.reply(method)
            if reply is None:
                break
            found.append(outcome(reply))
        return found


@settings(SETTINGS, max_examples=300)
@given(
    asked=st.lists(requests(), min_size=1, max_size=3),
    places=st.lists(st.integers(1, 900), min_size=1, max_size=4),
)
@example(asked=[("POST", request("/predict", RANKING, *H2C, JSON))] * 2, places=[200])
def test_three_ways_give_one_answer(
    predictor: Predictor, reference: Predictor, asked: list[tuple[str, bytes]], places: list[int]
):
    short = answers(predictor.http_port, asked, [])
    assert len(short) >= 1
    assert all(status < 500 or status == 501 for status, _ in short)
    assert answers(predictor.http_port, asked, places) == short
    assert answers(reference.http_port, asked, []) == short


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A request with some bytes changed, inserted or taken away, or bytes that were never one."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(min_size=1, max_size=60))
    data = bytearray(draw(requests())[1] + draw(st.sampled_from([b"", request("/health", method="GET")])))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        data[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=2) | st.sampled_from([b"\r\n", b": "]))
    return bytes(data)


def statuses(port: int, data: bytes, places: list[int]) -> list[int]:
    """The answers' statuses until the server closes or is quiet.

    Refusals at the end count as being closed: which of a damaged request's faults is met first is up to the segments.
    """
    with Connection(port, patience=QUIET_SECONDS) as connection:
        connection.send(split(data, places), pause=0.002 if places else 0)
        found = connection.statuses()
    assert all(status < 500 or status == 501 for status in found)
    while found and found[-1] >= 400:
        found.pop()
    return found


@settings(SETTINGS, max_examples=60)
@given(data=damaged(), places=st.lists(st.integers(1, 400), min_size=1, max_size=3))
def test_damaged_requests_are_never_a_failure_and_mean_the_same_in_any_segments(
    predictor: Predictor, data: bytes, places: list[int]
):
    assert statuses(predictor.http_port, data, places) == statuses(predictor.http_port, data, [])
    assert predictor.http.get("/v2/health/live").status_code == 200


def test_none_of_it_is_an_error_in_the_log(predictor: Predictor):
    assert [line for line in log_lines(predictor) if line["level"] != "info"] == []
