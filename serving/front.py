"""The ASGI application in front of KServe's: the product's routes, and guards for all the others.

`POST /predict` passes no router, middleware or model of FastAPI. KServe's own routes are reached through `_kserve`,
which closes what its server leaves open: the repository endpoints, bodies without limit, no token.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import msgspec

from serving import exposition
from serving.guards import App, Guards, Message, Receive, Scope, Send, header
from serving.loader import UnusableModelError
from serving.requests import RefusedError, decode
from serving.responses import encode_error, encode_ranking
from serving.service import Service

logger = logging.getLogger(__name__)

JSON, PROMETHEUS = b"application/json", b"text/plain; version=1.0.0; charset=utf-8"
CLOSE = (b"connection", b"close")
OPEN_PATHS = {"/", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"}
"""KServe's paths that need no token: probes have none. Neither do /health and /metrics."""

Content = tuple[int, bytes, bytes]
"""Status, content type and body."""
Handler = Callable[[Scope, Receive], Awaitable[Content]]


class Front:
    """Routes a request to the product's handlers or to KServe's application."""

    def __init__(self, service: Service, app: App) -> None:
        self._service = service
        self._metrics = service.metrics
        self._guards = Guards(service)
        self._app = app
        self._retry_after = (b"retry-after", str(service.config.limits.retry_after_seconds).encode())
        self._handlers: dict[str, tuple[str, Handler]] = {
            "/health": ("GET", self._health),
            "/metrics": ("GET", self._scrape),
            "/config": ("GET", self._config),
            "/admin/reload": ("POST", self._reload),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        path = scope["path"]
        if path == "/predict":
            await self._predict(scope, receive, send)
        elif path in self._handlers:
            await self._product(scope, receive, send)
        else:
            await self._kserve(scope, receive, send)

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        guards = self._guards
        guards.begin()
        try:
            guards.method(scope, "POST")
            guards.token(scope)
            guards.load()
            guards.json(scope)
            answer = self._service.rank(decode(await guards.body(scope, receive)), started=started)
        except RefusedError as refused:
            await self._refuse(send, refused, route="predict")
        except Exception:
            await self._fail(send, route="predict")
        else:
            body = encode_ranking(
                answer.ranking, version_json=answer.loaded.model.version_json, latency_ms=answer.latency_ms
            )
            self._metrics.answered("predict", 200)
            await self._send(send, 200, body)
        finally:
            guards.end()

    async def _product(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, handler = self._handlers[scope["path"]]
        try:
            self._guards.method(scope, method)
            status, content_type, body = await handler(scope, receive)
        except RefusedError as refused:
            await self._refuse(send, refused)
        except Exception:
            await self._fail(send)
        else:
            await self._send(send, status, body, content_type=content_type)

    async def _health(self, _scope: Scope, _receive: Receive) -> Content:
        return 200 if self._service.ready else 503, JSON, msgspec.json.encode(self._service.health())

    async def _scrape(self, scope: Scope, _receive: Receive) -> Content:
        self._service.refresh()
        workers = self._metrics.everywhere()
        if JSON in (header(scope, b"accept") or b""):
            return 200, JSON, msgspec.json.encode(exposition.as_json(workers))
        loaded = self._service.loader.current
        text = exposition.as_prometheus(
            workers,
            model_version=None if loaded is None else loaded.model.version,
            loaded_at=None if loaded is None else loaded.loaded_at.timestamp(),
        )
        return 200, PROMETHEUS, text

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
        return 200, JSON, msgspec.json.encode({"reloaded": replaced, "model_version": version})

    async def _kserve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, guards = scope["path"], self._guards
        guards.begin()
        try:
            if path.startswith("/v2/repository"):
                raise _not_found()
            if path not in OPEN_PATHS:
                guards.token(scope)
            if scope["method"] == "POST":
                guards.load()
                receive = _replay(await guards.body(scope, receive), receive)
                send = self._watched(send, "v1" if path.startswith("/v1/") else "v2")
            await self._app(scope, receive, send)
        except RefusedError as refused:
            await self._refuse(send, refused)
        finally:
            guards.end()

    def _watched(self, send: Send, route: str) -> Send:
        """Counts the status that KServe's application answers, and completes its headers."""

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.answered(route, message["status"])
                message["headers"] = [*message["headers"], *self._extra_headers(message["status"])]
            await send(message)

        return watched

    def _extra_headers(self, status: int) -> list[tuple[bytes, bytes]]:
        headers = [self._retry_after] if status == 503 else []
        if self._service.draining:
            headers.append(CLOSE)  # the client's next request then goes elsewhere
        return headers

    async def _refuse(self, send: Send, refused: RefusedError, *, route: str | None = None) -> None:
        self._metrics.failed(refused.kind)
        if route is not None:
            self._metrics.answered(route, refused.status)
        headers = {
            401: [(b"www-authenticate", b"Bearer")],
            405: [(b"allow", refused.reason.removeprefix("use ").encode())],
            408: [CLOSE],
            413: [CLOSE],
        }.get(refused.status, [])
        await self._send(send, refused.status, encode_error(refused.reason, field=refused.field), headers=headers)

    async def _fail(self, send: Send, *, route: str | None = None) -> None:
        """Answers a failure of our own: the log tells what happened, the client is not told."""
        logger.exception("a request failed")
        await self._refuse(send, RefusedError("internal server error", status=500, kind="internal"), route=route)

    async def _send(
        self,
        send: Send,
        status: int,
        body: bytes,
        *,
        content_type: bytes = JSON,
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        all_headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *(headers or ())]
        if status != 200 or self._service.draining:
            all_headers += self._extra_headers(status)
        await send({"type": "http.response.start", "status": status, "headers": all_headers})
        await send({"type": "http.response.body", "body": body})


def _not_found() -> RefusedError:
    return RefusedError("not found", status=404, kind="not_found")


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
