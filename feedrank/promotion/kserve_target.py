"""The champion served by a KServe InferenceService: its predictor's STORAGE_URI names the served version.

DIRECTORY/versions/v1.2.3/   bundles on the volume that the predictor's storage initializer copies from

KServe 0.20 splits no traffic in Standard mode, so a change is a rolling update: the old version answers until pods of
the new one are ready, and comes back when they never are.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from feedrank.config.promotion import TargetConfig
from feedrank.promotion.changes import PromotionError, Version
from feedrank.promotion.serving_target import NotServedError, Predictor, UnreachableError, VersionFolders

GROUP, API_VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
STORAGE_URI = "STORAGE_URI"
NO_VERSION = "none"
"""Served before the first promotion: an empty folder, with which the predictor waits for a model."""
POLL_SECONDS = 1.0
SERVICE_LABEL = "serving.kserve.io/inferenceservice"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

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
        _, uri = self._storage_uri()
        version = uri.rstrip("/").rsplit("/", 1)[-1]
        return None if version == NO_VERSION else version

    def current_bundle(self) -> Path | None:
        """See `ServingTarget`."""
        version = self.current_version()
        return None if version is None else self.folders.folder(version)

    def has(self, version: Version) -> bool:
        """See `ServingTarget`."""
        return self.folders.has(version)

    def stage(self, bundle: Path, version: Version) -> None:
        """See `ServingTarget`."""
        self.folders.stage(bundle, version)

    def switch(self, model_version: str | None) -> None:
        """See `ServingTarget`."""
        if model_version is not None and not self.folders.folder(model_version).is_dir():
            raise PromotionError(f"{self.folders.folder(model_version)}: no such version; stage it first")
        path, uri = self._storage_uri()
        wanted = self._uri(model_version)
        if uri == wanted:
            return
        # The test makes the API server refuse when somebody else has changed the list in the meantime.
        patch = [{"op": "test", "path": path, "value": uri}, {"op": "replace", "path": path, "value": wanted}]
        self._ask(
            lambda: self._services.patch_namespaced_custom_object(
                GROUP, API_VERSION, self._namespace, PLURAL, self.config.inference_service, patch
            )
        )

    def smoke(self, model_version: str) -> None:
        """Waits until all predictor pods have the version and it answers through the Service; see `ServingTarget`."""
        deadline = time.monotonic() + self.config.deadline_seconds
        while (problem := self._unfinished(model_version)) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if problem:
            raise NotServedError(f"{model_version} is not rolled out: {problem}{self._complaints()}")
        if self.config.url:
            Predictor(self.config).wait_for(model_version, self.folders.smoke_request(model_version), deadline)

    def _uri(self, model_version: str | None) -> str:
        return f"{self.config.storage_uri.rstrip('/')}/{model_version or NO_VERSION}"

    def _storage_uri(self) -> tuple[str, str]:
        """Where the InferenceService holds it, as a JSON pointer, and its value."""
        service = self._ask(
            lambda: self._services.get_namespaced_custom_object(
                GROUP, API_VERSION, self._namespace, PLURAL, self.config.inference_service
            )
        )
        for index, variable in enumerate(service["spec"]["predictor"]["containers"][0].get("env", [])):
            if variable["name"] == STORAGE_URI:
                return f"/spec/predictor/containers/0/env/{index}/value", variable["value"]
        raise PromotionError(
            f"InferenceService {self.config.inference_service}: its container has no {STORAGE_URI}; install the chart"
        )

    def _unfinished(self, model_version: str) -> str:
        """What the roll-out still waits for; empty when it has ended."""
        name = f"{self.config.inference_service}-predictor"
        deployment = self._ask(lambda: self._apps.read_namespaced_deployment(name, self._namespace))
        pods, status = deployment.spec.template.spec, deployment.status
        if self._uri(model_version) not in [a for c in pods.init_containers or [] for a in c.args or []]:
            return "KServe has not taken over the change"
        replicas = deployment.spec.replicas or 0
        if status.observed_generation != deployment.metadata.generation:
            return f"Deployment {name} has not seen the change"
        ready, new, total = status.available_replicas or 0, status.updated_replicas or 0, status.replicas or 0
        if not ready == new == total == replicas:
            return f"Deployment {name}: {new} of {replicas} pods are new, {ready} of {total} are ready"
        return ""

    def _complaints(self) -> str:
        """What the containers that do not run wait for."""
        selector = f"{SERVICE_LABEL}={self.config.inference_service}"
        pods = self._ask(lambda: self._core.list_namespaced_pod(self._namespace, label_selector=selector)).items
        found = []
        for pod in pods:
            for container in [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]:
                state = container.state.waiting or container.state.terminated
                if state is not None and state.reason not in ("Completed", "PodInitializing", "ContainerCreating"):
                    found.append(f"pod {pod.metadata.name}, {container.name}: {state.reason}: {state.message or ''}")
        return "".join(f"; {text.rstrip(': ')}" for text in found)

    @cached_property
    def _api(self) -> Any:
        from kubernetes import client, config

        try:
            config.load_incluster_config()
        except config.ConfigException:
            config.load_kube_config(context=self.config.kube_context or None)
        return client.ApiClient()

    @property
    def _services(self) -> Any:
        from kubernetes import client

        return client.CustomObjectsApi(self._api)

    @property
    def _apps(self) -> Any:
        from kubernetes import client

        return client.AppsV1Api(self._api)

    @property
    def _core(self) -> Any:
        from kubernetes import client

        return client.CoreV1Api(self._api)

    @property
    def _namespace(self) -> str:
        if self.config.namespace:
            return self.config.namespace
        try:
            return NAMESPACE_FILE.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise PromotionError("outside of a cluster promotion.target.namespace must be set") from error

    def _ask(self, call: Callable[[], T]) -> T:
        """Calls the API server.

        Raises:
            PromotionError: it refuses, or has no such object.
            UnreachableError: it does not answer.
        """
        import urllib3
        from kubernetes.client import ApiException
        from kubernetes.config import ConfigException

        what = f"InferenceService {self.config.inference_service}"
        try:
            return call()
        except ApiException as error:
            raise PromotionError(f"{what}: the API server answers {error.status} {error.reason}") from error
        except ConfigException as error:
            raise PromotionError(f"{what}: no access to a cluster ({error})") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(f"{what}: the API server does not answer ({error})") from error
