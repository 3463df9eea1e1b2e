"""The JSON of an answer, without an object for each item."""

import functools

import msgspec
import numpy as np

from feedrank.scoring import Ranking

SCORE_DIGITS = 8
_SCALE = 10**SCORE_DIGITS


@functools.cache
def _template(items: int) -> bytes:
    """A %-template for user, then item and score digits of each rank, then version and latency."""
    lines = b",".join(b'{"item_id":%%d,"score":0.%%0%dd,"rank":%d}' % (SCORE_DIGITS, i + 1) for i in range(items))
    return b'{"user_id":%d,"predictions":[' + lines + b'],"model_version":%b,"latency_ms":%.3f}'


def encode_ranking(ranking: Ranking, *, version_json: bytes, latency_ms: float) -> bytes:
    """The body of a `/predict` answer; a score has 8 decimals and stays below 1."""
    items = len(ranking.item_ids)
    digits = np.empty((items, 2), dtype=np.int64)
    digits[:, 0] = ranking.item_ids
    scaled = np.multiply(ranking.scores, _SCALE, dtype=np.float64)
    np.rint(scaled, out=scaled)
    digits[:, 1] = np.minimum(scaled, _SCALE - 1, out=scaled)
    return _template(items) % (ranking.user_id, *digits.ravel().tolist(), version_json, latency_ms)


def rounded_scores(ranking: Ranking) -> list[float]:
    """The same scores as numbers, for the other protocols."""
    return [round(score, SCORE_DIGITS) for score in ranking.scores.tolist()]


def encode_error(reason: str, *, field: str | None = None) -> bytes:
    """The body of every error of the product's own routes."""
    return msgspec.json.encode({"reason": reason} if field is None else {"field": field, "reason": reason})


def encode_protocol_error(reason: str, *, field: str | None = None) -> bytes:
    """The body of every error of V1 and V2."""
    return msgspec.json.encode({"error": reason if field is None else f"{field}: {reason}"})
