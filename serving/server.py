"""KServe's model server, run the way a predictor should: front, event loop and a graceful end."""

import asyncio
import contextlib
import functools
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

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
from serving.protocol import RankingProtocol, protocol_for
from serving.pulse import PULSE_SECONDS, pulse
from serving.service import Service
from serving.worker_board import WorkerBoard

logger = logging.getLogger(__name__)

SWITCH_INTERVAL_SECONDS = 0.0005
"""How long a request waits for the interpreter while another thread computes; Python's default is 5 ms."""
SWEEP_PULSES = round(1 / PULSE_SECONDS)
_STATUS_OF_ERROR = {
    InvalidInput: 400,
    ModelNotFound: 404,
    ModelNotReady: 503,
    ServerNotReady: 503,
    UnsupportedProtocol: 501,
    NotImplementedError: 501,
}


class _UvicornServer(uvicorn.Server):
    """Leaves the signals to `RankerServer`, which drains first, and opens and closes its port when told."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config)
        self._listener = listener

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn; the port stays closed."""
        await super().startup(sockets=[])

    async def open(self) -> None:
        """Begins to accept; the socket itself is kept, for it may be shared and opened again."""
        while not self.started:
            await asyncio.sleep(0.01)
        make: Any = self.config.http_protocol_class
        protocol = functools.partial(
            make,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        accepting = self._listener.dup()
        loop = asyncio.get_running_loop()
        self.servers.append(await loop.create_server(protocol, sock=accepting, backlog=self.config.backlog))

    def leave_port(self) -> None:
        """Accepts no more, and lets go of the clients that were."""
        for server in self.servers:
            server.close()
        self.servers.clear()
        for connection in list(self.server_state.connections):
            connection.shutdown()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        self._listener.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn."""
        yield


class HttpServer(RESTServer):
    """KServe's routes behind the front."""

    def __init__(
        self,
        service: Service,
        data_plane: RankerDataPlane,
        repository: ClosedRepository,
        listener: socket.socket,
    ) -> None:
        super().__init__("kserve.model_server:app", data_plane, repository, service.config.http_port)
        drain = service.config.drain
        self._register_endpoints(kserve_app)
        _answer_errors(kserve_app)
        document(kserve_app)
        front = Front(service, kserve_app)
        limits = service.config.limits
        self.config = uvicorn.Config(
            front,
            http=protocol_for(front, limits),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=65,  # longer than the usual proxies', so that they end idle connections and not we
            timeout_graceful_shutdown=round(drain.timeout_seconds),
        )
        self._server = _UvicornServer(self.config, listener)

    async def serve(self) -> None:
        """Serves until `stop`, while the port is open."""
        await self._server.serve()

    async def open(self) -> None:
        """Opens the port."""
        await self._server.open()

    def leave_port(self) -> None:
        """Closes the port until `open`."""
        self._server.leave_port()

    def sweep(self) -> None:
        """Ends the connections that wait too long for their clients."""
        now = time.monotonic()
        for connection in list(self._server.server_state.connections):
            if isinstance(connection, RankingProtocol):
                connection.end_if_late(now)

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

    def __init__(
        self, service: Service, listener: socket.socket, *, board: WorkerBoard | None = None, place: int = 0
    ) -> None:
        config = service.config
        super().__init__(http_port=config.http_port, grpc_port=config.grpc_port, enable_grpc=config.grpc_port > 0)
        self._service = service
        self._listener = listener
        self._board, self._place = board, place
        self._rpc: GrpcServer | None = None
        self._pulses = 0
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
        http = HttpServer(self._service, self.dataplane, self.model_repository_extension, self._listener)
        serving = asyncio.create_task(http.serve())
        await self._pulse(http)
        gc.collect()
        gc.freeze()  # what is there now stays: no collection need look at it again
        sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
        ended = asyncio.create_task(told.wait())
        pulsing = asyncio.create_task(pulse(self._service.loop_delay, functools.partial(self._pulse, http)))
        await asyncio.wait((ended, serving, pulsing), return_when=asyncio.FIRST_COMPLETED)
        await self._drain(http)
        await serving
        pulsing.cancel()
        if self._board is not None:
            self._board.leave(self._place)
        with contextlib.suppress(asyncio.CancelledError):
            await pulsing

    async def _pulse(self, http: HttpServer) -> None:
        """Several times a second: the ports, the sign of life, and the connections that are overdue."""
        has_model = self._service.loader.current is not None
        if not self._service.draining:
            others = self._board is not None and self._board.others_have_model(self._place)
            await self._hold_ports(http, wanted=has_model or not others)
        if self._board is not None:
            self._board.beat(self._place, has_model=has_model and self._service.listening)
        self._pulses += 1
        if self._pulses % SWEEP_PULSES == 0:
            http.sweep()

    async def _hold_ports(self, http: HttpServer, *, wanted: bool) -> None:
        """Open while wanted: a worker without a model leaves them to those that have one, if there are any."""
        if wanted and not self._service.listening:
            await http.open()
            if self.enable_grpc:
                self._rpc = GrpcServer(self._service, self.dataplane, self.model_repository_extension)
                await self._rpc.open()
            logger.info("serving", extra={"fields": {"http_port": self._listener.getsockname()[1]}})
        elif self._service.listening and not wanted:
            http.leave_port()
            if self._rpc is not None:
                await self._rpc.close(0)
                self._rpc = None
        self._service.listening = wanted

    async def _drain(self, http: HttpServer) -> None:
        """Not ready first, so that routes change; then no new connection; then the rest."""
        drain = self._service.config.drain
        self._service.draining = True
        logger.info("draining", extra={"fields": {"seconds": drain.delay_seconds}})
        await asyncio.sleep(drain.delay_seconds)
        http.stop()
        self._service.listening = False
        if self._rpc is not None:
            await self._rpc.close(drain.timeout_seconds)
