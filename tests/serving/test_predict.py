"""The product's API over real HTTP: rankings, refusals that name the field, and what operators read."""

import json
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import Predictor

from feedrank.model.bundle import load_bundle
from feedrank.scoring import Scorer

VALID = {"user_id": 3, "item_ids": [5, 6], "context": {"device": "mobile", "timestamp": "2024-11-15T13:30:00Z"}}


def test_a_ranking_is_the_scorers(predictor: Predictor, models: dict[str, Path]):
    items = list(range(450, 550))
    answer = predictor.predict(7, items, device="tablet", timestamp="2024-11-20T10:30:00+02:00").json()
    bundle = load_bundle(models["v1.0.0"])
    expected = Scorer.build(bundle, bundle.snapshot).rank(7, items, time_us=1_732_091_400_000_000, device=2)
    assert [p["item_id"] for p in answer["predictions"]] == expected.item_ids.tolist()
    np.testing.assert_allclose([p["score"] for p in answer["predictions"]], expected.scores, atol=1e-7)
    assert [p["rank"] for p in answer["predictions"]] == list(range(1, 101))
    assert answer.keys() == {"user_id", "predictions", "model_version", "latency_ms"}
    assert (answer["user_id"], answer["model_version"]) == (7, "v1.0.0")
    assert 0 < answer["latency_ms"] < 1000


def test_context_is_optional_as_a_whole_and_in_part(predictor: Predictor):
    for context in ({}, {"device": None}, {"device": "desktop"}, {"timestamp": "2024-11-15T13:30:00Z"}):
        assert predictor.predict(3, [1, 2], **context).status_code == 200
    assert predictor.http.post("/predict", json={"user_id": 3, "item_ids": [1], "context": None}).status_code == 200


def test_unknown_users_and_items_get_a_score(predictor: Predictor):
    answer = predictor.predict(2**63 - 1, [0, 2**62, 10**15]).json()
    assert all(0 < p["score"] < 1 for p in answer["predictions"])


@pytest.mark.parametrize(
    "timestamp", ["2000-01-01T00:00:00Z", "2099-12-31T23:59:59.999999Z", "2024-02-29T00:00:00-11:30"]
)
def test_any_time_of_the_century_is_scored(predictor: Predictor, timestamp: str):
    answer = predictor.predict(3, [5, 6], timestamp=timestamp).json()
    assert all(0 < p["score"] < 1 for p in answer["predictions"])


def change(**fields: object) -> dict[str, object]:
    return VALID | fields


def context(**fields: object) -> dict[str, object]:
    return VALID | {"context": VALID["context"] | fields}


REFUSED = {
    "no user": ({"item_ids": [1]}, "user_id"),
    "no items": ({"user_id": 1}, "item_ids"),
    "0 items": (change(item_ids=[]), "item_ids"),
    "101 items": (change(item_ids=list(range(101))), "item_ids"),
    "unknown field": (change(limit=3), "limit"),
    "unknown field in context": (context(page=1), "context.page"),
    "user of another type": (change(user_id="3"), "user_id"),
    "user not whole": (change(user_id=3.5), "user_id"),
    "user true": (change(user_id=True), "user_id"),
    "user null": (change(user_id=None), "user_id"),
    "negative user": (change(user_id=-1), "user_id"),
    "huge user": (change(user_id=2**63), "user_id"),
    "very huge user": (change(user_id=10**40), "user_id"),
    "items of another type": (change(item_ids="1,2"), "item_ids"),
    "item of another type": (change(item_ids=[1, 2, "3"]), "item_ids[2]"),
    "negative item": (change(item_ids=[1, -2]), "item_ids[1]"),
    "huge item": (change(item_ids=[1, 2**63]), "item_ids[1]"),
    "item twice": (change(item_ids=[4, 5, 4]), "item_ids[2]"),
    "context of another type": (change(context=[]), "context"),
    "unknown device": (context(device="watch"), "context.device"),
    "time not a string": (context(timestamp=1731666600), "context.timestamp"),
    "time malformed": (context(timestamp="15.11.2024 10:30"), "context.timestamp"),
    "time without zone": (context(timestamp="2024-11-15T10:30:00"), "context.timestamp"),
    "impossible day": (context(timestamp="2024-02-30T10:30:00Z"), "context.timestamp"),
    "far past": (context(timestamp="1970-01-01T00:00:00Z"), "context.timestamp"),
    "far future": (context(timestamp="2100-01-01T00:00:00Z"), "context.timestamp"),
    "not an object": ([1, 2], "body"),
}


@pytest.mark.parametrize(("body", "field"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_field_is_named(predictor: Predictor, body: object, field: str):
    response = predictor.http.post("/predict", json=body)
    assert response.status_code == 422
    assert response.json()["field"] == field
    assert len(response.json()["reason"]) > 5


@pytest.mark.parametrize(
    "body", [b"", b"{", json.dumps(VALID).encode()[:-9], b'{"user_id": NaN, "item_ids": [1]}', b"\xff\xfe"]
)
def test_what_is_no_json_is_refused(predictor: Predictor, body: bytes):
    response = predictor.http.post("/predict", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["field"]) == (422, "body")


@pytest.mark.parametrize("path", ["/predict", "/v1/models/feedrank-ranker:predict", "/v2/models/feedrank-ranker/infer"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_10_mb_is_refused(predictor: Predictor, path: str, chunked: bool):
    part = b"[" * 1_000_000
    content = iter([part] * 10) if chunked else part * 10
    try:
        response = httpx.post(predictor.url + path, content=content, headers={"content-type": "application/json"})
    except httpx.WriteError:
        return  # the predictor closed the connection while the client was still sending
    assert response.status_code == 413


def test_a_body_in_parts_is_read(predictor: Predictor):
    body = json.dumps(VALID).encode()
    parts = iter([body[:10], body[10:40], body[40:]])
    response = httpx.post(predictor.url + "/predict", content=parts, headers={"content-type": "application/json"})
    assert response.status_code == 200


def test_another_method_is_refused(predictor: Predictor):
    response = predictor.http.get("/predict")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert predictor.http.post("/health").status_code == 405


def test_health_says_who_answers_since_when(predictor: Predictor):
    predictor.predict(1, [1])
    health = predictor.health()
    assert health["status"] == "healthy"
    assert health["model_version"] == "v1.0.0"
    assert health["uptime_seconds"] > 0
    assert health["problems"] == []
    for moment in ("model_loaded_at", "last_prediction"):
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", health[moment])


def test_metrics_count_requests_items_and_errors(predictor: Predictor):
    def counts() -> list[float]:
        return [
            predictor.metric("feedrank_requests_total", route="predict", status="200"),
            predictor.metric("feedrank_requests_total", route="predict", status="422"),
            predictor.metric("feedrank_errors_total", kind="invalid"),
            predictor.metric("feedrank_items_total", model_version="v1.0.0"),
            predictor.metric("feedrank_unknown_users_total", model_version="v1.0.0"),
            predictor.metric("feedrank_unseen_items_total", model_version="v1.0.0"),
            predictor.metric("feedrank_ranking_seconds_count", model_version="v1.0.0"),
        ]

    before = counts()
    predictor.predict(1, [1, 2, 10**12])
    predictor.predict(10**12, [1])
    predictor.predict(1, [])
    assert np.subtract(counts(), before).tolist() == [2, 1, 1, 4, 1, 1, 2]


def test_metrics_as_json_are_the_specs(predictor: Predictor):
    predictor.predict(1, [1, 2, 3])
    metrics = predictor.http.get("/metrics", headers={"accept": "application/json"}).json()
    assert metrics.keys() == {
        "requests_total", "requests_per_second", "latency_p50_ms", "latency_p99_ms", "error_rate", "predictions_total",
    }  # fmt: skip
    assert metrics["predictions_total"] >= 3
    assert 0 < metrics["latency_p50_ms"] <= metrics["latency_p99_ms"]


def test_config_is_the_models_and_its_features(predictor: Predictor, models: dict[str, Path]):
    config = predictor.http.get("/config").json()
    assert config["model_config"]["model_type"] == "two_tower"
    assert config["feature_config"]["features"]["item_popularity"]["half_life"] == "14d"
    assert config["model"]["model_version"] == "v1.0.0"


def test_the_description_names_the_products_routes_and_not_the_closed_ones(predictor: Predictor):
    paths = predictor.http.get("/openapi.json").json()["paths"]
    assert {"/predict", "/health", "/metrics", "/config", "/admin/reload"} <= paths.keys()
    assert "/v1/models/{model_name}:predict" in paths
    assert not [path for path in paths if "repository" in path]
    assert "swagger" in predictor.http.get("/docs").text


def test_the_examples_of_the_description_work(predictor: Predictor):
    operation = predictor.http.get("/openapi.json").json()["paths"]["/predict"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    answer = predictor.http.post("/predict", json=example)
    shown = operation["responses"]["200"]["content"]["application/json"]["example"]
    assert answer.json().keys() == shown.keys()
    assert answer.json()["predictions"][0].keys() == shown["predictions"][0].keys()
