"""The ASGI application in front of KServe's: the product's routes, and guards for all the others.

`POST /predict` passes no router, middleware or model of FastAPI, and mostly not even ASGI (`protocol.py`). KServe's
inference routes are answered by `inference.py`, the rest of its routes through `_kserve`, which closes what its server
leaves open: the repository endpoints, bodies without limit, no token.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable

import msgspec

from serving import bodies, exposition
from serving.guards import App, Guards, Message, Receive, Scope, Send, header
from serving.inference import Handler as InferenceHandler
from serving.inference import Inference
from serving.kserve_model import unknown_version
from serving.loader import UnusableModelError
from serving.requests import RefusedError, decode
from serving.responses import encode_error, encode_protocol_error, encode_ranking
from serving.service import Service

logger = logging.getLogger(__name__)

JSON, PROMETHEUS = b"application/json", b"text/plain; version=1.0.0; charset=utf-8"
CLOSE = (b"connection", b"close")
OPEN_PATHS = {"/", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"}
"""KServe's paths that need no token: probes have none. Neither do /health and /metrics."""
WATCHED_PATHS = {"/health", "/metrics", "/v2/health/live", "/v2/health/ready"}

Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, Headers, bytes]
"""Status, headers and body."""
Content = tuple[int, bytes, bytes]
"""Status, content type and body."""
Handler = Callable[[Scope, Receive], Awaitable[Content]]
_VERSION = re.compile(r"(/v2/models/[^/]+)/versions/([^/]+)")


class Front:
    """Routes a request to the product's handlers or to KServe's application."""

    def __init__(self, service: Service, app: App) -> None:
        self._service = service
        self._metrics = service.metrics
        self._guards = Guards(service)
        self._app = app
        self._inference = Inference(service)
        self._retry_after = (b"retry-after", str(service.config.limits.retry_after_seconds).encode())
        self._handlers: dict[str, tuple[str, Handler]] = {
            "/health": ("GET", self._health),
            "/metrics": ("GET", self._scrape),
            "/config": ("GET", self._config),
            "/admin/reload": ("POST", self._reload),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the protocol, which has the first scope, leaves the body out
        path = scope["path"]
        if path == "/predict":
            await self._predict(scope, receive, send)
        elif path in self._handlers:
            await self._product(scope, receive, send)
        else:
            await self._protocols(scope, receive, send)

    def predict_now(self, scope: Scope, body: bytes | bytearray, *, started: float) -> Answer:
        """Answers a `/predict` request whose body is here."""
        try:
            body = self._guards.plain(body, self._admit(scope))
            answer = self._ranked(body, started)
        except Exception as error:
            answer = self._failed(error)
        self._metrics.answered("predict", answer[0])
        return answer

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The same for a body that has to be waited for."""
        try:
            coding = self._admit(scope)
            with self._guards.in_progress():
                body = await self._guards.body(scope, receive)
            started = time.perf_counter()  # how fast a client sends is no figure of ours
            body = self._guards.plain(body, coding)
            answer = self._ranked(body, started)
        except Exception as error:
            answer = self._failed(error)
        self._metrics.answered("predict", answer[0])
        await _send(send, answer)

    def late_head(self) -> Answer:
        """408 for a request whose head does not end."""
        return self._failed(RefusedError("the request's head did not arrive in time", status=408, kind="timeout"))

    async def crowded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers on a connection beyond `max_connections`: 503 but to those who look after this process."""
        path = scope["path"]
        if path in WATCHED_PATHS:
            await self(scope, receive, send)
            return
        refused = RefusedError("too many connections; try again", status=503, kind="connections")
        status, headers, content = self._failed(refused, protocol=path.startswith(("/v1/", "/v2/")))
        self._metrics.answered("predict" if path == "/predict" else path[1:3], status)
        await _send(send, (status, [*headers, CLOSE], content))

    def _admit(self, scope: Scope) -> bytes:
        guards = self._guards
        guards.method(scope, "POST")
        guards.token(scope)
        guards.load()
        return guards.json(scope)

    def _ranked(self, body: bytes | bytearray, started: float) -> Answer:
        ranked = self._service.rank(decode(body), started=started)
        content = encode_ranking(
            ranked.ranking, version_json=ranked.loaded.model.version_json, latency_ms=ranked.latency_ms
        )
        return 200, self._headers(200, JSON, len(content)), content

    async def _product(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, handler = self._handlers[scope["path"]]
        try:
            self._guards.method(scope, method)
            status, content_type, body = await handler(scope, receive)
            answer = status, self._headers(status, content_type, len(body)), body
        except Exception as error:
            answer = self._failed(error)
        await _send(send, answer)

    async def _health(self, _scope: Scope, _receive: Receive) -> Content:
        return 200 if self._service.ready else 503, JSON, msgspec.json.encode(self._service.health())

    async def _scrape(self, scope: Scope, _receive: Receive) -> Content:
        self._service.refresh()
        workers = self._metrics.everywhere()
        if JSON in (header(scope, b"accept") or b""):
            return 200, JSON, msgspec.json.encode(exposition.as_json(workers))
        loaded = self._service.loader.current
        served = None
        if loaded is not None:
            served = exposition.Served(loaded.model.version, loaded.loaded_at, loaded.model.snapshot_cutoff)
        return 200, PROMETHEUS, exposition.as_prometheus(workers, served)

    async def _config(self, scope: Scope, _receive: Receive) -> Content:
        self._guards.token(scope)
        loaded = self._service.loader.current
        if loaded is None:
            raise RefusedError("no model is loaded yet", status=503, kind="no_model")
        model = loaded.model
        content = {"model_config": model.model_config, "feature_config": model.feature_config, "model": model.metadata}
        return 200, JSON, msgspec.json.encode(content)

    async def _reload(self, scope: Scope, _receive: Receive) -> Content:
        self._guards.loopback(scope)
        self._guards.token(scope)
        loader = self._service.loader
        loader.tell_other_workers()
        try:
            replaced = await asyncio.to_thread(loader.reload)
        except UnusableModelError as error:
            return 409, JSON, encode_error(str(error))
        version = None if loader.current is None else loader.current.model.version
        content = {"reloaded": replaced, "model_version": version}
        if loader.snapshot_problem is not None:
            content["snapshot_problem"] = loader.snapshot_problem
        return 200, JSON, msgspec.json.encode(content)

    async def _protocols(self, scope: Scope, receive: Receive, send: Send) -> None:
        """KServe's V1 and V2."""
        try:
            scope = self._without_version(scope)
        except RefusedError as refused:
            await _send(send, self._failed(refused, protocol=True))
            return
        found = self._inference.routes.get(scope["path"])
        if found is None:
            await self._kserve(scope, receive, send)
        else:
            await self._infer(scope, receive, send, *found)

    def _without_version(self, scope: Scope) -> Scope:
        """V2's paths may name the version, if it is the served one."""
        found, loaded = _VERSION.match(scope["path"]), self._service.loader.current
        if found is None or loaded is None:
            return scope
        if found[2] != loaded.model.version:
            raise unknown_version(found[2], loaded.model.version)
        path = found[1] + scope["path"][found.end() :]
        return {**scope, "path": path, "raw_path": path.encode()}

    async def _infer(self, scope: Scope, receive: Receive, send: Send, route: str, handler: InferenceHandler) -> None:
        guards = self._guards
        try:
            guards.method(scope, "POST")
            guards.token(scope)
            guards.load()
            with guards.in_progress():
                headers, content = await handler(scope["headers"], await guards.body(scope, receive))
            headers += [(b"content-length", b"%d" % len(content)), *self._extra_headers(200)]
            answer = 200, headers, content
        except Exception as error:
            answer = self._failed(error, protocol=True)
        self._metrics.answered(route, answer[0])
        await _send(send, answer)

    async def _kserve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, guards = scope["path"], self._guards
        try:
            guards.repository(path)
            if path not in OPEN_PATHS:
                guards.token(scope)
            if scope["method"] == "POST":
                guards.load()
                with guards.in_progress():
                    receive = _replay(await guards.body(scope, receive), receive)
                    await self._app(scope, receive, self._watched(send, "v1" if path.startswith("/v1/") else "v2"))
                return
        except RefusedError as refused:
            await _send(send, self._failed(refused, protocol=True))
            return
        await self._app(scope, receive, send)

    def _watched(self, send: Send, route: str) -> Send:
        """Counts the status that KServe's application answers, and completes its headers."""

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.answered(route, message["status"])
                message["headers"] = [*message["headers"], *self._extra_headers(message["status"])]
            await send(message)

        return watched

    def _extra_headers(self, status: int) -> Headers:
        headers = [self._retry_after] if status == 503 else []
        if self._service.draining:
            headers.append(CLOSE)  # the client's next request then goes elsewhere
        return headers

    def _failed(self, error: Exception, *, protocol: bool = False) -> Answer:
        """The answer to a refused request, or to a failure of our own, of which only the log tells.

        V1 and V2 have one field, `error`, and 400 for what is 422 elsewhere.
        """
        if not isinstance(error, RefusedError):
            logger.error("a request failed", exc_info=error)
            error = RefusedError("internal server error", status=500, kind="internal")
        self._metrics.failed(error.kind)
        status, content = error.status, encode_error(error.reason, field=error.field)
        if protocol:
            status = 400 if status == 422 else status
            content = encode_protocol_error(error.reason, field=error.field)
        headers = self._headers(status, JSON, len(content))
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        elif status == 405:
            methods = error.reason.removeprefix("use ")
            headers.append((b"allow", b"GET, HEAD" if methods == "GET" else methods.encode()))
        elif error.kind == "content_encoding":
            headers.append((b"accept-encoding", bodies.CODINGS))
        elif status in (408, 413) and CLOSE not in headers:
            headers.append(CLOSE)
        return status, headers, content

    def _headers(self, status: int, content_type: bytes, length: int) -> Headers:
        headers = [(b"content-type", content_type), (b"content-length", b"%d" % length)]
        if status == 503 or self._service.draining:
            headers += self._extra_headers(status)
        return headers


async def _send(send: Send, answer: Answer) -> None:
    status, headers, body = answer
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _replay(body: bytes | bytearray, receive: Receive) -> Receive:
    """Gives a body that was read already once more."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    return replay
