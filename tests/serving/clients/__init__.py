"""Programs that ask a running predictor for rankings, as its users' clients do.

    target = Target.asked("127.0.0.1", 8080, 8081, user_id=12, item_ids=[1001, 1002, 1003])
    for client in real_clients():
        problems = [outcome for outcome in client.ask(target) if outcome.problem]

`ask` builds what has to be built when it is first called; `AbsentError` says what this machine lacks for a client.
"""

from collections.abc import Callable
from dataclasses import dataclass

from . import commands, grpc_js, product, python_http, tensors, toolchains
from .script import Outcome, Sender, Target, follow
from .shapes import SHAPES
from .toolchains import AbsentError

__all__ = ["AbsentError", "ClientProgram", "Outcome", "Target", "real_clients", "shapes"]


@dataclass(frozen=True)
class ClientProgram:
    """A client by its name."""

    name: str
    run: Callable[[Target], list[Outcome]]

    def ask(self, target: Target) -> list[Outcome]:
        """What came of everything that the client asked; a failure of the client is a problem like a wrong answer.

        Raises:
            AbsentError: the client can't run on this machine.
        """
        try:
            return self.run(target)
        except AbsentError:
            raise
        except Exception as error:
            return [Outcome("run", f"{type(error).__name__}: {error}")]


def _scripted(name: str, send: Sender) -> ClientProgram:
    return ClientProgram(name, lambda target: follow(target, send))


def real_clients() -> list[ClientProgram]:
    """Each is a real program or library."""
    java, more_java, go, node = toolchains.java, toolchains.java_with_libraries, toolchains.go, toolchains.node
    scripted = {
        "java HttpClient": toolchains.sender(java, "default"),
        "java HttpClient chunked": toolchains.sender(java, "chunked"),
        "java HttpClient HTTP/1.1": toolchains.sender(java, "http_1_1"),
        "java HttpClient Expect": toolchains.sender(java, "expect"),
        "java HttpURLConnection": toolchains.sender(java, "url_connection"),
        "java OkHttp": toolchains.sender(more_java, "okhttp"),
        "java Apache HttpClient": toolchains.sender(more_java, "apache"),
        "go net/http": toolchains.sender(go, "default"),
        "go net/http chunked": toolchains.sender(go, "chunked"),
        "go net/http gzip": toolchains.sender(go, "gzip"),
        "go net/http Expect": toolchains.sender(go, "expect"),
        "node fetch": toolchains.sender(node, "fetch"),
        "node fetch of a stream": toolchains.sender(node, "fetch_stream"),
        "node http": toolchains.sender(node, "http"),
        "node axios": toolchains.sender(toolchains.node_with_axios, "axios"),
        "perl HTTP::Tiny": toolchains.sender(toolchains.perl, "default"),
        "perl HTTP::Tiny chunked": toolchains.sender(toolchains.perl, "chunked"),
        "curl": commands.by_curl(),
        "curl HTTP/1.0": commands.by_curl("--http1.0"),
        "curl HTTP/2 by upgrade": commands.by_curl("--http2"),
        "curl compressed": commands.by_curl("--compressed"),
        "curl gzip": commands.by_curl(gzipped=True),
        "curl gzip HTTP/2 by upgrade": commands.by_curl("--http2", gzipped=True),
        "curl large": commands.by_curl(large=True),
        "curl large chunked": commands.by_curl(header="Transfer-Encoding: chunked", large=True),
        "curl large Expect": commands.by_curl(header="Expect: 100-continue", large=True),
        "curl large HTTP/2 by upgrade": commands.by_curl("--http2", large=True),
        "wget": commands.by_wget,
        "python urllib": python_http.by_urllib,
        "python http.client": python_http.by_http_client,
        "python requests": python_http.by_requests,
        "python requests gzip": python_http.by_requests_gzipped,
        "python urllib3": python_http.by_urllib3,
        "python httpx": python_http.by_httpx,
        "python httpx streamed": python_http.by_httpx_streamed,
        "python aiohttp": python_http.by_aiohttp(),
        "python aiohttp gzip": python_http.by_aiohttp(compress="gzip"),
        "python aiohttp Expect": python_http.by_aiohttp(expect100=True),
        "python geventhttpclient": python_http.by_geventhttpclient,
    }
    others = {
        "feedrank Client": product.by_client,
        "feedrank AsyncClient": product.by_async_client,
        "tritonclient http binary": tensors.by_triton_http(),
        "tritonclient http JSON": tensors.by_triton_http(binary=False),
        "tritonclient http gzip": tensors.by_triton_http(
            request_compression_algorithm="gzip", response_compression_algorithm="gzip"
        ),
        "tritonclient http JSON gzip": tensors.by_triton_http(binary=False, request_compression_algorithm="gzip"),
        "tritonclient http aio": tensors.by_triton_aio("http"),
        "tritonclient grpc": tensors.by_triton_grpc(),
        "tritonclient grpc gzip": tensors.by_triton_grpc(compression_algorithm="gzip"),
        "tritonclient grpc aio": tensors.by_triton_aio("grpc"),
        "kserve InferenceRESTClient": tensors.by_kserve("rest"),
        "kserve InferenceGRPCClient": tensors.by_kserve("grpc"),
        "node grpc-js": grpc_js.by_grpc_js,
        "grpc health": tensors.by_grpc_health,
        "grpc reflection": tensors.by_reflection,
    }
    return [
        *(_scripted(name, send) for name, send in scripted.items()),
        *(ClientProgram(name, run) for name, run in others.items()),
    ]


def shapes() -> list[ClientProgram]:
    """Clients that can't run here, by the bytes that they send."""
    return [_scripted(f"shape of {name}", shape.send) for name, shape in SHAPES.items()]
