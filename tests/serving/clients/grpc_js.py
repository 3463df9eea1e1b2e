"""A gRPC client that is not built on gRPC's C library."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from tritonclient.grpc import service_pb2

from .script import TIMEOUT_SECONDS, Outcome, Target
from .tensors import contents_ranking, grpc_request
from .toolchains import PROGRAMS, node, node_modules


def by_grpc_js(target: Target) -> list[Outcome]:
    """grpc-js with the V2 service's description."""
    command, modules = node().command[0], node_modules()
    with tempfile.NamedTemporaryFile() as descriptors:
        Path(descriptors.name).write_bytes(_descriptors())
        done = subprocess.run(
            [
                *(command, str(PROGRAMS / "rank_grpc.mjs"), target.grpc_address, descriptors.name),
                json.dumps(grpc_request(target)),
            ],
            capture_output=True,
            text=True,
            env=os.environ | {"FEEDRANK_NODE_MODULES": str(modules)},
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-600:])
    result = json.loads(done.stdout)
    rankings = [target.outcome("v2", contents_ranking(answer)) for answer in result["answers"]]
    return [Outcome("ready", None if result["ready"] else "not ready"), *rankings]


def _descriptors() -> bytes:
    described = FileDescriptorSet()
    for file in (*service_pb2.DESCRIPTOR.dependencies, service_pb2.DESCRIPTOR):
        file.CopyToProto(described.file.add())
    return bytes(described.SerializeToString())
