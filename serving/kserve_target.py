"""The champion served by a KServe InferenceService: an annotation of its pods names the served version.

DIRECTORY/versions/v1.2.3/   bundles on the volume that the predictor mounts; or copied from there to an object store,
                             from which the predictor's pods fetch them

KServe 0.20 splits no traffic in Standard mode, so a change is a rolling update: the old version answers until pods of
the new one are ready, and comes back when they never are.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from feedrank.config.promotion import TargetConfig
from feedrank.promotion.changes import PromotionError, Version
from feedrank.promotion.serving_target import NotServedError, Predictor, VersionFolders
from serving.cluster import api_client, ask, complaints, own_namespace
from serving.object_store import ObjectStore

GROUP, API_VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
VERSION_ANNOTATION = "feedrank/model-version"
"""Of the predictor's pods, whose mount it chooses; absent before the first promotion. Not in the chart's manifest, so
that no upgrade takes it back."""
POLL_SECONDS = 1.0
SERVICE_LABEL = "serving.kserve.io/inferenceservice"

T = TypeVar("T")


@dataclass(frozen=True)
class InferenceServiceTarget:
    """An InferenceService in Standard mode with a custom predictor container."""

    config: TargetConfig

    @property
    def folders(self) -> VersionFolders:
        """The staged bundles."""
        return VersionFolders(self.config.directory / "versions")

    def current_version(self) -> str | None:
        """See `ServingTarget`."""
        predictor = self._ask(lambda: self._services.get_namespaced_custom_object(*self._coordinates))["spec"][
            "predictor"
        ]
        version: str | None = predictor.get("annotations", {}).get(VERSION_ANNOTATION)
        return version

    def current_bundle(self) -> Path | None:
        """See `ServingTarget`."""
        version = self.current_version()
        return None if version is None else self.folders.folder(version)

    def has(self, version: Version) -> bool:
        """See `ServingTarget`."""
        return self.folders.has(version) and (self._store is None or self._store.has(version.model_version))

    def stage(self, bundle: Path, version: Version) -> None:
        """See `ServingTarget`."""
        self.folders.stage(bundle, version)
        if self._store is not None:
            self._store.upload(self.folders.folder(version.model_version))

    def renew(self, model_version: str) -> None:
        """See `ServingTarget`. Pods that fetched the version from a store have the old one until they restart."""
        if self._store is not None and self._store.has(model_version):
            self._store.upload(self.folders.folder(model_version))

    def switch(self, model_version: str | None) -> None:
        """See `ServingTarget`."""
        if model_version is not None and not self.folders.folder(model_version).is_dir():
            raise PromotionError(f"{self.folders.folder(model_version)}: no such version; stage it first")
        patch = {"spec": {"predictor": {"annotations": {VERSION_ANNOTATION: model_version}}}}
        self._ask(lambda: self._services.patch_namespaced_custom_object(*self._coordinates, patch))

    def smoke(self, model_version: str) -> None:
        """Waits until all predictor pods have the version and it answers through the Service; see `ServingTarget`."""
        started, allowed = time.monotonic(), 0.0
        while problem := unfinished(deployment := self._deployment(), model_version):
            # An autoscaler may add pods while they are replaced.
            allowed = max(allowed, rollout_seconds(deployment, self.config))
            if time.monotonic() > started + allowed:
                raise NotServedError(
                    f"{model_version} is not rolled out after {allowed:.0f} s: {problem}{self._complaints()}"
                )
            time.sleep(POLL_SECONDS)
        if self.config.url:
            deadline = time.monotonic() + self.config.deadline_seconds
            Predictor(self.config).wait_for(model_version, self.folders.smoke_request(model_version), deadline)

    def _deployment(self) -> Any:
        """What KServe makes of the InferenceService; an autoscaler sets its replicas."""
        name = f"{self.config.inference_service}-predictor"
        return self._ask(lambda: self._apps.read_namespaced_deployment(name, self._namespace))

    def _complaints(self) -> str:
        """What the pods that do not run wait for."""
        selector = f"{SERVICE_LABEL}={self.config.inference_service}"
        return complaints(
            self._ask(lambda: self._core.list_namespaced_pod(self._namespace, label_selector=selector)).items
        )

    @property
    def _store(self) -> ObjectStore | None:
        return ObjectStore(self.config.storage_uri) if self.config.storage_uri else None

    @property
    def _coordinates(self) -> tuple[str, str, str, str, str]:
        return GROUP, API_VERSION, self._namespace, PLURAL, self.config.inference_service

    @property
    def _services(self) -> Any:
        from kubernetes import client

        return client.CustomObjectsApi(api_client(self.config.kube_context))

    @property
    def _apps(self) -> Any:
        from kubernetes import client

        return client.AppsV1Api(api_client(self.config.kube_context))

    @property
    def _core(self) -> Any:
        from kubernetes import client

        return client.CoreV1Api(api_client(self.config.kube_context))

    @property
    def _namespace(self) -> str:
        return own_namespace(self.config.namespace)

    def _ask(self, call: Callable[[], T]) -> T:
        return ask(f"InferenceService {self.config.inference_service}", call)


def unfinished(deployment: Any, model_version: str) -> str:
    """What a roll-out of a version still waits for; empty when it has ended."""
    name, status = deployment.metadata.name, deployment.status
    if (deployment.spec.template.metadata.annotations or {}).get(VERSION_ANNOTATION) != model_version:
        return "KServe has not taken over the change"
    replicas = deployment.spec.replicas or 0
    if status.observed_generation != deployment.metadata.generation:
        return f"Deployment {name} has not seen the change"
    ready, new, total = status.available_replicas or 0, status.updated_replicas or 0, status.replicas or 0
    if not ready == new == total == replicas:
        return f"Deployment {name}: {new} of {replicas} pods are new, {ready} of {total} are ready"
    return ""


def rollout_seconds(deployment: Any, config: TargetConfig) -> float:
    """How long a roll-out may take: pods are replaced by so many at a time as may surge or be unavailable."""
    replicas = deployment.spec.replicas or 0
    rolling = deployment.spec.strategy.rolling_update if deployment.spec.strategy else None
    surge = _pods(rolling.max_surge if rolling else None, replicas, math.ceil)
    unavailable = _pods(rolling.max_unavailable if rolling else None, replicas, math.floor)
    return config.deadline_seconds + config.pod_deadline_seconds * math.ceil(replicas / max(1, surge + unavailable))


def _pods(wanted: int | str | None, replicas: int, rounded: Callable[[float], int]) -> int:
    """A number of pods, or a share such as 25% (Kubernetes' default), as Kubernetes rounds it."""
    if isinstance(wanted, int):
        return wanted
    return rounded(replicas * float((wanted or "25%").rstrip("%")) / 100)
