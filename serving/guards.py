"""What stands between a request and its handler: method, token, origin, load, content type and size."""

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from serving import bodies
from serving.requests import RefusedError
from serving.service import Service

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

AWAKE_SECONDS = 0.002
"""A shorter pause between two rounds of the event loop means that it didn't sleep."""
QUEUE = 8
"""So many requests in one round mean that they came faster than they were dealt with."""


class Guards:
    """Each check raises a `RefusedError` or does nothing."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._limits = service.config.limits
        self._backlog = _Backlog(self._limits.max_queue_delay_ms / 1000)
        self._max_concurrency = self._limits.max_concurrency
        self._in_progress = 0

    @contextlib.contextmanager
    def in_progress(self) -> Iterator[None]:
        """Around what has to be waited for: it counts towards `max_concurrency`."""
        self._in_progress += 1
        try:
            yield
        finally:
            self._in_progress -= 1

    def method(self, scope: Scope, wanted: str) -> None:
        """405 for another method. HEAD comes as GET (`front.py`)."""
        if scope["method"] != wanted:
            raise RefusedError(f"use {wanted}", status=405, kind="method")

    def token(self, scope: Scope) -> None:
        """401 without the token, if one is configured."""
        if self._service.token is not None and not self._service.authorized(header(scope, b"authorization")):
            raise RefusedError("send Authorization: Bearer <token>", status=401, kind="unauthorized")

    def repository(self, path: str) -> None:
        """404 for V2's repository extension, which is closed."""
        if path.startswith("/v2/repository"):
            raise RefusedError("models are not loaded through the API", status=404, kind="not_found")

    def loopback(self, scope: Scope) -> None:
        """403 for another machine. A proxy in the same pod comes from the loopback address too, but says for whom."""
        if not _is_loopback(scope["client"][0]) or header(scope, b"x-forwarded-for") is not None:
            raise RefusedError("only from this machine", status=403, kind="forbidden")

    def load(self) -> None:
        """503 when too much is in progress or the request has waited too long."""
        if self._in_progress >= self._max_concurrency or self._backlog.too_long():
            raise RefusedError("overloaded; try again", status=503, kind="overloaded")

    def json(self, scope: Scope) -> bytes:
        """415 for another content type; returns the content coding."""
        content_type, coding = bodies.described(scope["headers"])
        if content_type != bodies.JSON:
            bodies.media_type(content_type)
        return coding

    def plain(self, body: bytes | bytearray, coding: bytes) -> bytes | bytearray:
        """The body without its content coding; 413 if it is too large."""
        if len(body) > self._limits.max_body_bytes:
            raise bodies.too_large(self._limits.max_body_bytes)
        return bodies.decoded(body, coding, limit=self._limits.max_body_bytes) if coding else body

    async def body(self, scope: Scope, receive: Receive) -> bytes | bytearray:
        """The whole body; 413 if it is too large, 408 if it doesn't arrive in time."""
        length = header(scope, b"content-length")
        if length is not None and int(length) > self._limits.max_body_bytes:
            raise bodies.too_large(self._limits.max_body_bytes)
        try:
            async with asyncio.timeout(self._limits.body_timeout_seconds):
                return await self._read(receive)
        except TimeoutError:
            raise RefusedError("the body did not arrive in time", status=408, kind="timeout") from None

    async def _read(self, receive: Receive) -> bytes | bytearray:
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RefusedError("the client went away", status=408, kind="disconnected")
            more = message.get("more_body", False)
            part: bytes | bytearray = message.get("body", b"")
            if not more and not body:
                return part
            body += part
            if len(body) > self._limits.max_body_bytes:
                raise bodies.too_large(self._limits.max_body_bytes)
        return body


class _Backlog:
    """Estimates how long a request has waited before the event loop came to it.

    In each round the loop reads the sockets that are ready, one after the other: a request has waited since the first
    of its round and, when they come faster than they are answered, at most one earlier round in its socket.
    """

    def __init__(self, limit_seconds: float) -> None:
        self._limit = limit_seconds
        self._start: float | None = None
        self._requests = 0
        self._earlier = 0.0
        self._closed = 0.0

    def too_long(self) -> bool:
        """Whether the present request has waited too long."""
        now = time.monotonic()
        if self._start is None:
            self._start = now
            asyncio.get_running_loop().call_soon(self._close_round)
            if now - self._closed > AWAKE_SECONDS:
                self._earlier = 0.0
        self._requests += 1
        queued = self._requests > QUEUE or self._earlier > 0.0  # else it was a hiccup, and late is better than never
        return queued and now - self._start + self._earlier > self._limit

    def _close_round(self) -> None:
        assert self._start is not None
        self._closed = time.monotonic()
        self._earlier = self._closed - self._start if self._requests >= QUEUE else 0.0
        self._start, self._requests = None, 0


def header(scope: Scope, wanted: bytes) -> bytes | None:
    """The value of a header, by its lower-case name."""
    for name, value in scope["headers"]:
        if name == wanted:
            return bytes(value)
    return None


def _is_loopback(host: str) -> bool:
    """A socket of both families shows an IPv4 client as ::ffff:127.0.0.1."""
    address = ipaddress.ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
