"""The client: answers as types, retries what is transient, and errors that say what to do."""

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from feedrank.client import AsyncClient, Client, PredictionError, RankedItem, RankedItems, RetryPolicy

ANSWER = {
    "user_id": 12,
    "predictions": [{"item_id": 5, "score": 0.75, "rank": 1}, {"item_id": 4, "score": 0.25, "rank": 2}],
    "model_version": "v1.0.0",
    "latency_ms": 0.1,
}
FAST = RetryPolicy(attempts=3, first_wait_seconds=0.01, longest_wait_seconds=0.02)


class Script:
    """A server that answers what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, object], dict[str, str]]] = []
        self.asked: list[tuple[dict[str, object], str | None]] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                script.asked.append((body, self.headers["authorization"]))
                status, answer, headers = script.answers.pop(0) if script.answers else (200, ANSWER, {})
                content = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in (headers | {"content-length": str(len(content))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def script() -> Iterator[Script]:
    made = Script()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_an_answer_is_typed(script):
    with Client(script.url, token="secret") as client:
        moment = datetime(2024, 11, 15, 10, 30, tzinfo=UTC)
        answer = client.rank(12, [4, 5], device="mobile", timestamp=moment)
    assert answer == RankedItems(12, (RankedItem(5, 0.75, 1), RankedItem(4, 0.25, 2)), "v1.0.0", 0.1)
    context = {"device": "mobile", "timestamp": "2024-11-15T10:30:00+00:00"}
    assert script.asked == [({"user_id": 12, "item_ids": [4, 5], "context": context}, "Bearer secret")]


def test_what_is_not_given_is_not_sent(script):
    with Client(script.url) as client:
        client.rank(12, (4,))
    assert script.asked == [({"user_id": 12, "item_ids": [4]}, None)]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_transient_failures_are_tried_again(script, kind):
    script.answers = [(503, {"reason": "overloaded"}, {"Retry-After": "0"}), (502, {}, {})]
    assert rank(script.url, kind).user_id == 12
    assert len(script.asked) == 3


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_last_attempt_tells_why(script, kind):
    script.answers = [(503, {"reason": "overloaded; try again"}, {})] * 5
    with pytest.raises(PredictionError, match="refused with 503: overloaded; try again") as failure:
        rank(script.url, kind)
    assert failure.value.status == 503
    assert len(script.asked) == 3


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_refusal_names_the_field_and_is_not_tried_again(script, kind):
    script.answers = [(422, {"field": "item_ids[1]", "reason": "4 is in the list twice"}, {})]
    with pytest.raises(PredictionError, match=r"item_ids\[1\]: 4 is in the list twice") as failure:
        rank(script.url, kind)
    assert (failure.value.status, failure.value.field) == (422, "item_ids[1]")
    assert len(script.asked) == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_nobody_there_is_said_with_the_address(kind):
    with pytest.raises(PredictionError, match=r"http://127\.0\.0\.1:9: no answer from the predictor .* start it"):
        rank("http://127.0.0.1:9", kind)


def test_a_time_without_zone_is_refused_before_it_is_sent(script):
    with Client(script.url) as client, pytest.raises(PredictionError, match="no time zone"):
        client.rank(1, [1], timestamp=datetime(2024, 11, 15))  # noqa: DTZ001
    assert script.asked == []


def rank(url: str, kind: str) -> RankedItems:
    if kind == "sync":
        with Client(url, retry=FAST) as client:
            return client.rank(12, [4, 5])

    async def ask() -> RankedItems:
        async with AsyncClient(url, retry=FAST) as client:
            return await client.rank(12, [4, 5])

    return asyncio.run(ask())
