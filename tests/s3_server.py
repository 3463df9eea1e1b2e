"""A server that speaks S3, in a process of its own: deltalake holds Python's lock while it waits for an answer."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

SERVE = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://{}:{}".format(*server.get_host_and_port()), flush=True)
input()
"""


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Its address."""
    command = [sys.executable, "-c", SERVE]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@contextlib.contextmanager
def bucket_of(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket `feed`, and the environment of the chart's pods."""
    variables = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "us-east-1"}
    for name, value in {**variables, "AWS_ENDPOINT_URL": address}.items():
        monkeypatch.setenv(name, value)
    store = boto3.resource("s3", region_name="us-east-1").Bucket("feed")
    store.create()
    yield store
    store.objects.delete()
    store.delete()
