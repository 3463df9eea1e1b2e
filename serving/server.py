"""KServe's model server, run the way a predictor should: front, event loop and a graceful end."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Iterator

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
from kserve.protocol.rest.server import RESTServer
from starlette.exceptions import HTTPException

from serving.front import Front
from serving.grpc_server import GrpcServer
from serving.kserve_model import ClosedRepository, RankerDataPlane, RankerModel
from serving.openapi import document
from serving.protocol import protocol_for
from serving.service import Service

logger = logging.getLogger(__name__)

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

    async def unrouted(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        reason = str(error.detail)
        if error.status_code == 404:
            reason = f"{request.url.path[:100]} is no route; rankings are at POST /predict, GET /docs shows all routes"
        elif error.status_code == 405:
            reason = f"use {(error.headers or {}).get('Allow', 'another method')}"
        return JSONResponse({"error": reason}, error.status_code, headers=error.headers)

    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "internal server error"}, 500)

    for kind in _STATUS_OF_ERROR:
        app.add_exception_handler(kind, expected)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, unrouted)
    app.add_exception_handler(Exception, unexpected)


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
