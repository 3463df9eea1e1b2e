"""KServe's model server, run the way a predictor should: front, event loop, gRPC guards and a graceful end."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import kserve
import uvicorn
import uvloop
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from kserve.errors import (
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    ServerNotReady,
    UnsupportedProtocol,
)
from kserve.model_server import app as kserve_app
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.rest.server import RESTServer

from serving.front import Front
from serving.kserve_model import ClosedRepository, RankerDataPlane, RankerModel
from serving.openapi import document
from serving.protocol import protocol_for
from serving.service import Service

logger = logging.getLogger(__name__)

GRPC_THREADS = 2
SWITCH_INTERVAL_SECONDS = 0.0005
"""How long a request waits for the interpreter while another thread computes; Python's default is 5 ms."""
_STATUS_OF_ERROR = {
    InvalidInput: 400,
    ModelNotFound: 404,
    ModelNotReady: 503,
    ServerNotReady: 503,
    UnsupportedProtocol: 501,
    NotImplementedError: 501,
}


class _UvicornServer(uvicorn.Server):
    """Leaves the signals to `RankerServer`, which drains first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn."""
        yield


class HttpServer(RESTServer):
    """KServe's routes behind the front."""

    def __init__(self, service: Service, data_plane: RankerDataPlane, repository: ClosedRepository) -> None:
        super().__init__("kserve.model_server:app", data_plane, repository, service.config.http_port)
        drain = service.config.drain
        self._register_endpoints(kserve_app)
        _answer_errors(kserve_app)
        document(kserve_app)
        front = Front(service, kserve_app)
        self.config = uvicorn.Config(
            front,
            http=protocol_for(front),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=65,  # longer than the usual proxies', so that they end idle connections and not we
            timeout_graceful_shutdown=round(drain.timeout_seconds),
        )
        self._server = _UvicornServer(self.config)

    async def serve(self, listener: socket.socket) -> None:
        """Serves until `stop`."""
        await self._server.serve(sockets=[listener])

    def stop(self) -> None:
        """Lets requests in progress end; `serve` returns when they have."""
        self._server.should_exit = True


def _answer_errors(app: FastAPI) -> None:
    """Errors as JSON, with a message only where it is meant for the client, and without a traceback in the log."""

    async def expected(_: Request, error: Exception) -> JSONResponse:
        status = next(status for kind, status in _STATUS_OF_ERROR.items() if isinstance(error, kind))
        return JSONResponse({"error": str(error)}, status)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"error": f"{where}: {first['msg']}"}, 400)

    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "internal server error"}, 500)

    for kind in _STATUS_OF_ERROR:
        app.add_exception_handler(kind, expected)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unexpected)


class _TokenInterceptor(grpc.aio.ServerInterceptor):
    """Asks for the bearer token, but not of health checks."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """See gRPC."""
        sent = dict(details.invocation_metadata).get("authorization")
        is_probe = details.method.endswith(("/ServerLive", "/ServerReady", "/ModelReady"))
        if is_probe or self._service.authorized(sent.encode() if isinstance(sent, str) else sent):
            return await continuation(details)

        async def refuse(_: Any, context: grpc.aio.ServicerContext) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "send authorization: Bearer <token>")

        return grpc.unary_unary_rpc_method_handler(refuse)


class GrpcServer(GRPCServer):
    """KServe's gRPC service with the token, a message limit and no log line for each call."""

    def __init__(self, service: Service, data_plane: RankerDataPlane, repository: ClosedRepository) -> None:
        super().__init__(service.config.grpc_port, data_plane, repository, kwargs={})
        self._service = service

    async def open(self) -> None:
        """Starts to listen; several workers share the port (SO_REUSEPORT)."""
        limits = self._service.config.limits
        self._server = grpc.aio.server(
            ThreadPoolExecutor(max_workers=GRPC_THREADS),
            interceptors=(_TokenInterceptor(self._service), ExceptionToStatusInterceptor()),
            options=[("grpc.max_receive_message_length", limits.max_body_bytes), ("grpc.so_reuseport", 1)],
            maximum_concurrent_rpcs=limits.max_concurrency,
        )
        servicer = InferenceServicer(self._data_plane, self._model_repository_extension)
        add_GRPCInferenceServiceServicer_to_server(servicer, self._server)
        self._server.add_insecure_port(f"{self._service.config.host}:{self._port}")
        await self._server.start()

    async def close(self, grace_seconds: float) -> None:
        """Ends when the calls in progress have."""
        await self._server.stop(grace_seconds)


class RankerServer(kserve.ModelServer):
    """KServe's model server around one service."""

    def __init__(self, service: Service, listener: socket.socket) -> None:
        config = service.config
        super().__init__(http_port=config.http_port, grpc_port=config.grpc_port, enable_grpc=config.grpc_port > 0)
        self._service = service
        self._listener = listener
        self.dataplane = RankerDataPlane(self.registered_models, service)
        self.model_repository_extension = ClosedRepository(self.registered_models)

    def start(self, models: list[RankerModel]) -> None:
        """Serves until SIGTERM or SIGINT, and returns when every request is answered. A model need not be loaded."""
        for model in models:
            self.register_model(model)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve_until_told())

    async def _serve_until_told(self) -> None:
        told = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, told.set)
        http = HttpServer(self._service, self.dataplane, self.model_repository_extension)
        serving = asyncio.create_task(http.serve(self._listener))
        rpc = None
        if self.enable_grpc:
            rpc = GrpcServer(self._service, self.dataplane, self.model_repository_extension)
            await rpc.open()
        gc.collect()
        gc.freeze()  # what is there now stays: no collection need look at it again
        sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
        logger.info("serving", extra={"fields": {"http_port": self._listener.getsockname()[1]}})
        ended = asyncio.create_task(told.wait())
        await asyncio.wait((ended, serving), return_when=asyncio.FIRST_COMPLETED)
        await self._drain(http, rpc)
        await serving

    async def _drain(self, http: HttpServer, rpc: GrpcServer | None) -> None:
        """Not ready first, so that routes change; then no new connection; then the rest."""
        drain = self._service.config.drain
        self._service.draining = True
        logger.info("draining", extra={"fields": {"seconds": drain.delay_seconds}})
        await asyncio.sleep(drain.delay_seconds)
        http.stop()
        if rpc is not None:
            await rpc.close(drain.timeout_seconds)
