"""uvicorn's HTTP protocol with a short way for `POST /predict`, and without upgrades.

A ranking never waits for anything, so it needs no task, event or ASGI message: it is answered in the very call that
delivers the end of its body. Requests that do wait (a body in several parts, a client that reads slowly, one that
expects 100 Continue, pipelining behind another route) take the ordinary way through `Front`, with the same answers.

An offer to upgrade the connection (Java's HttpClient offers h2c by default) is ignored, as RFC 9110, 7.8, allows. The
parser stops at the end of such a head, whatever the client sends next; it is given the head again without the offer.
"""

import asyncio
import time
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from feedrank.config.serving import LimitsConfig
from serving.front import JSON, Front
from serving.guards import Scope
from serving.responses import encode_error

PATH = b"/predict"
CROWD = 64
FIRST_BYTE, CLOSING = object(), object()


class RankingProtocol(HttpToolsProtocol):
    """One connection."""

    front: Front
    limits: LimitsConfig
    """Set by `protocol_for`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._short = False
        self._body = b""
        self._started = 0.0
        self._awaited: object = None
        self._awaited_since = 0.0

    def data_received(self, data: bytes) -> None:
        """See asyncio. What was not answered at once goes the ordinary way."""
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.send_400_response("this is no HTTP/1.1 request")
            return
        if self._short and self.parser is not None:
            self._take_the_ordinary_way()

    def _parse(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as stopped:
                if self.parser.get_method() == b"CONNECT":
                    raise httptools.HttpParserInvalidMethodError from None
                data = self._head_without_upgrade() + data[stopped.args[0] :]
                self.parser = httptools.HttpRequestParser(self)  # the old one may have ended with "Connection: close"
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def send_400_response(self, msg: str) -> None:
        """See uvicorn; but neither before the answers to earlier requests nor as a second answer to this one."""
        cycle = None if self._short else self.cycle
        if cycle is not None and not cycle.response_complete and (self.pipeline or not cycle.more_body):
            cycle.keep_alive = False
            self.flow.pause_reading()
        elif cycle is not None and cycle.response_complete and cycle.more_body:
            self.transport.close()
        else:
            body = encode_error(msg)
            headers = [(b"content-type", JSON), (b"content-length", b"%d" % len(body))]
            self._answer(400, headers, body, keep_alive=False)

    def on_headers_complete(self) -> None:
        """See httptools."""
        if self.parser.should_upgrade():
            return
        if self.url == PATH and not self._busy() and self.parser.get_method() == b"POST":
            self._short = True
            self._body = b""
            self._started = time.perf_counter()
        else:
            super().on_headers_complete()

    def _busy(self) -> bool:
        waiting = self.cycle is not None and not self.cycle.response_complete
        return waiting or self.flow.write_paused or self.expect_100_continue

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        if self._short:
            self._body = self._body + body if self._body else body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        if not self._short:
            if not self.parser.should_upgrade():
                super().on_message_complete()
            return
        self._short = False
        scope: Scope = self.scope  # type: ignore[assignment]
        scope["method"], scope["client"] = "POST", self.client
        keep_alive = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
        status, headers, body = self.front.predict_now(scope, self._body, started=self._started)
        self._answer(status, headers, body, keep_alive=keep_alive)

    def _answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes, *, keep_alive: bool) -> None:
        parts = [STATUS_LINE[status]]
        for name, value in (*self.server_state.default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
            keep_alive = keep_alive and name != b"connection"
        if not keep_alive and (b"connection", b"close") not in headers:
            parts.append(b"connection: close\r\n")
        parts += (b"\r\n", body)
        self.transport.write(b"".join(parts))
        if keep_alive:
            self.on_response_complete()
        else:
            self.transport.close()

    def end_if_late(self, now: float) -> None:
        """Ends a connection that has waited too long for the rest of a head.

        Called once a second for each. The way of a request does nothing for it: what was awaited last time is told
        by the identity of uvicorn's list of headers, which is another one for each request.
        """
        awaited = self._awaits()
        if awaited is not self._awaited:
            self._awaited, self._awaited_since = awaited, now
        elif awaited is not None and now - self._awaited_since >= self.patience_seconds:
            self._end(awaited)

    @property
    def patience_seconds(self) -> float:
        """How long a head may take."""
        return self.limits.head_timeout_seconds

    def _awaits(self) -> object:
        """What the client owes us: the rest of a head, its first byte, or to take the last answer; or None."""
        if self.transport.is_closing():
            return CLOSING
        if self.timeout_keep_alive_task is not None or (self.cycle is not None and not self.cycle.response_complete):
            return None
        return FIRST_BYTE if self.headers is None else self.headers

    def _end(self, awaited: object) -> None:
        answered = self.cycle is not None and self.cycle.scope is self.scope  # before its body was here
        if awaited is CLOSING:
            self.transport.abort()
        elif awaited is FIRST_BYTE or answered:
            self.transport.close()
        else:
            status, headers, body = self.front.late_head()
            self._answer(status, headers, body, keep_alive=False)

    def _take_the_ordinary_way(self) -> None:
        """Starts the ASGI cycle for a request whose headers, and maybe a part of its body, are here."""
        self._short = False
        super().on_headers_complete()
        if self._body:
            super().on_body(self._body)


class CrowdedProtocol(RankingProtocol):
    """A connection beyond `max_connections`: one answer (`Front.crowded`), soon. A few are kept for probes."""

    patience_seconds = 1.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.app = self.front.crowded
        self.timeout_keep_alive = 1

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections + CROWD:
            transport.abort()

    def _busy(self) -> bool:
        return True  # no short way


def protocol_for(front: Front, limits: LimitsConfig) -> type[asyncio.Protocol]:
    """What makes the protocols of a server whose application is `front`."""
    attributes = {"front": front, "limits": limits}
    usual = type("RankingProtocol", (RankingProtocol,), attributes)
    crowded = type("CrowdedProtocol", (CrowdedProtocol,), attributes)

    def protocol(*, server_state: ServerState, **options: Any) -> asyncio.Protocol:
        kind = crowded if len(server_state.connections) >= limits.max_connections else usual
        return kind(server_state=server_state, **options)

    return cast(type[asyncio.Protocol], protocol)
