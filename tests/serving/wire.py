"""Requests as bytes on a socket, and the answers to them."""

import itertools
import json
import re
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

PATIENCE_SECONDS = 20.0


@dataclass
class Reply:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Connection:
    """A socket to a server."""

    port: int
    host: str = "127.0.0.1"
    patience: float = PATIENCE_SECONDS
    _received: bytes = b""
    _socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self._socket = socket.create_connection((self.host, self.port), timeout=self.patience)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, segments: Iterable[bytes], *, pause: float = 0.0) -> None:
        """Sends each segment by itself; a server that has closed already is no failure."""
        for segment in segments:
            try:
                self._socket.sendall(segment)
            except (BrokenPipeError, ConnectionResetError):
                return
            time.sleep(pause)

    def _more(self) -> bool:
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionResetError:
            return False
        self._received += data
        return bool(data)

    def reply(self, method: str = "POST") -> Reply | None:
        """The next answer, to a request of the method; None when the server has closed."""
        while b"\r\n\r\n" not in self._received:
            if not self._more():
                return None
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        status = int(first.split(" ")[1])
        if 100 <= status < 200:
            return self.reply(method)
        assert "transfer-encoding" not in headers, "all answers of the predictor have a length"
        length = 0 if method == "HEAD" else int(headers.get("content-length", 0))
        while len(self._received) < length:
            assert self._more(), "the connection was closed within an answer"
        body, self._received = self._received[:length], self._received[length:]
        return Reply(status, headers, body)

    def statuses(self) -> list[int]:
        """Of all answers until the server closes or is quiet for as long as this is patient."""
        try:
            while self._more():
                pass
        except TimeoutError:
            pass
        return [int(status) for status in re.findall(rb"HTTP/1\.1 ([2-5]\d\d) ", self._received)]

    def closed(self) -> bool:
        """Whether the server closes without another byte."""
        return not self._received and not self._more()


def request(
    path: str, body: bytes = b"", *headers: str, method: str = "POST", chunks: int = 0, version: str = "1.1"
) -> bytes:
    """The bytes of a request; with `chunks` its body is sent in so many."""
    lines = [f"{method} {path} HTTP/{version}", "Host: x", *headers]
    if chunks:
        size = max(1, -(-len(body) // chunks))
        parts = [body[i : i + size] for i in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        lines.append("Transfer-Encoding: chunked")
    elif body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def split(data: bytes, places: Sequence[int]) -> list[bytes]:
    """The bytes cut at some places."""
    cuts = [0, *sorted({place for place in places if 0 < place < len(data)}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(cuts)]


def ask(port: int, data: bytes, *, host: str = "127.0.0.1", method: str = "POST") -> Reply:
    """The answer to one request on a connection of its own."""
    with Connection(port, host) as connection:
        connection.send([data])
        reply = connection.reply(method)
        assert reply is not None, "closed without an answer"
        return reply
