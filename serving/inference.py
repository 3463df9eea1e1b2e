"""V1's `:predict` and V2's `infer` over REST.

KServe's own handlers read no content type with parameters, no JSON tensors without one, no event without a time and no
output that is binary by the request's choice, and make up ids; so the bodies of these two routes are read and written
here. The rest of KServe's REST interface is its own (`front.py`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from serving import bodies, cloud_events
from serving.requests import RefusedError, decode_batch
from serving.responses import rounded_scores
from serving.service import Answer, Service
from serving.tensors import Outputs, rank_request, read_request

JSON, BINARY = b"application/json", b"application/octet-stream"
_KINDS = (JSON, cloud_events.STRUCTURED, BINARY)
_YIELD_EVERY_SECONDS = 0.002

Headers = list[tuple[bytes, bytes]]
Reply = tuple[Headers, bytes]
"""Headers, without the length, and body."""
Handler = Callable[[Headers, bytes | bytearray], Awaitable[Reply]]


class Inference:
    """The two routes. Each handler raises a `RefusedError` for what it doesn't answer."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._name = name = service.config.model_name
        self.routes: dict[str, tuple[str, Handler]] = {
            f"/v1/models/{name}:predict": ("v1", self._predict),
            f"/v2/models/{name}/infer": ("v2", self._infer),
        }
        """Label of the metrics, and handler, by path."""

    async def _predict(self, headers: Headers, body: bytes | bytearray) -> Reply:
        """`{"instances": [request, …]}` to `{"predictions": [answer, …]}`."""
        body, envelope = self._opened(headers, body)
        limit = self._service.config.limits.max_instances
        answers, turn = [], time.monotonic()
        for request in decode_batch(body, limit=limit):
            if time.monotonic() - turn > _YIELD_EVERY_SECONDS:  # other requests get their turn
                await asyncio.sleep(0)
                turn = time.monotonic()
            answers.append(_answer_json(self._service.rank(request, started=time.perf_counter())))
        return self._reply({"predictions": answers}, envelope)

    async def _infer(self, headers: Headers, body: bytes | bytearray) -> Reply:
        """One request as tensors, in JSON or after it."""
        started = time.perf_counter()
        body, envelope = self._opened(headers, body)
        length = next((value for name, value in headers if name == b"inference-header-content-length"), None)
        request = read_request(body, json_length=length, model_name=self._name)
        outputs = Outputs(request)
        answer = self._service.rank(rank_request(request), started=started)
        tensors, binary = outputs.for_rest(answer.ranking, binary=envelope is None)
        content: dict[str, Any] = {"model_name": self._name, "model_version": answer.loaded.model.version}
        content |= {} if request.id is None else {"id": request.id}
        content["outputs"] = tensors
        if not binary:
            return self._reply(content, envelope)
        head = msgspec.json.encode(content)
        length = b"%d" % len(head)
        return [(b"content-type", BINARY), (b"inference-header-content-length", length)], head + binary

    def _opened(
        self, headers: Headers, body: bytes | bytearray
    ) -> tuple[bytes | bytearray, cloud_events.Envelope | None]:
        if self._service.loader.current is None:
            raise RefusedError("no model is loaded yet", status=503, kind="no_model")
        content_type, coding = bodies.described(headers)
        kind = bodies.media_type(content_type, allowed=_KINDS)
        body = bodies.decoded(body, coding, limit=self._service.config.limits.max_body_bytes)
        return cloud_events.opened(headers, kind, body)

    def _reply(self, answer: dict[str, Any], envelope: cloud_events.Envelope | None) -> Reply:
        if envelope is None:
            return [(b"content-type", JSON)], msgspec.json.encode(answer)
        return envelope.around(answer, model_name=self._name)


def _answer_json(answer: Answer) -> dict[str, Any]:
    ranking = answer.ranking
    pairs = zip(ranking.item_ids.tolist(), rounded_scores(ranking), strict=True)
    return {
        "user_id": ranking.user_id,
        "predictions": [{"item_id": i, "score": s, "rank": n} for n, (i, s) in enumerate(pairs, start=1)],
        "model_version": answer.loaded.model.version,
        "latency_ms": round(answer.latency_ms, 3),
    }
