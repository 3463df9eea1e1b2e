"""CloudEvents on V1 and V2: structured and binary, with what the specification leaves out, and malformed."""

import gzip
import json
from typing import Any

import pytest
from conftest import Predictor
from test_connections import BODIES
from wire import Reply, ask, request

V1, V2 = "/v1/models/feedrank-ranker:predict", "/v2/models/feedrank-ranker/infer"
STRUCTURED = "application/cloudevents+json"
EVENT = {"specversion": "1.0", "source": "/shop/feed", "type": "rank.request", "id": "17-a"}
OPTIONAL = {
    "time": "2024-11-15T10:30:00Z",
    "subject": "x",
    "datacontenttype": "application/json",
    "traceparent": "00-1-2",
}


def post(predictor: Predictor, path: str, content: Any, content_type: str = STRUCTURED, *headers: str) -> Reply:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return ask(predictor.http_port, request(path, body, f"Content-Type: {content_type}", *headers))


def binary(**attributes: str) -> list[str]:
    return [f"ce-{name}: {value}" for name, value in attributes.items()]


def check(path: str, answer: dict[str, Any]) -> None:
    if path == V1:
        assert len(answer["predictions"][0]["predictions"]) == 3
    else:
        assert [output["name"] for output in answer["outputs"]] == ["item_ids", "scores"]


@pytest.mark.parametrize("path", [V1, V2])
@pytest.mark.parametrize(
    "extra", [{}, OPTIONAL, {"time": "2024-11-15T10:30:00.123456+05:30"}], ids=["least", "all", "zone"]
)
def test_an_event_is_answered_by_an_event_of_the_same_form(predictor: Predictor, path: str, extra: dict[str, str]):
    data = json.loads(BODIES[path])
    for content_type in (STRUCTURED, f"{STRUCTURED}; charset=UTF-8", "Application/CloudEvents+JSON"):
        reply = post(predictor, path, EVENT | extra | {"data": data}, content_type)
        assert (reply.status, reply.headers["content-type"]) == (200, STRUCTURED)
        answer = reply.json()
        assert answer["specversion"] == "1.0"
        assert answer["source"] == "io.kserve.inference.feedrank-ranker"
        assert answer["type"] == "io.kserve.inference.response"
        assert answer["id"] not in ("", EVENT["id"])
        check(path, answer["data"])
    for content_type in ("application/json", "application/json; charset=utf-8"):
        reply = post(predictor, path, data, content_type, *binary(**EVENT, **extra))
        assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
        assert reply.headers["ce-source"] == "io.kserve.inference.feedrank-ranker"
        assert {"ce-id", "ce-type", "ce-specversion", "ce-time"} <= reply.headers.keys()
        check(path, reply.json())


def test_data_may_be_base64_and_events_compressed(predictor: Predictor):
    import base64

    event = EVENT | {"data_base64": base64.b64encode(BODIES[V1]).decode()}
    assert post(predictor, V1, event).status == 200
    packed = gzip.compress(json.dumps(EVENT | {"data": json.loads(BODIES[V1])}).encode())
    assert post(predictor, V1, packed, STRUCTURED, "Content-Encoding: gzip").status == 200


def test_outputs_in_an_event_are_json(predictor: Predictor):
    data = json.loads(BODIES[V2]) | {"parameters": {"binary_data_output": True}}
    check(V2, post(predictor, V2, EVENT | {"data": data}).json()["data"])


MALFORMED = {
    "no id": ({"id": None}, "id"),
    "empty source": ({"source": ""}, "source"),
    "number as type": ({"type": 5}, "type"),
    "unknown version": ({"specversion": "9.9"}, "specversion"),
    "bad time": ({"time": "yesterday"}, "time"),
    "time without zone": ({"time": "2024-11-15T10:30:00"}, "time"),
    "xml": ({"datacontenttype": "application/xml"}, "datacontenttype"),
    "no data": ({"data": None}, "data"),
    "no base64": ({"data": None, "data_base64": "a b"}, "data_base64"),
}


@pytest.mark.parametrize(("change", "attribute"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_event_is_400_and_the_attribute_is_named(
    predictor: Predictor, change: dict[str, object], attribute: str
):
    event = {name: value for name, value in (EVENT | {"data": {}} | change).items() if value is not None}
    reply = post(predictor, V1, event)
    assert reply.status == 400
    assert reply.json()["error"].startswith(f"{attribute}: ")


@pytest.mark.parametrize("name", [name for name in EVENT if name != "specversion"])
def test_a_missing_header_of_a_binary_event_is_named(predictor: Predictor, name: str):
    given = {key: value for key, value in EVENT.items() if key != name}
    reply = post(predictor, V1, BODIES[V1], "application/json", *binary(**given))
    assert (reply.status, reply.json()["error"].split(":")[0]) == (400, f"ce-{name}")
    assert post(predictor, V1, BODIES[V1], "application/json", "ce-id: 5").status == 200, "KServe's agent sends it"


def test_what_the_data_lack_is_told_as_without_an_event(predictor: Predictor):
    reply = post(predictor, V1, EVENT | {"data": {"instances": [{"user_id": 1}]}})
    assert (reply.status, reply.json()["error"].split(":")[0]) == (400, "instances[0].item_ids")


@pytest.mark.parametrize("content_type", ["application/cloudevents-batch+json", "application/cloudevents+xml"])
def test_batches_and_other_formats_are_415(predictor: Predictor, content_type: str):
    for path in BODIES:
        reply = post(predictor, path, [EVENT], content_type)
        assert reply.status == 415
        assert content_type in str(reply.json())


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'"x"', b"\xe4", b"[" * 100_000, b'{"a":' * 100_000])
def test_what_is_no_event_is_400(predictor: Predictor, body: bytes):
    assert post(predictor, V1, body).status == 400
