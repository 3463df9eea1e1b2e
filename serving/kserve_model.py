"""The KServe model: V1 `:predict` and V2 `infer` (REST and gRPC) over the same service as `/predict`."""

import asyncio
import struct
import time
from typing import Any

import kserve
from grpc_interceptor.exceptions import InvalidArgument, Unavailable, Unimplemented
from kserve.errors import InvalidInput, ModelNotReady
from kserve.model import InferenceVerb
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.infer_type import InferInput, InferOutput, InferRequest, InferResponse
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from numpy.typing import NDArray

from feedrank.scoring import Ranking
from serving.requests import RankRequest, RefusedError, convert
from serving.responses import rounded_scores
from serving.service import Answer, Service

INPUTS = (
    {"name": "user_id", "datatype": "INT64", "shape": [1]},
    {"name": "item_ids", "datatype": "INT64", "shape": [-1]},
    {"name": "device", "datatype": "BYTES", "shape": [1]},
    {"name": "timestamp", "datatype": "BYTES", "shape": [1]},
)
OPTIONAL_INPUTS = {"device", "timestamp"}
OUTPUTS = (
    {"name": "item_ids", "datatype": "INT64", "shape": [-1]},
    {"name": "scores", "datatype": "FP32", "shape": [-1]},
)
_DATATYPES = {str(i["name"]): str(i["datatype"]) for i in INPUTS}
_YIELD_EVERY_SECONDS = 0.002


class RankerModel(kserve.Model):
    """Ranks by both protocols. Loading, readiness and stopping are the service's, not KServe's, to decide."""

    def __init__(self, service: Service) -> None:
        self._service = service
        super().__init__(service.config.model_name)

    @property
    def ready(self) -> bool:
        """Whether requests are answered; KServe's base class would set it at will."""
        return self._service.loader.current is not None

    @ready.setter
    def ready(self, _: bool) -> None:
        pass

    async def healthy(self) -> bool:
        """Readiness as probes ask for it."""
        return self._service.ready

    def load(self) -> bool:
        """Called by KServe for a model that isn't ready: the loader is at it already."""
        return self.ready

    def get_input_types(self) -> list[dict[str, Any]]:
        """V2 metadata."""
        return list(INPUTS)

    def get_output_types(self) -> list[dict[str, Any]]:
        """V2 metadata."""
        return list(OUTPUTS)

    async def __call__(
        self, body: Any, headers: dict[str, str] | None = None, verb: InferenceVerb = InferenceVerb.PREDICT
    ) -> tuple[Any, dict[str, str]]:
        """Answers a decoded request; the base class's stages and histograms are of no use here."""
        if verb is not InferenceVerb.PREDICT:
            raise NotImplementedError("this model does not explain")
        grpc = isinstance(body, InferRequest) and body.from_grpc
        try:
            answer = self._infer(body) if isinstance(body, InferRequest) else await self._predict(body)
        except RefusedError as refused:
            self._service.metrics.failed(refused.kind)
            if grpc:
                self._service.metrics.answered("grpc", refused.status)
            raise _as_kserve_error(refused, self.name, grpc=grpc) from None
        if grpc:
            self._service.metrics.answered("grpc", 200)
        return answer, {}

    async def _predict(self, body: Any) -> dict[str, Any]:
        """V1: `{"instances": [request, …]}` to `{"predictions": [answer, …]}`."""
        limit = self._service.config.limits.max_instances
        instances = body.get("instances") if isinstance(body, dict) else None
        if not isinstance(instances, list) or not 1 <= len(instances) <= limit:
            raise RefusedError(f'send {{"instances": [1 to {limit} requests]}}', status=400, kind="invalid")
        requests = [_convert_instance(place, instance) for place, instance in enumerate(instances)]
        answers, turn = [], time.monotonic()
        for request in requests:
            if time.monotonic() - turn > _YIELD_EVERY_SECONDS:  # other requests get their turn
                await asyncio.sleep(0)
                turn = time.monotonic()
            answers.append(_answer_json(self._service.rank(request, started=time.perf_counter())))
        return {"predictions": answers}

    def _infer(self, request: InferRequest) -> InferResponse:
        """V2: tensors `user_id`, `item_ids` and, optionally, `device` and `timestamp`."""
        started = time.perf_counter()
        answer = self._service.rank(_from_tensors(request), started=started)
        return InferResponse(
            response_id=request.id or "",
            model_name=self.name,
            model_version=answer.loaded.model.version,
            infer_outputs=_outputs(answer.ranking),
            use_binary_outputs=request.use_binary_outputs,
            requested_outputs=request.request_outputs,
        )


def _answer_json(answer: Answer) -> dict[str, Any]:
    ranking = answer.ranking
    pairs = zip(ranking.item_ids.tolist(), rounded_scores(ranking), strict=True)
    return {
        "user_id": ranking.user_id,
        "predictions": [{"item_id": i, "score": s, "rank": n} for n, (i, s) in enumerate(pairs, start=1)],
        "model_version": answer.loaded.model.version,
        "latency_ms": round(answer.latency_ms, 3),
    }


def _convert_instance(place: int, instance: object) -> RankRequest:
    try:
        return convert(instance)
    except RefusedError as refused:
        reason = f"instances[{place}].{refused.field}: {refused.reason}"
        raise RefusedError(reason, status=400, kind="invalid") from None


def _from_tensors(request: InferRequest) -> RankRequest:
    given = {tensor.name: tensor for tensor in request.inputs}
    unknown = sorted(given.keys() - _DATATYPES.keys())
    missing = sorted(_DATATYPES.keys() - given.keys() - OPTIONAL_INPUTS)
    if unknown or missing or len(given) != len(request.inputs):
        raise _bad(f"inputs must be user_id, item_ids and optionally device, timestamp, each once; got {sorted(given)}")
    values = {name: _values(tensor) for name, tensor in given.items()}
    for name in values.keys() - {"item_ids"}:
        if len(values[name]) != 1:
            raise _bad(f"{name}: shape must be [1], got {given[name].shape}")
    context = {name: values[name][0] for name in OPTIONAL_INPUTS & values.keys()}
    try:
        return convert({"user_id": values["user_id"][0], "item_ids": values["item_ids"], "context": context or None})
    except RefusedError as refused:
        raise _bad(f"{(refused.field or '').removeprefix('context.')}: {refused.reason}") from None


def _values(tensor: InferInput) -> list[Any]:
    datatype = _DATATYPES[tensor.name]
    if tensor.datatype != datatype:
        raise _bad(f"{tensor.name}: datatype must be {datatype}, got {tensor.datatype}")
    if len(tensor.shape) != 1:
        raise _bad(f"{tensor.name}: must have one dimension, got shape {tensor.shape}")
    try:
        values = tensor.as_numpy().tolist() if tensor._raw_data is not None else list(tensor.data)
        if datatype == "BYTES":
            values = [v.decode("utf-8") if isinstance(v, bytes) else v for v in values]
    except (InvalidInput, ValueError, TypeError, struct.error) as error:
        raise _bad(f"{tensor.name}: the data can't be read as {datatype} of shape {tensor.shape}") from error
    if len(values) != tensor.shape[0]:
        raise _bad(f"{tensor.name}: shape {tensor.shape}, but {len(values)} values")
    return values


def _outputs(ranking: Ranking) -> list[InferOutput]:
    outputs = []
    arrays: tuple[NDArray[Any], ...] = (ranking.item_ids, ranking.scores)
    for spec, values in zip(OUTPUTS, arrays, strict=True):
        output = InferOutput(name=spec["name"], shape=list(values.shape), datatype=spec["datatype"])
        output.set_data_from_numpy(values, binary_data=False)
        outputs.append(output)
    return outputs


def _bad(reason: str) -> RefusedError:
    return RefusedError(reason, status=400, kind="invalid")


class NotServed(ModelNotReady):
    """503 with KServe's REST handler."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name)
        self.error_msg = reason


def _as_kserve_error(refused: RefusedError, name: str, *, grpc: bool) -> Exception:
    if refused.status == 503:
        return Unavailable(refused.reason) if grpc else NotServed(name, refused.reason)
    return InvalidArgument(refused.reason) if grpc else InvalidInput(refused.reason)


class RankerDataPlane(DataPlane):
    """KServe's data plane with an honest readiness, and bad binary bodies refused instead of failing."""

    def __init__(self, registry: kserve.ModelRepository, service: Service) -> None:
        super().__init__(model_registry=registry)
        self._service = service

    async def ready(self) -> bool:
        """`/v2/health/ready` and gRPC's ServerReady."""
        return self._service.ready

    async def model_ready(self, model_name: str, disable_predictor_health_check: bool = False) -> bool:
        """Probes learn that the predictor drains; requests are answered until it ends."""
        ready = await super().model_ready(model_name, disable_predictor_health_check)
        return ready or (disable_predictor_health_check and self.get_model_from_registry(model_name).ready)

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        """See KServe."""
        try:
            return super().decode(*args, **kwargs)
        except InvalidInput:
            raise
        except Exception as error:
            raise InvalidInput("the body can't be read as an inference request") from error


class ClosedRepository(ModelRepositoryExtension):
    """No client loads or unloads models (REST: `front.py`)."""

    async def load(self, model_name: str) -> None:
        """Refuses."""
        raise Unimplemented("models are not loaded through the API")

    async def unload(self, model_name: str) -> None:
        """Refuses."""
        raise Unimplemented("models are not unloaded through the API")
