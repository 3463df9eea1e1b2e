"""V1 and V2 over REST and gRPC; and what KServe leaves open is closed."""

import asyncio
import json
import time
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from conftest import Predictor

NAME = "feedrank-ranker"
TIME = "2024-11-15T13:30:00Z"
ITEMS = [5, 6, 7, 8]


@pytest.fixture(scope="module")
def expected(predictor: Predictor) -> list[dict[str, Any]]:
    return predictor.predict(3, ITEMS, device="mobile", timestamp=TIME).json()["predictions"]


def check(item_ids: np.ndarray, scores: np.ndarray, expected: list[dict[str, Any]]) -> None:
    assert item_ids.tolist() == [p["item_id"] for p in expected]
    np.testing.assert_allclose(scores, [p["score"] for p in expected], atol=1e-6)


def v2_inputs() -> list[dict[str, Any]]:
    return [
        {"name": "user_id", "shape": [1], "datatype": "INT64", "data": [3]},
        {"name": "item_ids", "shape": [4], "datatype": "INT64", "data": ITEMS},
        {"name": "device", "shape": [1], "datatype": "BYTES", "data": ["mobile"]},
        {"name": "timestamp", "shape": [1], "datatype": "BYTES", "data": [TIME]},
    ]


def test_v1_ranks_every_instance(predictor: Predictor, expected):
    instance = {"user_id": 3, "item_ids": ITEMS, "context": {"device": "mobile", "timestamp": TIME}}
    body = {"instances": [instance, instance | {"user_id": 4}]}
    answer = predictor.http.post(f"/v1/models/{NAME}:predict", json=body).json()
    assert [a["user_id"] for a in answer["predictions"]] == [3, 4]
    assert answer["predictions"][0]["predictions"] == expected


def test_v2_metadata_describes_the_tensors(predictor: Predictor):
    metadata = predictor.http.get(f"/v2/models/{NAME}").json()
    assert {i["name"]: (i["datatype"], i["shape"]) for i in metadata["inputs"]} == {
        "user_id": ("INT64", [1]), "item_ids": ("INT64", [-1]), "device": ("BYTES", [1]), "timestamp": ("BYTES", [1]),
    }  # fmt: skip
    assert [o["name"] for o in metadata["outputs"]] == ["item_ids", "scores"]
    assert (metadata["platform"], metadata["versions"]) == ("feedrank", ["v1.0.0"])
    rpc = triton_grpc.InferenceServerClient(f"127.0.0.1:{predictor.grpc_port}").get_model_metadata(NAME)
    assert (rpc.platform, list(rpc.versions)) == ("feedrank", ["v1.0.0"])


def test_v2_paths_may_name_the_served_version(predictor: Predictor):
    for version, status in (("v1.0.0", 200), ("v9", 404)):
        path = f"/v2/models/{NAME}/versions/{version}"
        assert predictor.http.get(path).status_code == predictor.http.get(f"{path}/ready").status_code == status
        response = predictor.http.post(f"{path}/infer", json={"inputs": v2_inputs()})
        assert response.status_code == status
    assert response.json() == {"error": "version v9 is not served; v1.0.0 is"}


@pytest.mark.parametrize("given", [{}, {"id": None}, {"id": ""}, {"id": "42"}, {"id": "größe \u2028\0"}])
def test_v2_gives_the_id_back_as_it_came(predictor: Predictor, given: dict[str, Any]):
    answer = predictor.http.post(f"/v2/models/{NAME}/infer", json={"inputs": v2_inputs()} | given).json()
    wanted = {key: value for key, value in given.items() if value is not None}
    assert {key: answer[key] for key in ("id",) if key in answer} == wanted


def test_v2_ignores_what_the_protocol_does_not_have(predictor: Predictor):
    body = {"inputs": v2_inputs(), "model_name": NAME, "priority": 1}
    assert predictor.http.post(f"/v2/models/{NAME}/infer", json=body).status_code == 200


ON, OFF = {"binary_data": True}, {"binary_data": False}
BINARY_OUTPUTS = {
    "all": (True, None, "item_ids scores", ""),
    "none": (False, None, "", "item_ids scores"),
    "listed": (True, [("scores", None)], "scores", ""),
    "listed, in its order": (True, [("scores", None), ("item_ids", None)], "scores item_ids", ""),
    "but one": (True, [("scores", OFF), ("item_ids", {})], "item_ids", "scores"),
    "one": (None, [("item_ids", None), ("scores", ON)], "scores", "item_ids"),
    "other parameters": (None, [("scores", {"classification": 0})], "", "scores"),
    "empty list": (True, [], "item_ids scores", ""),
}


@pytest.mark.parametrize("case", BINARY_OUTPUTS.values(), ids=BINARY_OUTPUTS.keys())
def test_v2_outputs_are_binary_as_asked(predictor: Predictor, expected, case: tuple[Any, ...]):
    default, listed, binary, plain = case
    body: dict[str, Any] = {"inputs": v2_inputs()}
    if default is not None:
        body["parameters"] = {"binary_data_output": default}
    if listed is not None:
        body["outputs"] = [{"name": n} | ({} if p is None else {"parameters": p}) for n, p in listed]
    response = predictor.http.post(f"/v2/models/{NAME}/infer", json=body)
    assert response.status_code == 200
    length = response.headers.get("inference-header-content-length")
    assert (length is not None) == bool(binary)
    assert response.headers["content-type"] == ("application/octet-stream" if binary else "application/json")
    end = len(response.content) if length is None else int(length)
    outputs = {output["name"]: output for output in json.loads(response.content[:end])["outputs"]}
    assert [n for n, o in outputs.items() if "data" not in o] == binary.split()
    assert [n for n, o in outputs.items() if "data" in o] == plain.split()
    values = {}
    for name, output in outputs.items():
        size = output.get("parameters", {}).get("binary_data_size", 0)
        dtype = np.int64 if name == "item_ids" else np.float32
        values[name] = output.get("data", np.frombuffer(response.content[end : end + size], dtype))
        end += size
    assert end == len(response.content)
    wanted = {"item_ids": [p["item_id"] for p in expected], "scores": [p["score"] for p in expected]}
    for name, given in values.items():
        np.testing.assert_allclose(np.array(given), wanted[name], atol=1e-7)


def test_v2_refuses_outputs_that_it_does_not_have(predictor: Predictor):
    for outputs, word in (
        ([{"name": "labels"}], "labels"),
        ([{"name": "scores"}, {"name": "scores"}], "once"),
        ([{"name": "scores", "parameters": {"binary_data": "yes"}}], "parameters.binary_data"),
    ):
        response = predictor.http.post(f"/v2/models/{NAME}/infer", json={"inputs": v2_inputs(), "outputs": outputs})
        assert response.status_code == 400
        assert word in response.json()["error"]


def without(name: str) -> list[dict[str, Any]]:
    return [i for i in v2_inputs() if i["name"] != name]


def changed(name: str, **fields: Any) -> list[dict[str, Any]]:
    return [i | fields if i["name"] == name else i for i in v2_inputs()]


BAD_TENSORS = {
    "no user": (without("user_id"), "user_id"),
    "unknown tensor": ([*v2_inputs(), {"name": "x", "shape": [1], "datatype": "INT64", "data": [1]}], "x"),
    "tensor twice": (v2_inputs() + v2_inputs()[:1], "once"),
    "wrong datatype": (changed("user_id", datatype="FP32"), "user_id: datatype"),
    "unknown datatype": (changed("user_id", datatype="INT7"), "user_id: datatype"),
    "two users": (changed("user_id", shape=[2], data=[1, 2]), "user_id: shape"),
    "two dimensions": (changed("item_ids", shape=[2, 2]), "item_ids: must have one dimension"),
    "shape of another size": (changed("item_ids", shape=[3]), "item_ids: shape"),
    "negative shape": (changed("item_ids", shape=[-4]), "item_ids: shape"),
    "empty shape": (changed("item_ids", shape=[]), "item_ids: must have one dimension"),
    "no items": (changed("item_ids", shape=[0], data=[]), "item_ids"),
    "101 items": (changed("item_ids", shape=[101], data=list(range(101))), "item_ids"),
    "item twice": (changed("item_ids", data=[1, 2, 3, 1]), "item_ids[3]"),
    "negative item": (changed("item_ids", data=[1, 2, 3, -1]), "item_ids[3]"),
    "values of another type": (changed("item_ids", data=["1", 2, 3, 4]), "item_ids[0]"),
    "not whole": (changed("item_ids", data=[1.5, 2, 3, 4]), "item_ids[0]"),
    "huge value": (changed("item_ids", data=[2**70, 2, 3, 4]), "item_ids[0]"),
    "nested values": (changed("item_ids", data=[[5, 6], [7, 8]], shape=[2]), "item_ids[0]"),
    "unknown device": (changed("device", data=["watch"]), "device"),
    "time without zone": (changed("timestamp", data=["2024-11-15T13:30:00"]), "timestamp"),
}


@pytest.mark.parametrize(("inputs", "reason"), BAD_TENSORS.values(), ids=BAD_TENSORS.keys())
def test_v2_refuses_bad_tensors_with_400_and_a_reason(predictor: Predictor, inputs: list[dict[str, Any]], reason: str):
    response = predictor.http.post(f"/v2/models/{NAME}/infer", json={"inputs": inputs})
    assert response.status_code == 400
    assert reason in response.json()["error"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"inputs": 3}', b'{"inputs": [{"name": "user_id"}]}'],
)
def test_v2_refuses_what_is_no_request(predictor: Predictor, content: bytes):
    headers = {"content-type": "application/json"}
    response = predictor.http.post(f"/v2/models/{NAME}/infer", content=content, headers=headers)
    assert response.status_code == 400
    assert response.json().keys() == {"error"}


@pytest.mark.parametrize("length", ["4", "x", "-1", "100000000000"])
def test_v2_refuses_broken_binary_bodies(predictor: Predictor, length: str):
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": length}
    head = json.dumps({"inputs": [v2_inputs()[0] | {"data": None, "parameters": {"binary_data_size": 3}}]})
    for content in (b"\0\1\2\3", head.encode()):
        response = predictor.http.post(f"/v2/models/{NAME}/infer", content=content, headers=headers)
        assert response.status_code == 400, response.text


@pytest.mark.parametrize("body", [{}, {"instances": []}, {"instances": 3}, {"instances": [{}] * 257}, [1], "x", 1])
def test_v1_refuses_what_is_no_list_of_instances(predictor: Predictor, body: Any):
    response = predictor.http.post(f"/v1/models/{NAME}:predict", json=body)
    assert response.status_code == 400
    assert "instances" in response.json()["error"]


def test_v1_names_the_instance_and_its_field(predictor: Predictor):
    body = {"instances": [{"user_id": 1, "item_ids": [1]}, {"user_id": 1, "item_ids": [1, 1]}]}
    response = predictor.http.post(f"/v1/models/{NAME}:predict", json=body)
    assert response.status_code == 400
    assert response.json()["error"].startswith("instances[1].item_ids[1]: ")


def test_grpc_refuses_bad_tensors_with_a_reason(predictor: Predictor):
    client = triton_grpc.InferenceServerClient(f"127.0.0.1:{predictor.grpc_port}")
    user = triton_grpc.InferInput("user_id", [1], "INT64")
    user.set_data_from_numpy(np.array([1]))
    with pytest.raises(triton_grpc.InferenceServerException, match="item_ids") as failure:
        client.infer(NAME, [user])
    assert "INVALID_ARGUMENT" in str(failure.value.status())


def test_no_client_unloads_or_loads_a_model(predictor: Predictor):
    for action in ("load", "unload"):
        response = predictor.http.post(f"/v2/repository/models/{NAME}/{action}")
        assert response.status_code == 404
    client = triton_grpc.InferenceServerClient(f"127.0.0.1:{predictor.grpc_port}")
    for call in (client.load_model, client.unload_model):
        with pytest.raises(triton_grpc.InferenceServerException) as failure:
            call(NAME)
        assert "UNIMPLEMENTED" in str(failure.value.status())
    assert predictor.predict(1, [1]).status_code == 200


def test_an_unknown_model_or_path_is_404_without_a_trace(predictor: Predictor):
    for path in ("/v1/models/other:predict", "/v2/models/other/infer"):
        response = predictor.http.post(path, json={"instances": [], "inputs": []})
        assert response.status_code == 404
        assert "Traceback" not in response.text
    assert predictor.http.get("/nothing").status_code == 404


def test_a_large_batch_does_not_hold_up_others(predictor: Predictor):
    instance = {"user_id": 3, "item_ids": list(range(100))}
    body = json.dumps({"instances": [instance] * 256}).encode()
    url = f"{predictor.url}/v1/models/{NAME}:predict"

    async def ask() -> float:
        async with httpx.AsyncClient(timeout=30) as client:
            send = [client.post(url, content=body, headers={"content-type": "application/json"}) for _ in range(8)]
            batches = asyncio.gather(*send)
            worst = 0.0
            while not batches.done():
                started = time.perf_counter()
                await client.get(f"{predictor.url}/v2/health/live")
                worst = max(worst, time.perf_counter() - started)
                await asyncio.sleep(0.001)
            assert {r.status_code for r in await batches} <= {200, 503}
            return worst

    assert asyncio.run(ask()) < 1.0


def test_nothing_is_logged_for_a_request(predictor: Predictor):
    before = predictor.output.read_text()
    for _ in range(5):
        predictor.predict(1, [1])
        predictor.http.post(f"/v1/models/{NAME}:predict", json={})
        predictor.http.post(f"/v2/models/{NAME}/infer", json={"inputs": v2_inputs()})
    with grpc.insecure_channel(f"127.0.0.1:{predictor.grpc_port}"):
        triton_grpc.InferenceServerClient(f"127.0.0.1:{predictor.grpc_port}").is_server_live()
    assert predictor.output.read_text() == before
