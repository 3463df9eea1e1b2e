"""V2 by tritonclient and KServe's clients, gRPC's health checking and reflection."""

import asyncio
import base64
import functools
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.utils import InferenceServerException

from .script import TIMEOUT_SECONDS, UNKNOWN_FIELD, Outcome, Ranking, Target
from .toolchains import PROGRAMS

REQUEST_ID = "a-1"
V2_SERVICE = "inference.GRPCInferenceService"


def by_triton_http(*, binary: bool = True, **options: Any) -> Callable[[Target], list[Outcome]]:
    """tritonclient over HTTP; tensors in JSON or binary, with options of its `infer`."""

    def ask(target: Target) -> list[Outcome]:
        client = triton_http.InferenceServerClient(target.url.removeprefix("http://"))
        inputs, outputs = _triton_tensors(target, triton_http, binary=binary)
        return _by_triton(target, client, inputs, outputs, options)

    return ask


def by_triton_grpc(**options: Any) -> Callable[[Target], list[Outcome]]:
    """tritonclient over gRPC, with options of its `infer`."""

    def ask(target: Target) -> list[Outcome]:
        client = triton_grpc.InferenceServerClient(target.grpc_address)
        inputs, _ = _triton_tensors(target, triton_grpc)
        return _by_triton(target, client, inputs, None, options)

    return ask


def _by_triton(
    target: Target, client: Any, inputs: list[Any], outputs: list[Any] | None, options: dict[str, Any]
) -> list[Outcome]:
    name = target.model_name
    is_there = client.is_server_live() and client.is_server_ready() and client.is_model_ready(name)
    outcomes = [Outcome("ready", None if is_there else "not live or not ready"), _described(target, client)]
    for request_id in ("", REQUEST_ID):
        answer = client.infer(name, inputs, outputs=outputs, request_id=request_id, **options)
        response = answer.get_response()
        given = response.get("id", "") if isinstance(response, dict) else response.id
        outcomes.append(target.outcome("v2", _triton_ranking(answer)))
        outcomes.append(Outcome("id", None if given == request_id else f"{given!r} instead of {request_id!r}"))
    unknown = type(inputs[0])(UNKNOWN_FIELD, [1], "INT64").set_data_from_numpy(np.array([1]))
    try:
        client.infer(name, [*inputs, unknown], outputs=outputs, **options)
        outcomes.append(Outcome("refused", "an unknown tensor was taken"))
    except InferenceServerException as error:
        outcomes.append(Outcome("refused", None if UNKNOWN_FIELD in str(error) else str(error)))
    client.close()
    return outcomes


def _described(target: Target, client: Any) -> Outcome:
    metadata = client.get_model_metadata(target.model_name)
    if isinstance(metadata, dict):
        tensors = {tensor["name"] for tensor in metadata["inputs"]}
    else:
        tensors = {tensor.name for tensor in metadata.inputs}
    same = tensors == {tensor["name"] for tensor in target.tensors}
    return Outcome("metadata", None if same else f"inputs {sorted(tensors)}")


def by_triton_aio(kind: str) -> Callable[[Target], list[Outcome]]:
    """tritonclient for asyncio; `tritonclient.http.aio` is built on aiohttp."""

    async def ask(target: Target) -> list[Outcome]:
        http = kind == "http"
        address = target.url.removeprefix("http://") if http else target.grpc_address
        async with (triton_http_aio if http else triton_grpc_aio).InferenceServerClient(address) as client:
            inputs, _ = _triton_tensors(target, triton_http if http else triton_grpc)
            ready = await client.is_model_ready(target.model_name)
            answers = [await client.infer(target.model_name, inputs) for _ in range(2)]
        rankings = [target.outcome("v2", _triton_ranking(answer)) for answer in answers]
        return [Outcome("ready", None if ready else "not ready"), *rankings]

    return lambda target: asyncio.run(ask(target))


def _triton_tensors(target: Target, module: Any, *, binary: bool = True) -> tuple[list[Any], list[Any]]:
    how = {"binary_data": binary} if module is triton_http else {}
    inputs = []
    for given in target.tensors:
        array = np.array(given["data"], dtype=np.int64 if given["datatype"] == "INT64" else np.object_)
        tensor = module.InferInput(given["name"], given["shape"], given["datatype"])
        inputs.append(tensor.set_data_from_numpy(array, **how))
    return inputs, [module.InferRequestedOutput(name, **how) for name in ("item_ids", "scores")]


def _triton_ranking(answer: Any) -> Ranking:
    return _pairs(answer.as_numpy("item_ids").tolist(), answer.as_numpy("scores").tolist())


def by_kserve(kind: str) -> Callable[[Target], list[Outcome]]:
    """KServe's InferenceRESTClient or InferenceGRPCClient."""

    def ask(target: Target) -> list[Outcome]:
        outputs = _kserve_outputs(target)[kind]
        if "problem" in outputs:
            return [Outcome("v2", outputs["problem"])]
        return [target.outcome("v2", _pairs(outputs["item_ids"], outputs["scores"]))]

    return ask


@functools.cache
def _kserve_outputs(target: Target) -> dict[str, dict[str, Any]]:
    """Of both clients: KServe takes seconds to be imported."""
    command = [sys.executable, str(PROGRAMS / "rank_kserve.py"), target.url, target.grpc_address, target.model_name]
    done = subprocess.run([*command, json.dumps(target.tensors)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-600:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def by_grpc_health(target: Target) -> list[Outcome]:
    """What a Kubernetes gRPC probe and grpc-health-probe ask, and load balancers that watch."""
    with grpc.insecure_channel(target.grpc_address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        outcomes = []
        for service in ("", V2_SERVICE):
            request = health_pb2.HealthCheckRequest(service=service)
            checked = stub.Check(request, timeout=TIMEOUT_SECONDS)
            watched = next(iter(stub.Watch(request, timeout=TIMEOUT_SECONDS)))
            for what, answer in (("check", checked), ("watch", watched)):
                serving = answer.status == health_pb2.HealthCheckResponse.SERVING
                outcomes.append(Outcome(f"{what} {service!r}", None if serving else f"status {answer.status}"))
        try:
            stub.Check(health_pb2.HealthCheckRequest(service="unknown"), timeout=TIMEOUT_SECONDS)
            outcomes.append(Outcome("unknown service", "was answered"))
        except grpc.RpcError as error:
            found = error.code() is grpc.StatusCode.NOT_FOUND
            outcomes.append(Outcome("unknown service", None if found else str(error.code())))
    return outcomes


def by_reflection(target: Target) -> list[Outcome]:
    """As grpcurl: a ranking by a client that has no .proto file."""
    with grpc.insecure_channel(target.grpc_address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = set(database.get_services())
        missing = {V2_SERVICE, "grpc.health.v1.Health"} - services
        method = DescriptorPool(database).FindServiceByName(V2_SERVICE).FindMethodByName("ModelInfer")
        request_type, response_type = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        call = channel.unary_unary(
            f"/{V2_SERVICE}/{method.name}",
            request_serializer=request_type.SerializeToString,
            response_deserializer=response_type.FromString,
        )
        request = ParseDict(grpc_request(target), request_type())
        answer = MessageToDict(call(request, timeout=TIMEOUT_SECONDS), preserving_proto_field_name=True)
    return [
        Outcome("services", f"{missing} missing in {services}" if missing else None),
        target.outcome("v2", contents_ranking(answer)),
    ]


def grpc_request(target: Target) -> dict[str, Any]:
    """The question as gRPC's ModelInfer takes it, in protobuf's JSON."""
    inputs = []
    for tensor in target.tensors:
        if tensor["datatype"] == "INT64":
            contents = {"int64_contents": tensor["data"]}
        else:
            contents = {"bytes_contents": [base64.b64encode(text.encode()).decode() for text in tensor["data"]]}
        inputs.append({**{key: tensor[key] for key in ("name", "shape", "datatype")}, "contents": contents})
    return {"model_name": target.model_name, "inputs": inputs}


def contents_ranking(answer: dict[str, Any]) -> Ranking:
    """Of ModelInfer's answer in protobuf's JSON, whose 64-bit numbers may be text."""
    outputs = {output["name"]: output["contents"] for output in answer["outputs"]}
    return _pairs([int(item) for item in outputs["item_ids"]["int64_contents"]], outputs["scores"]["fp32_contents"])


def _pairs(items: list[int], scores: list[float]) -> Ranking:
    return list(zip(items, scores, strict=True))
