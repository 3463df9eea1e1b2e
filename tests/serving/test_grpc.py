"""gRPC beside V2's calls: health checks, reflection, and messages that are none."""

import signal
import threading
import time

import grpc
import pytest
from conftest import Predictor, running
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

INFERENCE = "inference.GRPCInferenceService"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def channel(predictor: Predictor) -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{predictor.grpc_port}")


def status(stub: health_pb2_grpc.HealthStub, service: str = "") -> int:
    return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def message(number: int, content: bytes | int) -> bytes:
    """A field of a protobuf message, without a library that would refuse what is wrong in it."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(name: bytes, datatype: bytes, shape: int, contents: bytes) -> bytes:
    return message(5, message(1, name) + message(2, datatype) + message(3, shape) + message(5, contents))


def infer(predictor: Predictor, *tensors: bytes, extra: bytes = b"") -> bytes:
    with channel(predictor) as open_channel:
        call = open_channel.unary_unary(f"/{INFERENCE}/ModelInfer", lambda data: data, lambda data: data)
        return call(message(1, b"feedrank-ranker") + extra + b"".join(tensors), timeout=10)


VALID = (tensor(b"user_id", b"INT64", 1, message(3, 12)), tensor(b"item_ids", b"INT64", 1, message(3, 101)))


def test_health_is_that_of_the_predictor_and_of_its_service(predictor: Predictor):
    before = predictor.output.read_text()
    with channel(predictor) as open_channel:
        stub = health_pb2_grpc.HealthStub(open_channel)
        assert status(stub) == status(stub, INFERENCE) == SERVING
        for unknown in ("feedrank-ranker", "feedrank", "grpc.health.v1.Health"):
            with pytest.raises(grpc.RpcError) as failure:
                status(stub, unknown)
            assert failure.value.code() is grpc.StatusCode.NOT_FOUND
            watched = stub.Watch(health_pb2.HealthCheckRequest(service=unknown))
            assert next(watched).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            watched.cancel()
    assert predictor.output.read_text() == before, "nothing is logged"


def test_health_is_not_serving_without_a_model_and_while_draining(models, tmp_path):
    with running(tmp_path, tmp_path / "model", ready=False, environment={"DRAIN__DELAY_SECONDS": "2"}) as predictor:
        seen: list[int] = []
        with channel(predictor) as open_channel:
            stub = health_pb2_grpc.HealthStub(open_channel)
            first, second = (stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(2))
            assert next(first).status == NOT_SERVING == status(stub)
            first.cancel()  # must not take the others' news away
            watcher = threading.Thread(target=lambda: seen.extend(answer.status for answer in second))
            watcher.start()
            (tmp_path / "model").symlink_to(models["v1.0.0"])
            predictor.wait_ready()
            predictor.wait(lambda: seen == [NOT_SERVING, SERVING], seconds=5)
            predictor.process.send_signal(signal.SIGTERM)
            predictor.wait(lambda: status(stub) == NOT_SERVING, seconds=5)
            started = time.monotonic()
            assert predictor.process.wait(30) == 0
            assert time.monotonic() - started < 10, "a watcher does not hold up the end"
            watcher.join(10)
        assert seen == [NOT_SERVING, SERVING, NOT_SERVING]


def test_health_and_reflection_need_no_token(models, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret")
    with running(tmp_path / "run", models["v1.0.0"], "--token-file", str(token)) as predictor:
        with channel(predictor) as open_channel:
            assert status(health_pb2_grpc.HealthStub(open_channel)) == SERVING
        assert INFERENCE in services(predictor)
        with pytest.raises(grpc.RpcError) as failure:
            infer(predictor, *VALID)
        assert failure.value.code() is grpc.StatusCode.UNAUTHENTICATED


def services(predictor: Predictor) -> set[str]:
    with channel(predictor) as open_channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(open_channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        return {service.name for service in next(stub.ServerReflectionInfo(asked)).list_services_response.service}


def test_reflection_describes_the_services(predictor: Predictor):
    reflection = "grpc.reflection.v1alpha.ServerReflection"
    assert services(predictor) == {INFERENCE, "grpc.health.v1.Health", reflection}
    with channel(predictor) as open_channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(open_channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol=INFERENCE)])
        files = next(stub.ServerReflectionInfo(asked)).file_descriptor_response.file_descriptor_proto
    methods = {
        m.name for f in files for s in descriptor_pb2.FileDescriptorProto.FromString(f).service for m in s.method
    }
    assert {"ModelInfer", "ServerReady", "ModelMetadata"} <= methods


@pytest.mark.parametrize(
    ("device", "words"),
    [(b"\xe4", "device: is not valid UTF-8"), (b"\xed\xa0\x80", "device: is not valid UTF-8"), (b"watch", "device: ")],
)
def test_text_tensors_that_are_no_text_are_refused(predictor: Predictor, device: bytes, words: str):
    for name in (b"device", b"timestamp"):
        with pytest.raises(grpc.RpcError) as failure:
            infer(predictor, *VALID, tensor(name, b"BYTES", 1, message(8, device)))
        assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert words.replace("device", name.decode()) in failure.value.details()


@pytest.mark.parametrize(
    "parts", [(*VALID, tensor(b"\xe4", b"BYTES", 1, b"")), (*VALID, message(3, b"\xe4")), (VALID[0][:-3],), (b"\xff",)]
)
def test_bytes_that_are_no_message_are_refused_and_no_failure(predictor: Predictor, parts: tuple[bytes, ...]):
    before = predictor.output.read_text()
    with pytest.raises(grpc.RpcError) as failure:
        infer(predictor, *parts)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "UTF-8" in failure.value.details()
    assert predictor.output.read_text() == before


def test_the_limit_is_on_what_a_message_unpacks_to(predictor: Predictor):
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        address = f"127.0.0.1:{predictor.grpc_port}"
        with grpc.insecure_channel(address, compression=compression) as open_channel:
            call = open_channel.unary_unary(f"/{INFERENCE}/ModelInfer", lambda data: data, lambda data: data)
            assert call(message(1, b"feedrank-ranker") + b"".join(VALID), timeout=10)
            with pytest.raises(grpc.RpcError) as failure:
                call(message(1, b"feedrank-ranker") + message(3, bytes(2_000_000)) + b"".join(VALID), timeout=10)
            assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_only_the_served_version_is_answered(predictor: Predictor):
    assert infer(predictor, *VALID, extra=message(2, b"v1.0.0"))
    with pytest.raises(grpc.RpcError) as failure:
        infer(predictor, *VALID, extra=message(2, b"v9"))
    assert failure.value.code() is grpc.StatusCode.NOT_FOUND
    assert "v1.0.0" in failure.value.details()
