"""What every client asks of a running predictor, and whether the answers are right."""

import json
import math
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

TIMEOUT_SECONDS = 20
UNKNOWN_FIELD = "colour"
Ranking = list[tuple[int, float]]
"""Item and score, best first."""


@dataclass(frozen=True)
class Target:
    """A running predictor, a question, and the right answer to it."""

    host: str
    http_port: int
    grpc_port: int
    model_name: str
    user_id: int
    item_ids: tuple[int, ...]
    device: str
    timestamp: str
    expected: tuple[tuple[int, float], ...] = ()

    @classmethod
    def asked(
        cls,
        host: str,
        http_port: int,
        grpc_port: int,
        *,
        user_id: int,
        item_ids: Sequence[int],
        model_name: str = "feedrank-ranker",
        device: str = "mobile",
        timestamp: str = "2024-11-15T13:30:00Z",
    ) -> Self:
        """The predictor's own answer to the plainest request is the one that all clients must get."""
        unanswered = cls(host, http_port, grpc_port, model_name, user_id, tuple(item_ids), device, timestamp)
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{unanswered.url}/predict", json.dumps(unanswered.body).encode(), headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            expected = product_ranking(json.load(response))
        return cls(host, http_port, grpc_port, model_name, user_id, tuple(item_ids), device, timestamp, tuple(expected))

    @property
    def url(self) -> str:
        """Of the HTTP port."""
        return f"http://{self._address_host}:{self.http_port}"

    @property
    def grpc_address(self) -> str:
        """Of the gRPC port."""
        return f"{self._address_host}:{self.grpc_port}"

    @property
    def _address_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def body(self) -> dict[str, Any]:
        """The question as `/predict` takes it."""
        context = {"device": self.device, "timestamp": self.timestamp}
        return {"user_id": self.user_id, "item_ids": list(self.item_ids), "context": context}

    @property
    def tensors(self) -> list[dict[str, Any]]:
        """The question as V2 takes it."""
        return [
            {"name": "user_id", "shape": [1], "datatype": "INT64", "data": [self.user_id]},
            {"name": "item_ids", "shape": [len(self.item_ids)], "datatype": "INT64", "data": list(self.item_ids)},
            {"name": "device", "shape": [1], "datatype": "BYTES", "data": [self.device]},
            {"name": "timestamp", "shape": [1], "datatype": "BYTES", "data": [self.timestamp]},
        ]

    def outcome(self, what: str, ranking: Ranking) -> "Outcome":
        """Whether a ranking is the expected one; scores to 1e-6, as float32 has no more."""
        same = len(ranking) == len(self.expected) and all(
            item == right_item and math.isclose(score, right_score, abs_tol=1e-6)
            for (item, score), (right_item, right_score) in zip(ranking, self.expected, strict=True)
        )
        return Outcome(what, None if same else f"another ranking: {ranking[:5]} instead of {self.expected[:5]}")


@dataclass(frozen=True)
class Outcome:
    """One thing that a client asked."""

    what: str
    problem: str | None = None
    """None if the answer was right."""


@dataclass(frozen=True)
class Exchange:
    """One HTTP request of the script."""

    what: str
    method: str
    path: str
    body: bytes = b""
    status: int = 200


@dataclass(frozen=True)
class Reply:
    """The answer to an exchange, as the client's library gave it."""

    status: int
    body: bytes


Sender = Callable[[str, Sequence[Exchange]], Sequence[Reply]]
"""Sends the exchanges to a URL, one after the other on one connection if the library keeps it."""


def exchanges(target: Target) -> list[Exchange]:
    """Every protocol twice, a refusal, and a health check by GET and HEAD."""

    def post(what: str, path: str, body: dict[str, Any], status: int = 200) -> Exchange:
        return Exchange(what, "POST", path, json.dumps(body, separators=(",", ":")).encode(), status)

    model = target.model_name
    rankings = [
        post("predict", "/predict", target.body),
        post("v1", f"/v1/models/{model}:predict", {"instances": [target.body]}),
        post("v2", f"/v2/models/{model}/infer", {"id": "a-1", "inputs": target.tensors}),
    ]
    refused = post("refused", "/predict", target.body | {UNKNOWN_FIELD: "red"}, 422)
    return [
        *rankings,
        refused,
        Exchange("health", "GET", "/health"),
        Exchange("head", "HEAD", "/health"),
        *rankings,
    ]


def follow(target: Target, send: Sender) -> list[Outcome]:
    """Sends the script by a client's means and judges what came back."""
    script = exchanges(target)
    replies = send(target.url, script)
    outcomes = [_judged(target, asked, reply) for asked, reply in zip(script, replies, strict=False)]
    return outcomes + [Outcome(asked.what, "no answer") for asked in script[len(replies) :]]


def _judged(target: Target, asked: Exchange, reply: Reply) -> Outcome:
    shown = f"{reply.status} {reply.body[:200]!r}"
    if reply.status != asked.status:
        return Outcome(asked.what, f"{shown} instead of {asked.status}")
    try:
        if asked.what == "head":
            return Outcome(asked.what, shown if reply.body else None)
        answer = json.loads(reply.body)
        if asked.what == "health":
            return Outcome(asked.what, None if answer["status"] == "healthy" else shown)
        if asked.what == "refused":
            readable = answer["field"] == UNKNOWN_FIELD and answer["reason"]
            return Outcome(asked.what, None if readable else shown)
        return target.outcome(asked.what, _RANKINGS[asked.what](answer))
    except (ValueError, LookupError, TypeError) as error:
        return Outcome(asked.what, f"{shown}: {error!r}")


def product_ranking(answer: dict[str, Any]) -> Ranking:
    """Of a `/predict` answer."""
    return [(p["item_id"], p["score"]) for p in answer["predictions"]]


def _v2_ranking(answer: dict[str, Any]) -> Ranking:
    if answer["id"] != "a-1":
        raise ValueError(f"id {answer['id']!r} instead of 'a-1'")
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    return list(zip(outputs["item_ids"], outputs["scores"], strict=True))


_RANKINGS: dict[str, Callable[[dict[str, Any]], Ranking]] = {
    "predict": product_ranking,
    "v1": lambda answer: product_ranking(answer["predictions"][0]),
    "v2": _v2_ranking,
}
