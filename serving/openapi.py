"""The OpenAPI description of the product's routes, beside KServe's, and the page that shows it."""

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse

from serving.requests import Context, RankRequest

OWN_PATHS = ("/predict", "/health", "/metrics", "/config", "/admin/reload")
TIMESTAMP_PATTERN = (
    r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])$"
)
"""Narrower than what is accepted: no day after the 28th."""

REQUEST_EXAMPLE = {
    "user_id": 123,
    "item_ids": [1001, 1002, 1003],
    "context": {"device": "mobile", "timestamp": "2024-11-15T10:30:00Z"},
}
RANKING_EXAMPLE = {
    "user_id": 123,
    "predictions": [
        {"item_id": 1003, "score": 0.31415926, "rank": 1},
        {"item_id": 1001, "score": 0.27182818, "rank": 2},
        {"item_id": 1002, "score": 0.16180339, "rank": 3},
    ],
    "model_version": "v1.0.0",
    "latency_ms": 0.098,
}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_INTEGER, _NUMBER = {"type": "integer", "minimum": 0}, {"type": "number", "minimum": 0}


def _object(properties: dict[str, Any], *, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


SCHEMAS: dict[str, Any] = {
    "Error": _object({"reason": {"type": "string"}, "field": {"type": "string"}}, optional=("field",)),
    "RankedItem": _object({"item_id": _INTEGER, "score": _SHARE, "rank": _INTEGER}),
    "RankResponse": _object(
        {
            "user_id": _INTEGER,
            "predictions": {"type": "array", "items": {"$ref": "#/components/schemas/RankedItem"}},
            "model_version": {"type": "string"},
            "latency_ms": _NUMBER,
        }
    ),
    "Health": _object(
        {
            "status": {"enum": ["healthy", "degraded", "not_ready", "draining"]},
            "model_version": _TEXT_OR_NULL,
            "model_loaded_at": _TEXT_OR_NULL,
            "uptime_seconds": _NUMBER,
            "last_prediction": _TEXT_OR_NULL,
            "snapshot_cutoff": _TEXT_OR_NULL,
            "problems": {"type": "array", "items": {"type": "string"}},
        }
    ),
    "Metrics": _object(
        {
            "requests_total": _INTEGER,
            "requests_per_second": _NUMBER,
            "latency_p50_ms": {"type": ["number", "null"]},
            "latency_p99_ms": {"type": ["number", "null"]},
            "error_rate": _NUMBER,
            "predictions_total": _INTEGER,
        }
    ),
    "Config": _object(
        {"model_config": {"type": "object"}, "feature_config": {"type": "object"}, "model": {"type": "object"}}
    ),
    "Reload": _object(
        {
            "reloaded": {"type": "boolean"},
            "model_version": {"type": "string"},
            "snapshot_problem": {"type": "string"},
        },
        optional=("snapshot_problem",),
    ),
}  # fmt: skip


def _json(schema: str, example: object = None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return {"application/json": content | ({} if example is None else {"example": example})}


def _errors(**examples: str) -> dict[str, Any]:
    """Error answers by status (`s422="…"`), each with what it means and an example."""
    found: dict[str, Any] = {}
    for status, text in examples.items():
        example = (
            {"field": "item_ids[3]", "reason": "Expected `int`, got `str`"} if status == "s422" else {"reason": text}
        )
        found[status[1:]] = {"description": text, "content": _json("Error", example)}
        if status == "s503":
            found["503"]["headers"] = {"Retry-After": {"schema": {"type": "string"}, "description": "seconds"}}
    return found


_UNAUTHORIZED = "a token is configured and was not sent"


def own_paths() -> dict[str, Any]:
    """The path items of the product's routes."""
    ranking = {"description": "The items by rank, best first.", "content": _json("RankResponse", RANKING_EXAMPLE)}
    predict = {
        "operationId": "predict",
        "summary": "Rank items for a user",
        "description": "Unknown users and items get a score from the model's learned default and their features.",
        "requestBody": {"required": True, "content": _json("RankRequest", REQUEST_EXAMPLE)},
        "responses": {
            "200": ranking,
            **_errors(
                s401=_UNAUTHORIZED,
                s408="the head or the body did not arrive in time",
                s413="the body is too large",
                s415="send Content-Type: application/json in UTF-8, by Content-Encoding gzip, deflate or none",
                s422="a field is wrong; the answer names it",
                s503="no model is loaded, too much load, too many connections, or no room in the prediction log",
            ),
        },
    }
    health = {
        "operationId": "health",
        "summary": "State of this worker",
        "responses": {
            "200": {"description": "Requests are answered.", "content": _json("Health")},
            "503": {"description": "No model is loaded, or the predictor is about to end.", "content": _json("Health")},
        },
    }
    metrics = {
        "operationId": "metrics",
        "summary": "Metrics of all workers: JSON on Accept: application/json, otherwise Prometheus' text",
        "responses": {
            "200": {
                "description": "The metrics.",
                "content": _json("Metrics") | {"text/plain": {"schema": {"type": "string"}}},
            }
        },
    }
    config = {
        "operationId": "config",
        "summary": "Configuration of the served model and its features",
        "responses": {
            "200": {"description": "The configuration.", "content": _json("Config")},
            **_errors(s401=_UNAUTHORIZED, s503="no model is loaded"),
        },
    }
    reload = {
        "operationId": "reload",
        "summary": "Look for a new model or snapshot now (only from this machine)",
        "responses": {
            "200": {"description": "The wanted model is the served one.", "content": _json("Reload")},
            **_errors(
                s401=_UNAUTHORIZED, s403="the caller is on another machine", s409="the wanted model can't be used"
            ),
        },
    }
    return {
        "/predict": {"post": {"tags": ["ranking"], **predict}},
        "/health": {"get": {"tags": ["operation"], **health}},
        "/metrics": {"get": {"tags": ["operation"], **metrics}},
        "/config": {"get": {"tags": ["operation"], **config}},
        "/admin/reload": {"post": {"tags": ["operation"], **reload}},
    }  # fmt: skip


def _request_schemas() -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components((RankRequest, Context), ref_template="#/components/schemas/{name}")
    found = dict(schemas)
    found["RankRequest"]["properties"]["item_ids"]["uniqueItems"] = True
    found["Context"]["properties"]["timestamp"] = {
        "anyOf": [{"type": "string", "pattern": TIMESTAMP_PATTERN}, {"type": "null"}],
        "default": None,
        "description": "RFC 3339 with a zone, from 2000 to before 2100; now if absent. A time before the snapshot's "
        "cut-off changes only the hour and the weekday.",
    }
    found["Context"]["properties"]["device"]["description"] = "the most common device if absent"
    return found


def document(app: FastAPI) -> None:
    """Makes `/openapi.json` and `/docs` of KServe's application describe the product's routes first."""

    schema = get_openapi(
        title="feedrank predictor",
        version="1",
        description="Ranks a feed. The product's own routes, then KServe's V1 and V2 protocols.",
        routes=app.routes,
    )
    schema["paths"] = own_paths() | {path: item for path, item in schema["paths"].items() if not _closed(path)}
    schema.setdefault("components", {}).setdefault("schemas", {}).update(SCHEMAS | _request_schemas())
    app.openapi = lambda: schema  # type: ignore[method-assign]  # made once, not in a request

    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(openapi_url="/openapi.json", title="feedrank predictor")

    app.add_api_route("/docs", docs, include_in_schema=False)


def _closed(path: str) -> bool:
    return path.startswith("/v2/repository") or path in OWN_PATHS
