"""The registry on the server that the chart starts, with a PostgreSQL database whose password needs escaping."""

import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
import test_registry
import yaml

from feedrank.config.model import RegistryConfig
from feedrank.model.bundle import load_bundle
from feedrank.registry import Registry

CHART = Path(__file__).parents[1] / "manifests" / "base" / "feedrank.yaml"
PROGRAMS = os.pathsep.join([os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])
PASSWORD = "p@ss/w:rd%#?& é"
made_bundle = test_registry.made_bundle


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def database() -> Iterator[str]:
    """The URI of an empty database."""
    initdb = shutil.which("initdb", path=PROGRAMS) or pytest.skip("needs PostgreSQL (Debian: apt install postgresql)")
    control, port = Path(initdb).resolve().with_name("pg_ctl"), free_port()
    with tempfile.TemporaryDirectory() as folder:
        user = os.geteuid() or "nobody"  # PostgreSQL refuses root
        shutil.chown(folder, user)
        (Path(folder) / "password").write_text(PASSWORD, encoding="utf-8")
        run = functools.partial(subprocess.run, cwd=folder, check=True, timeout=60, user=user)
        run([initdb, "-D", "data", "-U", "ranker", "-A", "scram-sha-256", "--pwfile=password", "-E", "UTF8"])
        run([control, "start", "-D", "data", "-l", "log", "-o", f"-p {port} -h 127.0.0.1 -k {folder} -F"])
        try:
            yield f"postgresql://ranker:{urllib.parse.quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        finally:
            run([control, "stop", "-D", "data", "-m", "immediate"])


@pytest.fixture
def server(database: str, tmp_path: Path) -> Iterator[str]:
    """The address of the chart's MLflow server, on another port and with a folder for artifacts."""
    (deployment,) = (d for d in yaml.safe_load_all(CHART.read_text(encoding="utf-8")) if d["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    variables = {v["name"]: v["value"] for v in container["env"]} | {"MLFLOW_BACKEND_STORE_URI": database}
    port = free_port()  # of an option that is given twice, the last counts
    command = [*container["command"], "--host=127.0.0.1", f"--port={port}", f"--artifacts-destination={tmp_path}"]
    with subprocess.Popen([sys.executable, "-m", *command], env=os.environ | variables, cwd=tmp_path) as process:
        try:
            # It imports for long on a busy machine: these retries are two minutes.
            with httpx.Client(transport=httpx.HTTPTransport(retries=9)) as client:
                client.get(f"http://127.0.0.1:{port}/health", timeout=30).raise_for_status()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def test_a_version_is_registered_promoted_and_read_back(server, database, made_bundle, tmp_path):
    registry = Registry(RegistryConfig(tracking_uri=server))
    first, second = (test_registry.register(registry, made_bundle, tmp_path) for _ in range(2))
    assert registry.alias("champion").number == first.number
    registry.set_alias("champion", second.number)
    assert registry.alias("champion") == registry.version(second.number)
    assert load_bundle(registry.download(second.number, tmp_path / "back")).metadata.mlflow_run_id == second.run_id
    with psycopg.connect(database) as connection:
        aliases = connection.execute("select alias, version from registered_model_aliases").fetchall()
    assert dict(aliases) == {"champion": second.number, "challenger": second.number}
