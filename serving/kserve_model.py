"""The KServe model behind gRPC's `ModelInfer`, and what KServe's data plane tells about it."""

import time
from typing import Any

import kserve
from grpc_interceptor.exceptions import InvalidArgument, NotFound, Unavailable, Unimplemented
from kserve.model import InferenceVerb
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.infer_type import InferRequest, InferResponse
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from serving.requests import RefusedError
from serving.service import Service
from serving.tensors import INPUTS, OUTPUTS, Outputs, rank_request

PLATFORM = "feedrank"


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
        """Answers gRPC's `ModelInfer`; the base class's stages and histograms are of no use here."""
        if verb is not InferenceVerb.PREDICT or not isinstance(body, InferRequest):
            raise NotImplementedError("this model does not explain")
        try:
            answer = self._infer(body)
        except RefusedError as refused:
            self._service.metrics.failed(refused.kind)
            self._service.metrics.answered("grpc", 400 if refused.status == 422 else refused.status)
            raise _as_grpc_error(refused) from None
        self._service.metrics.answered("grpc", 200)
        return answer, {}

    def _infer(self, request: InferRequest) -> InferResponse:
        started = time.perf_counter()
        loaded = self._service.loader.current
        if loaded is not None and request.model_version not in (None, "", loaded.model.version):
            raise unknown_version(request.model_version, loaded.model.version)
        outputs = Outputs(request)
        answer = self._service.rank(rank_request(request), started=started)
        return InferResponse(
            response_id=request.id or "",
            model_name=self.name,
            model_version=answer.loaded.model.version,
            infer_outputs=outputs.of(answer.ranking),
            use_binary_outputs=request.use_binary_outputs,
        )


def unknown_version(wanted: str, served: str) -> RefusedError:
    """404 for a version that is not the served one."""
    return RefusedError(f"version {wanted[:100]} is not served; {served} is", status=404, kind="not_found")


def _as_grpc_error(refused: RefusedError) -> Exception:
    reason = f"{refused.field}: {refused.reason}" if refused.field else refused.reason
    kinds = {503: Unavailable, 404: NotFound}
    return kinds.get(refused.status, InvalidArgument)(reason)


class RankerDataPlane(DataPlane):
    """KServe's data plane with an honest readiness and whole metadata."""

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

    def metadata(self) -> dict[str, Any]:
        """Of the server; the repository extension is closed."""
        return super().metadata() | {"extensions": ["binary_tensor_data"]}

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        """Of the model; its versions are the one that is loaded."""
        loaded = self._service.loader.current
        versions = [] if loaded is None else [loaded.model.version]
        return await super().model_metadata(model_name) | {"platform": PLATFORM, "versions": versions}


class ClosedRepository(ModelRepositoryExtension):
    """No client loads or unloads models (REST: `front.py`)."""

    async def load(self, model_name: str) -> None:
        """Refuses."""
        raise Unimplemented("models are not loaded through the API")

    async def unload(self, model_name: str) -> None:
        """Refuses."""
        raise Unimplemented("models are not unloaded through the API")
