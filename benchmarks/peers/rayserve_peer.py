"""Ray Serve: `python -m benchmarks.peers.rayserve_peer --port N --bundle DIR`.

One replica behind the HTTP proxy, each a process, beside the controller and Ray's own ones. The replica reserves the
one CPU that Ray gets. The access logs are Ray's defaults; no driver prints them, as none does after `serve deploy`.
Dashboard and usage statistics are off. SIGTERM ends every process.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.ranker import TorchRanker


@serve.deployment
class Ranker:
    """Ranks whatever path is asked."""

    def __init__(self, bundle_directory: Path) -> None:
        self._ranker = TorchRanker(bundle_directory)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """The predictor's answer."""
        return self._ranker.answer(await request.json())


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:  # Ray's sockets need a short path
        _serve(arguments.port, arguments.bundle, folder)


def _serve(port: int, bundle_directory: Path, folder: str) -> None:
    ray.init(
        address="local",
        num_cpus=1,
        object_store_memory=100 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=folder,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # Ray's own handler leaves its folder
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(Ranker.bind(bundle_directory))
        signal.pause()
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
