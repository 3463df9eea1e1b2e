"""What clients do with a connection: offers to upgrade it, segments, pipelining, HEAD, and what is no HTTP/1.1."""

import itertools
import json

import pytest
from conftest import Predictor, log_lines
from wire import Connection, ask, request, split

NAME = "feedrank-ranker"
RANKING = b'{"user_id": 12, "item_ids": [101, 102, 103]}'
TENSORS = json.dumps(
    {
        "inputs": [
            {"name": "user_id", "datatype": "INT64", "shape": [1], "data": [12]},
            {"name": "item_ids", "datatype": "INT64", "shape": [3], "data": [101, 102, 103]},
        ]
    }
).encode()
BODIES = {
    "/predict": RANKING,
    f"/v1/models/{NAME}:predict": b'{"instances": [' + RANKING + b"]}",
    f"/v2/models/{NAME}/infer": TENSORS,
}
GET_PATHS = (
    "/", "/health", "/metrics", "/config", "/docs", "/openapi.json", "/v2", "/v2/health/live", "/v2/health/ready",
    "/v2/models", f"/v2/models/{NAME}", f"/v2/models/{NAME}/ready", "/v1/models", f"/v1/models/{NAME}",
)  # fmt: skip
JSON = "Content-Type: application/json"
# As Java's java.net.http.HttpClient sends it by default.
H2C = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
)
WEBSOCKET = (
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
OFFERS = {"h2c": H2C, "websocket": WEBSOCKET, "several": ("upgrade: TLS/1.0, foo/2", "connection: UPGRADE")}


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS.keys())
@pytest.mark.parametrize("chunks", [0, 3], ids=["length", "chunked"])
@pytest.mark.parametrize("path", BODIES)
def test_an_offer_to_upgrade_is_ignored_wherever_the_segments_end(
    predictor: Predictor, path: str, chunks: int, offer: tuple[str, ...]
):
    data = request(path, BODIES[path], *offer, JSON, chunks=chunks)
    head = data.index(b"\r\n\r\n") + 4
    with Connection(predictor.http_port) as connection:
        for places in ((), (head,), (head - 2,), (head + 5,), (10, head - 1, head + 1, len(data) - 1)):
            connection.send(split(data, places), pause=0.01)
            reply = connection.reply()
            assert (reply.status, "upgrade" in reply.headers) == (200, False), places
        connection.send(bytes([byte]) for byte in data)
        assert connection.reply().status == 200
        connection.send([request("/health", method="GET")])
        assert connection.reply("GET").json()["status"] == "healthy"


@pytest.mark.parametrize("path", GET_PATHS)
def test_an_offer_to_upgrade_without_a_body_is_ignored_too(predictor: Predictor, path: str):
    plain = request(path, method="GET")
    with Connection(predictor.http_port) as connection:
        for offer in OFFERS.values():
            connection.send([request(path, b"", *offer, method="GET") + plain])
            assert connection.reply("GET").status == connection.reply("GET").status == 200


def test_requests_with_and_without_offers_may_be_pipelined(predictor: Predictor):
    requests = [
        request(path, BODIES[path], *offer, JSON, chunks=chunks)
        for path in BODIES
        for offer in ((), H2C, WEBSOCKET)
        for chunks in (0, 2)
    ]
    data = b"".join(requests)
    for places in ((), range(0, len(data), 97)):
        with Connection(predictor.http_port) as connection:
            connection.send(split(data, places))
            assert [connection.reply().status for _ in requests] == [200] * len(requests)


def test_an_upgrade_closes_where_the_client_wants_it_or_speaks_http_1_0(predictor: Predictor):
    for data in (
        request("/predict", RANKING, "Connection: upgrade, close", "Upgrade: h2c", JSON),
        request("/predict", RANKING, *H2C, JSON, version="1.0"),
    ):
        with Connection(predictor.http_port) as connection:
            connection.send([data])
            assert connection.reply().status == 200
            assert connection.closed()


@pytest.mark.parametrize(
    "data",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\4\0\0\0\0\0",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",  # TLS
        b"hello\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
def test_what_is_no_http_1_is_400_once_and_closed(predictor: Predictor, data: bytes):
    before = predictor.output.read_text()
    for places in ((), (len(data) - 3,)):
        with Connection(predictor.http_port) as connection:
            connection.send(split(data, places), pause=0.01)
            reply = connection.reply()
            assert (reply.status, reply.headers["connection"]) == (400, "close")
            assert reply.json() == {"reason": "this is no HTTP/1.1 request"}
            assert connection.closed()
    assert predictor.output.read_text() == before, "nothing is logged"


def test_what_follows_a_request_and_is_none_does_not_take_its_answer(predictor: Predictor):
    for path, body in BODIES.items():
        good, bad = request(path, body, JSON), b"nonsense\r\n\r\n"
        with Connection(predictor.http_port) as connection:
            connection.send([good + good + bad])
            assert [connection.reply().status for _ in range(2)] == [200, 200]
            last = connection.reply()
            assert last is None or last.status == 400


@pytest.mark.parametrize("path", GET_PATHS)
def test_head_is_get_without_the_body(predictor: Predictor, path: str):
    replies = []
    with Connection(predictor.http_port) as connection:
        for method in ("GET", "HEAD"):
            connection.send([request(path, method=method)])
            replies.append(connection.reply(method))
        connection.send([request("/predict", RANKING, JSON)])
        assert connection.reply().status == 200, "not a byte of a body was sent"
    got, head = replies
    assert head.status == got.status == 200
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.headers.keys() == got.headers.keys()
    if path not in ("/health", "/metrics"):  # which change by the second
        assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.body))


def test_head_and_get_are_told_where_they_are_not(predictor: Predictor):
    for method, path in itertools.product(("HEAD", "GET", "PUT", "DELETE", "OPTIONS"), BODIES):
        reply = ask(predictor.http_port, request(path, method=method), method=method)
        assert (reply.status, reply.headers["allow"]) == (405, "POST")
    reply = ask(predictor.http_port, request("/health"))
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
    assert ask(predictor.http_port, request("/v2/health/live")).json() == {"error": "use GET"}


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/completions", "/openai/v1/chat/completions", "/v1/embeddings", "/invocations"]
)
def test_routes_of_other_products_are_404_with_a_sentence(predictor: Predictor, path: str):
    for method in ("GET", "POST"):
        body = b'{"model": "x", "messages": []}' if method == "POST" else b""
        reply = ask(predictor.http_port, request(path, body, JSON, method=method))
        assert (reply.status, reply.headers["content-type"]) == (404, "application/json")
        assert path in reply.json()["error"]
        assert "POST /predict" in reply.json()["error"]


def test_half_closed_and_http_1_0_clients_are_answered(predictor: Predictor):
    import socket

    for version, upgrade in itertools.product(("1.0", "1.1"), ((), H2C)):
        with socket.create_connection(("127.0.0.1", predictor.http_port), timeout=10) as raw:
            raw.sendall(request("/predict", RANKING, *upgrade, JSON, version=version))
            raw.shutdown(socket.SHUT_WR)
            assert raw.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_nothing_of_all_this_is_an_error_in_the_log(predictor: Predictor):
    assert {line["level"] for line in log_lines(predictor)} <= {"info"}
