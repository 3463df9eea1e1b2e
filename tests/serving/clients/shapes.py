"""Requests as clients write them that can't run here: the same header lines, framing and segments, on a socket."""

import http.client
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from .script import TIMEOUT_SECONDS, Exchange, Reply

H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
UTF_8_JSON = "Content-Type: application/json; charset=utf-8"


@dataclass(frozen=True)
class Shape:
    """How a client writes its requests."""

    post: tuple[str, ...]
    """Header lines of a POST, without Host and framing."""
    others: tuple[str, ...] = ()
    """Header lines of GET and HEAD."""
    version: str = "1.1"
    chunks: int = 0
    """The body is sent in so many chunks, or with its length if 0."""
    apart: bool = False
    """Headers and every chunk are sent in segments of their own."""
    absolute: bool = False
    """The target is the whole URL, as a forward proxy gets it."""

    def send(self, url: str, exchanges: Sequence[Exchange]) -> list[Reply]:
        """All exchanges on one connection; HTTP/1.0 and `Connection: close` may take more."""
        replies = []
        connection = self._connect(url)
        for exchange in exchanges:
            self._write(connection, url, exchange)
            response = http.client.HTTPResponse(connection, method=exchange.method)
            response.begin()
            replies.append(Reply(response.status, response.read()))
            if response.will_close:
                if self.version == "1.1" and "Connection: close" not in self.post:
                    raise RuntimeError(f"the connection was closed after {exchange.what}")
                connection.close()
                connection = self._connect(url)
        connection.close()
        return replies

    def _connect(self, url: str) -> socket.socket:
        parts = urlsplit(url)
        connection = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=TIMEOUT_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _write(self, connection: socket.socket, url: str, exchange: Exchange) -> None:
        target = url + exchange.path if self.absolute else exchange.path
        lines = [f"{exchange.method} {target} HTTP/{self.version}", f"Host: {urlsplit(url).netloc}"]
        parts: list[bytes] = []
        if exchange.method == "POST":
            lines += self.post
            lines.append("Transfer-Encoding: chunked" if self.chunks else f"Content-Length: {len(exchange.body)}")
            parts = _chunks(exchange.body, self.chunks) if self.chunks else [exchange.body]
        else:
            lines += self.others
        head = "\r\n".join([*lines, "", ""]).encode()
        if exchange.method == "POST" and "Expect: 100-continue" in self.post:
            connection.sendall(head)
            interim = connection.recv(4096)
            if interim != b"HTTP/1.1 100 Continue\r\n\r\n":
                raise RuntimeError(f"{exchange.what}: {interim!r} instead of 100 Continue")
            head = b""
        for segment in [head, *parts] if self.apart else [b"".join([head, *parts])]:
            connection.sendall(segment)
            if self.apart:
                time.sleep(0.005)


def _chunks(body: bytes, count: int) -> list[bytes]:
    size = -(-len(body) // count)
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return [b"%x\r\n%b\r\n" % (len(part), part) for part in parts] + [b"0\r\n\r\n"]


_TRACE = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_JAVA = "User-Agent: Java-http-client/17.0.15"
SHAPES = {
    ".NET HttpClient with JsonContent": Shape((_TRACE, UTF_8_JSON), (_TRACE,), chunks=1),
    ".NET HttpClient with JsonContent in segments": Shape((_TRACE, UTF_8_JSON), (_TRACE,), chunks=3, apart=True),
    ".NET HttpClient with StringContent": Shape((_TRACE, UTF_8_JSON), (_TRACE,)),
    ".NET Framework HttpWebRequest": Shape((UTF_8_JSON, "Expect: 100-continue")),
    ".NET quoted charset": Shape(('Content-Type: application/json; charset="utf-8"',), apart=True),
    "OkHttp": Shape((UTF_8_JSON, "Connection: Keep-Alive", "Accept-Encoding: gzip", "User-Agent: okhttp/4.12.0")),
    "Spring RestTemplate": Shape(
        (
            "Accept: application/json, application/*+json",
            "Content-Type: application/json;charset=UTF-8",
            "User-Agent: Java/17.0.15",
            "Connection: keep-alive",
        ),
        apart=True,
    ),
    "Spring RestClient on Java's HttpClient": Shape((*H2C, _JAVA, "Content-Type: application/json"), H2C, chunks=2),
    "Java HttpClient in one segment": Shape((*H2C, _JAVA, "Content-Type: application/json"), H2C),
    "Java HttpClient in two segments": Shape((*H2C, _JAVA, "Content-Type: application/json"), H2C, apart=True),
    "Java HttpClient chunked in segments": Shape((*H2C, _JAVA, UTF_8_JSON), H2C, chunks=2, apart=True),
    "Apache HttpClient 5.4 offering TLS": Shape(
        ("Upgrade: TLS/1.2", "Connection: Upgrade", UTF_8_JSON, "Accept-Encoding: gzip, x-gzip, deflate"),
        ("Upgrade: TLS/1.2", "Connection: Upgrade"),
    ),
    "ab with keep-alive": Shape(
        ("Connection: Keep-Alive", "Content-type: application/json", "User-Agent: ApacheBench/2.3", "Accept: */*"),
        ("Connection: Keep-Alive",),
        version="1.0",
    ),
    "nginx as a reverse proxy": Shape(
        ("Connection: close", "content-type:application/json"), ("Connection: close",), version="1.0", apart=True
    ),
    "a forward proxy": Shape(("Via: 1.1 proxy", "Content-Type: application/json"), absolute=True),
    "Ruby Net::HTTP": Shape(
        (
            "Accept-Encoding: gzip;q=1.0,deflate;q=0.6,identity;q=0.3",
            "Accept: */*",
            "User-Agent: Ruby",
            "Content-Type: application/json",
        ),
        apart=True,
    ),
}
