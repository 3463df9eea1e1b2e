"""Requests and answers as the measured servers have them, by the path where a server is asked."""

import json
from collections.abc import Mapping
from typing import Any

TOLERANCE = 1e-4

Ranking = list[tuple[int, float]]
"""Items and their scores, best first."""


def encoded(path: str, body: bytes) -> bytes:
    """A request of /predict for the server behind a path: V1, V2 or as it is."""
    if path.startswith("/v1/"):
        return b'{"instances": [%b]}' % body
    return _v2(json.loads(body)) if path.startswith("/v2/") else body


def _v2(request: dict[str, Any]) -> bytes:
    tensors = [
        ("user_id", "INT64", [request["user_id"]]),
        ("item_ids", "INT64", request["item_ids"]),
        ("device", "BYTES", [request["context"]["device"]]),
        ("timestamp", "BYTES", [request["context"]["timestamp"]]),
    ]
    inputs = [{"name": name, "datatype": kind, "shape": [len(data)], "data": data} for name, kind, data in tensors]
    return json.dumps({"inputs": inputs}).encode()


def decoded(path: str, answer: bytes) -> Ranking:
    """What a server behind a path answered to one request."""
    parsed = json.loads(answer)
    if path.startswith("/v2/"):
        return list(zip(*(output["data"] for output in parsed["outputs"]), strict=True))
    ranked = parsed["predictions"][0] if path.startswith("/v1/") else parsed
    return [(prediction["item_id"], prediction["score"]) for prediction in ranked["predictions"]]


def refuse_differing(rankings: Mapping[str, Ranking]) -> None:
    """Compares several servers' answers to one request with the first one's.

    Raises:
        RuntimeError: a server ranked other items, gave an item another score, or ranked not by score.
    """
    first, expected = next((name, dict(ranking)) for name, ranking in rankings.items())
    for name, ranking in rankings.items():
        if sorted(dict(ranking)) != sorted(expected) or len(ranking) != len(expected):
            raise RuntimeError(f"{name} ranked other items than {first}; what they do can't be compared")
        for item, score in ranking:
            if abs(score - expected[item]) > TOLERANCE:
                raise RuntimeError(f"{name} scored item {item} {score}, {first} {expected[item]}")
        scores = [score for _, score in ranking]
        if scores != sorted(scores, reverse=True):
            raise RuntimeError(f"{name} did not rank by its scores")
