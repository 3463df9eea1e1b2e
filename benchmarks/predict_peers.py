"""What the predictor is measured against: `python -m benchmarks.predict_peers KIND --port N [--bundle DIR]`.

echo: a bare ASGI application that sends the body back, in uvicorn as it comes.
lean_echo: the same in uvicorn set up as the predictor is; without the access log its rate doubles.
stock: KServe's model server as it comes, with the model in eager torch behind V1, as most would write it.
"""

import argparse
import sys
from pathlib import Path
from typing import Any


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Sends a request's body back."""
    message = await receive()
    body = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


LEAN = {
    "loop": "uvloop", "http": "httptools", "access_log": False, "log_level": "warning",
    "lifespan": "off", "ws": "none", "proxy_headers": False, "server_header": False,
}  # fmt: skip


def serve_echo(port: int, settings: dict[str, Any]) -> None:
    """Runs the echo application."""
    import uvicorn

    uvicorn.run(echo, host="127.0.0.1", port=port, **settings)


def serve_stock(port: int, bundle_directory: Path) -> None:
    """Runs KServe's model server with its defaults."""
    import kserve

    from benchmarks.peers.ranker import TorchRanker

    ranker = TorchRanker(bundle_directory)

    class StockRanker(kserve.Model):
        def load(self) -> bool:
            self.ready = True
            return True

        def predict(self, payload: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
            return {"predictions": [ranker.answer(instance) for instance in payload["instances"]]}

    model = StockRanker("ranker")
    model.load()
    kserve.ModelServer(http_port=port, enable_grpc=False).start([model])


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("echo", "lean_echo", "stock"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bundle", type=Path)
    arguments = parser.parse_args()
    sys.argv = sys.argv[:1]  # KServe parses the command line when it is imported
    if arguments.kind == "stock":
        serve_stock(arguments.port, arguments.bundle)
    else:
        serve_echo(arguments.port, LEAN if arguments.kind == "lean_echo" else {})


if __name__ == "__main__":
    main()
