"""KServe's gRPC service with a token, a message limit, health checks, reflection and no log line for each call."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_interceptor.exceptions import NotFound
from grpc_reflection.v1alpha import reflection
from kserve.protocol.grpc import grpc_predict_v2_pb2 as kserve_pb2
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.grpc.servicer import InferenceServicer

from serving.kserve_model import ClosedRepository, RankerDataPlane
from serving.service import REFRESH_SECONDS, Service

THREADS = 2
INFERENCE = "inference.GRPCInferenceService"
_OPEN_SERVICES = (f"/{health.SERVICE_NAME}/", f"/{reflection.SERVICE_NAME}/")
_OPEN_METHODS = tuple(f"/{INFERENCE}/{method}" for method in ("ServerLive", "ServerReady", "ModelReady"))
_SERVING, _NOT_SERVING, _UNKNOWN = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
    health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
)


class _TokenInterceptor(grpc.aio.ServerInterceptor):
    """Asks for the bearer token, but not for health checks and reflection, as REST does."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """See gRPC."""
        sent = dict(details.invocation_metadata).get("authorization")
        is_open = details.method in _OPEN_METHODS or details.method.startswith(_OPEN_SERVICES)
        if is_open or self._service.authorized(sent.encode() if isinstance(sent, str) else sent):
            return await continuation(details)

        async def refuse(_: Any, context: grpc.aio.ServicerContext) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "send authorization: Bearer <token>")

        return grpc.unary_unary_rpc_method_handler(refuse)


class _DecodingInterceptor(grpc.aio.ServerInterceptor):
    """INVALID_ARGUMENT for bytes that are no message, where gRPC says UNKNOWN and logs a failure."""

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """See gRPC."""
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        def decode(data: bytes) -> Any:
            try:
                return handler.request_deserializer(data)
            except DecodeError as error:
                return error

        async def answer(request: Any, context: grpc.aio.ServicerContext) -> Any:
            if isinstance(request, DecodeError):
                reason = "the request is no message of this method: damaged, or a text in it is not UTF-8"
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(answer, decode, handler.response_serializer)


class _Health(health_pb2_grpc.HealthServicer):
    """grpc.health.v1: the readiness of `/v2/health/ready`.

    The package's own servicer forgets all watchers of a service when one leaves, and its streams hold up the end.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ending = asyncio.Event()

    def _status(self, name: str) -> Any:
        if name not in ("", INFERENCE):
            return _UNKNOWN
        return _SERVING if self._service.ready else _NOT_SERVING

    async def Check(self, request: Any, _context: grpc.aio.ServicerContext) -> Any:  # noqa: N802
        """See gRPC."""
        status = self._status(request.service)
        if status == _UNKNOWN:
            raise NotFound(f"no such service; there are {INFERENCE} and the empty name")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: Any, _context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:  # noqa: N802
        """See gRPC."""
        last = None
        while not self._ending.is_set():
            status = self._status(request.service)
            if status != last:
                yield health_pb2.HealthCheckResponse(status=status)
            last = status
            await asyncio.sleep(REFRESH_SECONDS)

    def end(self) -> None:
        """Ends the streams."""
        self._ending.set()


class _Servicer(InferenceServicer):
    async def ModelMetadata(self, request: Any, context: grpc.aio.ServicerContext) -> Any:  # noqa: N802
        """With the versions, which KServe leaves out."""
        metadata = await self._data_plane.model_metadata(model_name=request.name)
        return kserve_pb2.ModelMetadataResponse(**metadata)


class GrpcServer(GRPCServer):
    """The server of one worker."""

    def __init__(self, service: Service, data_plane: RankerDataPlane, repository: ClosedRepository) -> None:
        super().__init__(service.config.grpc_port, data_plane, repository, kwargs={})
        self._service = service
        self._health = _Health(service)

    async def open(self) -> None:
        """Starts to listen; several workers share the port (SO_REUSEPORT)."""
        limits = self._service.config.limits
        self._server = grpc.aio.server(
            ThreadPoolExecutor(max_workers=THREADS),
            interceptors=(_TokenInterceptor(self._service), _DecodingInterceptor(), ExceptionToStatusInterceptor()),
            options=[
                ("grpc.max_receive_message_length", limits.max_body_bytes),
                ("grpc.so_reuseport", 1),
                ("grpc.server_handshake_timeout_ms", round(1000 * limits.head_timeout_seconds)),
            ],
            maximum_concurrent_rpcs=limits.max_concurrency,
        )
        servicer = _Servicer(self._data_plane, self._model_repository_extension)
        add_GRPCInferenceServiceServicer_to_server(servicer, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((INFERENCE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        self._server.add_insecure_port(address(self._service.config.host, self._port))
        await self._server.start()

    async def close(self, grace_seconds: float) -> None:
        """Ends when the calls in progress have."""
        self._health.end()
        await self._server.stop(grace_seconds)


def address(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
