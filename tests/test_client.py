"""The client: answers as types, retries what is transient, and errors that say what to do."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedrank.client import AsyncClient, Client, PredictionError, RankedItem, RankedItems, RetryPolicy, request_body

ANSWER = {
    "user_id": 12,
    "predictions": [{"item_id": 5, "score": 0.75, "rank": 1}, {"item_id": 4, "score": 0.25, "rank": 2}],
    "model_version": "v1.0.0",
    "latency_ms": 0.1,
}
FAST = RetryPolicy(attempts=3, first_wait_seconds=0.01, longest_wait_seconds=0.02)


class Script:
    """A server that answers what it is told to, and remembers what it was asked."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.answers: list[tuple[int, object, dict[str, str]]] = []
        self.asked: list[tuple[dict[str, object], str | None]] = []
        self.paths: list[str] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                script.asked.append((body, self.headers["authorization"]))
                self.do_GET()

            def do_GET(self) -> None:
                script.paths.append(self.path)
                status, answer, headers = script.answers.pop(0) if script.answers else (200, ANSWER, {})
                content = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in (headers | {"content-length": str(len(content))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        self.server = Server((host, 0), Handler)
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.server.server_port}"


@contextlib.contextmanager
def serving(script: Script) -> Iterator[Script]:
    thread = threading.Thread(target=script.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield script
    finally:
        script.server.shutdown()
        thread.join()
        script.server.server_close()


@pytest.fixture
def script() -> Iterator[Script]:
    with serving(Script()) as made:
        yield made


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


BIG = 2**63 - 1
WHOLE = [
    (12, 12),
    (np.int64(12), 12),
    (np.uint8(12), 12),
    (np.uint64(BIG), BIG),
    (np.array(12), 12),
    (12.0, 12),
    (np.float32(12), 12),
    (Decimal(BIG), BIG),
    (np.int64(BIG), BIG),
]


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(("user_id", "sent"), WHOLE, ids=repr)
def test_any_whole_number_is_sent_exactly(script, kind, user_id, sent):
    rank(script.url, kind, user_id, [user_id])
    assert script.asked == [({"user_id": sent, "item_ids": [sent]}, None)]
    assert not isinstance(script.asked[0][0]["user_id"], float)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    "item_ids",
    [
        np.array([1001, BIG]),
        np.array([1001, BIG], dtype=np.uint64),
        (1001, BIG),
        [np.int32(1001), BIG],
        pd.Series([1001, BIG], index=["a", "b"]),
        pd.Series([1001, BIG], dtype="Int64"),
        pd.Index([1001, BIG]),
        pa.array([1001, BIG]),
        pa.chunked_array([[1001], [BIG]]),
        {1001: "a", BIG: "b"}.keys(),
    ],
    ids=lambda value: f"{type(value).__module__}.{type(value).__name__}",
)
def test_items_come_from_any_array_series_or_sequence(script, kind, item_ids):
    rank(script.url, kind, 12, item_ids)
    assert script.asked[0][0]["item_ids"] == [1001, BIG]


def test_items_of_a_generator_are_taken_once(script):
    rank(script.url, "sync", 12, (item for item in (4, 5)))
    assert script.asked[0][0]["item_ids"] == [4, 5]


NO_WHOLE = [
    True, np.True_, 1.5, np.float64(1.5), float("nan"), float("inf"), 2.0**53 + 2, np.float64(2.0**60), "12", b"12",
    None, 1j, Decimal("1.5"), Decimal("sNaN"), np.array([1, 2]), np.array([1.0]), np.datetime64("2024-01-01"),
    np.timedelta64(5), pd.NA, pd.NaT, [1], object(),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("value", NO_WHOLE, ids=lambda value: f"{type(value).__name__} {value!r:.20}")
def test_what_is_no_whole_number_is_refused_by_name_before_it_is_sent(script, kind, value):
    with pytest.raises(PredictionError, match=r"^user_id: expected a whole number, got ") as failure:
        rank(script.url, kind, value, [4])
    assert failure.value.field == "user_id"
    with pytest.raises(PredictionError, match=r"^item_ids\[1\]: expected a whole number, got ") as failure:
        rank(script.url, kind, 12, [4, value])
    assert failure.value.field == "item_ids[1]"
    assert script.asked == []


@pytest.mark.parametrize("value", ["4,5", b"45", 5, None, {4: 1}, np.array(4), np.int64(4)], ids=repr)
def test_what_is_no_list_of_items_is_refused_before_it_is_sent(script, value):
    with pytest.raises(PredictionError, match=r"^item_ids: expected a list of whole numbers, got "):
        rank(script.url, "sync", 12, value)
    assert script.asked == []


@pytest.mark.parametrize(
    "value",
    [np.array([1.5]), np.array([True]), np.array(["4"]), np.array([[4]]), pd.Series([4, None]), pd.Series(["4"])],
    ids=repr,
)
def test_an_array_of_something_else_is_refused_by_its_place(script, value):
    with pytest.raises(PredictionError, match=r"^item_ids\[\d\]: expected a whole number, got "):
        rank(script.url, "sync", 12, value)
    assert script.asked == []


MOMENT = datetime(2024, 11, 15, 10, 30, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    "timestamp",
    [
        MOMENT,
        MOMENT.astimezone(ZoneInfo("Asia/Tokyo")),
        pd.Timestamp("2024-11-15T11:30:00.123456789", tz="Europe/Berlin"),
        np.datetime64("2024-11-15T10:30:00.123456"),
        np.datetime64("2024-11-15T10:30:00.123456789"),
        pd.Series([pd.Timestamp(MOMENT)])[0],
    ],
    ids=repr,
)
def test_a_time_is_sent_in_utc_to_the_microsecond(script, kind, timestamp):
    rank(script.url, kind, 12, [4], timestamp=timestamp)
    assert script.asked[0][0]["context"] == {"timestamp": "2024-11-15T10:30:00.123456+00:00"}


@pytest.mark.parametrize(
    "timestamp",
    [
        "2024-11-15T10:30:00Z", 1731666600, date(2024, 11, 15), datetime(2024, 11, 15),  # noqa: DTZ001
        pd.Timestamp("2024-11-15"), pd.NaT, np.datetime64("NaT"), np.datetime64("2024-11-15", "ns").astype("int64"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_time_with_a_zone_is_refused_before_it_is_sent(script, timestamp):
    with pytest.raises(PredictionError, match=r"^timestamp: .*time zone") as failure:
        rank(script.url, "sync", 12, [4], timestamp=timestamp)
    assert failure.value.field == "timestamp"
    assert script.asked == []


@pytest.mark.parametrize("device", ["phone", "", b"mobile", 1, "\udc80"], ids=ascii)
def test_an_unknown_device_is_refused_before_it_is_sent(script, device):
    with pytest.raises(PredictionError, match=r"^device: expected one of mobile, desktop, tablet, got"):
        rank(script.url, "sync", 12, [4], device=device)
    assert script.asked == []


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("path", ["", "/", "/feed", "/feed/", "/a/b/"])
def test_the_url_may_have_a_path(script, kind, path):
    rank(script.url + path, kind)
    assert script.paths == [f"{path.rstrip('/')}/predict"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_url_may_be_of_ipv6(kind):
    with serving(Script("::1")) as script:
        assert script.url.startswith("http://[::1]:")
        assert rank(script.url, kind).user_id == 12


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize(
    "url",
    ["localhost:8080", "", "http://::1:8080", "http://[::1", "http://host:port", "ftp://host", "http://", None, 1],
)
def test_what_is_no_http_url_is_refused_at_once(client, url):
    with pytest.raises(PredictionError, match=r"URL.* give one such as http://localhost:8080"):
        client(url)


@pytest.mark.parametrize("token", ["a\n", "clé"])
def test_a_token_that_no_header_can_carry_is_refused_without_showing_it(token):
    with pytest.raises(PredictionError, match="token holds characters") as failure:
        Client(token=token)
    assert token not in str(failure.value)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("answer", [[], "hello", {}, {"predictions": [1]}, ANSWER | {"predictions": [{"item": 1}]}])
def test_an_answer_that_is_no_ranking_is_named(script, kind, answer):
    script.answers = [(200, answer, {})]
    with pytest.raises(PredictionError, match="the answer is none of a predictor"):
        rank(script.url, kind)


def test_a_health_that_is_no_object_and_a_refusal_that_is_none_are_named(script):
    script.answers = [(200, "healthy", {}), (404, ["not", "found"], {})]
    with Client(script.url) as client:
        with pytest.raises(PredictionError, match="the answer is none of a predictor"):
            client.health()
        with pytest.raises(PredictionError, match=r'refused with 404: \["not", "found"\]'):
            client.rank(12, [4])


@given(st.integers(-(2**70), 2**70))
def test_a_request_holds_the_very_number(number):
    body = request_body(number, [number], device=None, timestamp=None)
    assert json.loads(json.dumps(body)) == {"user_id": number, "item_ids": [number]}


def rank(url: str, kind: str, user_id: Any = 12, item_ids: Any = (4, 5), **context: Any) -> RankedItems:
    if kind == "sync":
        with Client(url, retry=FAST) as client:
            return client.rank(user_id, item_ids, **context)

    async def ask() -> RankedItems:
        async with AsyncClient(url, retry=FAST) as client:
            return await client.rank(user_id, item_ids, **context)

    return asyncio.run(ask())
