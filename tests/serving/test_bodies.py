"""Bodies as clients send them: content types, codings, sizes, and JSON that is none."""

import gzip
import json
import zlib

import psutil
import pytest
from conftest import Predictor, log_lines, running
from test_connections import BODIES, H2C, JSON, RANKING
from wire import Reply, ask, request

V1, V2 = "/v1/models/feedrank-ranker:predict", "/v2/models/feedrank-ranker/infer"
LIMIT = 1_048_576


def post(predictor: Predictor, path: str, body: bytes, *headers: str) -> Reply:
    """The answer, which is the same for a body in one piece and in chunks, with and without an offer to upgrade."""
    first = ask(predictor.http_port, request(path, body, *headers))
    for data in (request(path, body, *headers, chunks=3), request(path, body, *headers, *H2C)):
        assert ask(predictor.http_port, data).status == first.status
    return first


def reason(reply: Reply) -> str:
    content = reply.json()
    return content["error"] if "error" in content else content["reason"]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "content_type",
    [
        "application/json", "Application/JSON", "application/json; charset=utf-8", "application/json;charset=UTF-8",
        'application/json ; Charset="utf-8" ; v=1', "application/json; odata.metadata=none", "application/json;", "",
        None,
    ],
)  # fmt: skip
def test_json_is_read_with_parameters_in_any_case_and_without_a_content_type(
    predictor: Predictor, path: str, content_type: str | None
):
    headers = () if content_type is None else (f"Content-Type: {content_type}",)
    assert post(predictor, path, BODIES[path], *headers).status == 200


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "json"]
)
def test_another_content_type_is_415_that_names_both(predictor: Predictor, path: str, content_type: str):
    reply = post(predictor, path, BODIES[path], f"Content-Type: {content_type}")
    assert reply.status == 415
    assert "send Content-Type: application/json" in reason(reply)
    assert reason(reply).endswith(f", not {content_type}")


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("charset", ["latin1", "iso-8859-1", "UTF-16", '"windows-1252"'])
def test_another_charset_is_415_that_names_it(predictor: Predictor, path: str, charset: str):
    reply = post(predictor, path, BODIES[path], f"Content-Type: application/json; charset={charset}")
    assert reply.status == 415
    assert charset.strip('"').lower() in reason(reply)


CODINGS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "GZIP": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("path", BODIES)
def test_compressed_bodies_are_read(predictor: Predictor, path: str):
    body = BODIES[path]
    for coding, compress in CODINGS.items():
        assert post(predictor, path, compress(body), JSON, f"Content-Encoding: {coding}").status == 200
        assert post(predictor, path, compress(body), f"content-encoding: identity, {coding}").status == 200
    members = gzip.compress(body[:9]) + gzip.compress(b"") + gzip.compress(body[9:])
    assert post(predictor, path, members, JSON, "Content-Encoding: gzip").status == 200
    assert post(predictor, path, body, JSON, "Content-Encoding: identity").status == 200
    assert post(predictor, path, body, JSON, "Content-Encoding: ").status == 200


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "gzip, br", "utf-8"])
def test_another_coding_is_415_that_names_it_and_what_is_read(predictor: Predictor, path: str, coding: str):
    reply = post(predictor, path, BODIES[path], JSON, f"Content-Encoding: {coding}")
    assert (reply.status, reply.headers["accept-encoding"]) == (415, "gzip, deflate")
    assert f"Content-Encoding {coding} is not read" in reason(reply)


@pytest.mark.parametrize("path", BODIES)
def test_damaged_compression_is_named(predictor: Predictor, path: str):
    whole = gzip.compress(BODIES[path])
    broken_sum = whole[:-8] + bytes(byte ^ 1 for byte in whole[-8:])
    for body in (b"", BODIES[path], whole[:-1], whole[:20], whole + b"x", broken_sum, zlib.compress(BODIES[path])):
        reply = post(predictor, path, body, JSON, "Content-Encoding: gzip")
        assert reply.status == (422 if path == "/predict" else 400)
        assert "gzip" in reason(reply)
        assert reply.json().get("field", "body") == "body"


@pytest.mark.parametrize("path", BODIES)
def test_the_limit_is_on_what_a_body_unpacks_to(predictor: Predictor, path: str):
    padded = BODIES[path] + b" " * (LIMIT - len(BODIES[path]))
    assert post(predictor, path, padded, JSON).status == 200
    assert post(predictor, path, gzip.compress(padded), JSON, "Content-Encoding: gzip").status == 200
    for body, headers in ((padded + b" ", ()), (gzip.compress(padded + b" "), ("Content-Encoding: gzip",))):
        reply = ask(predictor.http_port, request(path, body, JSON, *headers))
        assert (reply.status, reply.headers["connection"]) == (413, "close")
        assert "limits.max_body_bytes" in reason(reply)


def test_a_zip_bomb_costs_no_memory(predictor: Predictor):
    bomb = gzip.compress(bytes(300_000_000))
    assert len(bomb) < LIMIT
    process = psutil.Process(predictor.process.pid)
    before = process.memory_info().rss
    for path in BODIES:
        for _ in range(5):
            assert ask(predictor.http_port, request(path, bomb, JSON, "Content-Encoding: gzip")).status == 413
    assert process.memory_info().rss - before < 30_000_000
    empty_members = gzip.compress(b"") * (LIMIT // 20)
    assert ask(predictor.http_port, request("/predict", empty_members, "Content-Encoding: gzip")).status == 422


def ranking(**fields: str) -> bytes:
    """JSON by hand: the values are text of JSON."""
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}").encode("latin-1")


DEEP = "[" * 100_000
HOSTILE = {
    "latin-1 name": (ranking(user_id="1", item_ids="[1]", page='"x"').replace(b"page", b"p\xe4ge"), "body"),
    "latin-1 value": (ranking(user_id="1", item_ids="[1]", context='{"device": "m\xe4"}'), "body"),
    "surrogate bytes": (b'{"user_id": 1, "item_ids": [1], "\xed\xa0\x80": 1}', "body"),
    "half a surrogate pair in a name": (b'{"user_id": 1, "item_ids": [1], "\\ud800": 1}', "body"),
    "half a surrogate pair in a value": (ranking(user_id="1", item_ids="[1]", context='{"device": "\\ud800"}'), "body"),
    "the other half": (ranking(user_id="1", item_ids="[1]", context='{"device": "a\\udc00"}'), "body"),
    "utf-16": (RANKING.decode().encode("utf-16"), "body"),
    "byte order mark": (b"\xef\xbb\xbf" + RANKING, "body"),
    "NaN": (ranking(user_id="NaN", item_ids="[1]"), "body"),
    "Infinity": (ranking(user_id="1", item_ids="[-Infinity]"), "body"),
    "1e400": (ranking(user_id="1e400", item_ids="[1]"), "user_id"),
    "2^63": (ranking(user_id="1", item_ids=f"[{2**63}]"), "item_ids[0]"),
    "10^30": (ranking(user_id="1", item_ids=f"[1, {10**30}]"), "item_ids[1]"),
    "5000 digits": (ranking(user_id="9" * 5000, item_ids="[1]"), "user_id"),
    "deep list of items": (ranking(user_id="1", item_ids=DEEP), "item_ids[0]"),
    "deep unknown field": (ranking(x=DEEP, user_id="1"), "x"),
    "user twice": (b'{"user_id": 1, "user_id": 2, "item_ids": [1]}', "user_id"),
    "items twice": (b'{"user_id": 1, "item_ids": [1], "item_ids": [2]}', "item_ids"),
    "items twice, context null": (b'{"context": null, "item_ids": [1], "user_id": 5, "item_ids": [1]}', "item_ids"),
    "context twice": (b'{"user_id": 1, "item_ids": [1], "context": null, "context": null}', "context"),
    "device twice": (ranking(user_id="1", item_ids="[1]", context='{"device": null, "device": "mobile"}'), "device"),
    "escaped name again": (b'{"user_id": 1, "user\\u005fid": 2, "item_ids": [1]}', "user_id"),
    "long unknown name": (ranking(user_id="1", item_ids="[1]") [:-1] + b', "' + b"x" * 10_000 + b'": 1}', "x" * 100),
    "model": (ranking(user_id="1", item_ids="[1]", model='"x"'), "model"),
    "messages": (ranking(messages="[]", user_id="1", item_ids="[1]"), "messages"),
    "stream": (ranking(user_id="1", item_ids="[1]", stream="true"), "stream"),
    "user": (ranking(user='"u"', item_ids="[1]"), "user"),
    "parameters": (ranking(user_id="1", item_ids="[1]", parameters="{}"), "parameters"),
    "nul": (RANKING + b"\0", "body"),
    "two": (RANKING + RANKING, "body"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "field"), HOSTILE.values(), ids=HOSTILE.keys())
def test_what_no_ranking_is_names_its_field_on_predict_and_v1(predictor: Predictor, body: bytes, field: str):
    reply = post(predictor, "/predict", body, JSON)
    assert (reply.status, reply.json()["field"]) == (422, field)
    assert len(reply.body) < 400
    batch = b'{"instances": [' + RANKING + b", " + body + b"]}"
    reply = post(predictor, V1, batch, JSON)
    assert reply.status == 400
    assert len(reply.body) < 400
    if not body.startswith(b"\xef") and field not in ("body", "device", "user_id", "item_ids", "context"):
        assert reply.json()["error"].startswith(f"instances[1].{field}: ")


TENSOR = '{"name": "item_ids", "datatype": "INT64", "shape": [1], "data": [1]}'
HOSTILE_TENSORS = {
    "latin-1": b'{"id": "\xe4", "inputs": []}',
    "latin-1 in an unknown field": b'{"x": "\xe4", "inputs": []}',
    "latin-1 in data": b'{"inputs": [{"name": "device", "datatype": "BYTES", "shape": [1], "data": ["\xe4"]}]}',
    "half a surrogate pair": b'{"id": "\\ud800", "inputs": []}',
    "NaN": b'{"inputs": [{"name": "user_id", "datatype": "INT64", "shape": [1], "data": [NaN]}]}',
    "1e400": b'{"inputs": [{"name": "user_id", "datatype": "INT64", "shape": [1], "data": [1e400]}]}',
    "deep data": b'{"inputs": [{"name": "user_id", "datatype": "INT64", "shape": [1], "data": ' + b"[" * 100_000,
    "deep parameters": b'{"inputs": [], "parameters": ' + b'{"a":' * 100_000,
    "deep unknown field": b'{"x": ' + b"[" * 100_000,
    "5000 digits": b'{"inputs": [{"name": "user_id", "datatype": "INT64", "shape": [' + b"9" * 5000 + b"]}]}",
    "inputs twice": f'{{"inputs": [{TENSOR}], "inputs": [{TENSOR}]}}'.encode(),
    "data twice": b'{"inputs": [{"name": "a", "datatype": "INT64", "shape": [1], "data": [1], "data": [2]}]}',
    "number as id": b'{"id": 7, "inputs": []}',
    "no list": b'{"inputs": {}}',
    "name no text": b'{"inputs": [{"name": 1, "datatype": "INT64", "shape": [1], "data": [1]}]}',
    "long name": b'{"inputs": [{"name": "' + b"x" * 9000 + b'", "datatype": "INT64", "shape": [1], "data": [1]}]}',
}


@pytest.mark.parametrize("body", HOSTILE_TENSORS.values(), ids=HOSTILE_TENSORS.keys())
def test_what_no_request_of_v2_is_gets_400_and_a_reason(predictor: Predictor, body: bytes):
    for headers in (
        (JSON,),
        (),
        ("Content-Type: application/octet-stream", f"Inference-Header-Content-Length: {len(body)}"),
    ):
        reply = post(predictor, V2, body, *headers)
        assert reply.status == 400
        assert 10 < len(reply.json()["error"]) < 500


def test_names_that_are_no_text_of_the_protocol_are_shown_whole(predictor: Predictor):
    reply = post(predictor, "/predict", '{"user_id": 1, "item_ids": [1], "größe\\u0000`": 1}'.encode(), JSON)
    assert reply.json() == {"field": "größe\0`", "reason": "Object contains unknown field `größe\0``"}


def test_the_batch_limit_is_a_setting_that_the_error_names(predictor: Predictor, models, tmp_path):
    largest = {"user_id": 2**63 - 1, "item_ids": list(range(2**63 - 101, 2**63 - 1)), "context": {"device": "desktop"}}
    for number, status in ((256, 200), (257, 400)):
        body = json.dumps({"instances": [largest] * number}).encode()
        assert len(body) < LIMIT
        reply = post(predictor, V1, body, JSON)
        assert reply.status == status
    assert "1 to 256 requests (limits.max_instances), not 257" in reply.json()["error"]
    with running(tmp_path, models["v1.0.0"], environment={"LIMITS__MAX_INSTANCES": "2"}) as small:
        assert (
            "1 to 2 requests"
            in post(small, V1, b'{"instances": [%b]}' % b",".join([RANKING] * 3), JSON).json()["error"]
        )


def test_v1_takes_tensorflow_servings_default_signature_and_names_other_fields(predictor: Predictor):
    def answer(extra: str) -> Reply:
        return post(predictor, V1, b'{"instances": [' + RANKING + b"], " + extra.encode() + b"}", JSON)

    assert answer('"signature_name": "serving_default"').status == 200
    assert answer('"signature_name": null').status == 200
    for extra in ('"signature_name": "other"', '"model": "x"', '"parameters": {}', '"inputs": []'):
        reply = answer(extra)
        assert (reply.status, reply.json()["error"].split(":")[0]) == (400, extra.split('"')[1])


def test_nothing_of_all_this_is_an_error_of_the_predictor(predictor: Predictor):
    assert {line["level"] for line in log_lines(predictor)} <= {"info"}
    for route in ("predict", "v1", "v2"):
        assert predictor.metric("feedrank_requests_total", route=route, status="500") == 0
