"""Installs the peers' packages and starts their servers."""

import contextlib
import hashlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.predict_servers import START_SECONDS, Server, free_port, running

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Launch:
    """How a peer is started and asked."""

    command: list[str]
    path: str
    """Where requests go."""
    ready: str
    """What answers 200 when it is ready."""
    environment: dict[str, str] = field(default_factory=dict)


def requirements(name: str) -> Path:
    """A peer's pinned packages."""
    return HERE / f"{name}.txt"


def packages(name: str) -> Path:
    """The folder with a peer's packages, installed if they are not there; the program ends if that fails.

    It lies before our environment on the path, which has numpy and torch.
    """
    pins = requirements(name)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "feedrank-peers"
    folder = cache / f"{name}-{hashlib.sha256(pins.read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        print(f"installing {name} into {folder} …", file=sys.stderr)
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as fresh:
            _install(name, Path(fresh) / name)
            (Path(fresh) / name).rename(folder)
    return folder


def _install(name: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    done = subprocess.run([*command, "-r", str(requirements(name))], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "pip gave no reason").splitlines()[-1]
        sys.exit(f"the peer {name} can't be installed; pip has to reach PyPI for {requirements(name)}: {reason}")


def _mlserver(folder: Path, model: Path, port: int) -> Launch:
    settings = {
        "host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port(), "debug": False,
        "metrics_dir": str(folder / "metrics"), "environments_dir": str(folder / "environments"),
    }  # fmt: skip
    runtime = {
        "name": "ranker",
        "implementation": "benchmarks.peers.mlserver_peer.Runtime",
        "parameters": {"uri": str(model)},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(runtime))
    command = [str(packages("mlserver") / "bin" / "mlserver"), "start", str(folder)]
    return Launch(command, path="/v2/models/ranker/infer", ready="/v2/models/ranker/ready")


def _bentoml(folder: Path, model: Path, port: int) -> Launch:
    command = [str(packages("bentoml") / "bin" / "bentoml"), "serve", "benchmarks.peers.bentoml_peer:Ranker"]
    environment = {"BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True", "BUNDLE": str(model)}
    address = ["--host", "127.0.0.1", "--port", str(port)]
    return Launch([*command, *address], path="/predict", ready="/readyz", environment=environment)


def _rayserve(_: Path, model: Path, port: int) -> Launch:
    command = ["-m", "benchmarks.peers.rayserve_peer", "--port", str(port), "--bundle", str(model)]
    # Ray's processes listen to each other on all addresses; without a token of ours it writes one into the home folder.
    environment = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_TOKEN": secrets.token_hex()}
    environment["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"] = str(START_SECONDS)  # on a busy machine the default kills it
    return Launch(command, path="/predict", ready="/-/healthz", environment=environment)


PEERS = {"mlserver": _mlserver, "bentoml": _bentoml, "rayserve": _rayserve}


@contextlib.contextmanager
def outside_peer(folder: Path, name: str, model: Path) -> Iterator[Server]:
    """One of `PEERS`, with a bundle's model and one thread for torch."""
    folder.mkdir(parents=True)
    port = free_port()
    launch = PEERS[name](folder, model, port)
    path = os.pathsep.join((str(packages(name)), str(ROOT)))
    # Ray gives a replica of one CPU one thread. With torch's default of one for each core a request takes ten times as
    # long as soon as another process has a core.
    environment = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", **launch.environment}
    with running(
        [sys.executable, *launch.command],
        port=port,
        path=launch.path,
        ready=launch.ready,
        folder=folder,
        environment=environment,
    ) as server:
        yield server
