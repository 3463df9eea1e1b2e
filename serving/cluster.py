"""Access to the Kubernetes API: in a pod by its ServiceAccount, elsewhere by the kubeconfig."""

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from feedrank.promotion.changes import PromotionError
from feedrank.promotion.serving_target import UnreachableError

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

T = TypeVar("T")


@cache
def api_client(kube_context: str = "") -> Any:
    """The client of a context of the kubeconfig; of the cluster that this process runs in, or else the current one, if
    it is empty."""
    from kubernetes import client, config

    if kube_context:
        return config.new_client_from_config(context=kube_context)
    try:
        config.load_incluster_config()
    except config.ConfigException:
        config.load_kube_config()
    return client.ApiClient()


def context_namespace(kube_context: str) -> str:
    """The namespace of a context of the kubeconfig, as kubectl has it.

    Raises:
        PromotionError: there is no such context.
    """
    from kubernetes.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION, KubeConfigMerger

    merged = ask(f"context {kube_context}", lambda: KubeConfigMerger(KUBE_CONFIG_DEFAULT_LOCATION).config)
    content = {} if merged is None else merged.value
    found = {node.value["name"]: node.value["context"] for node in content.get("contexts", [])}
    if kube_context not in found:
        raise PromotionError(f"context {kube_context}: the kubeconfig has {', '.join(sorted(found)) or 'none'}")
    return str(found[kube_context].get("namespace") or "default")


def own_namespace(configured: str) -> str:
    """The configured namespace, or that of this pod.

    Raises:
        PromotionError: none is configured, and this is no pod.
    """
    if configured:
        return configured
    try:
        return NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise PromotionError("outside of a cluster promotion.target.namespace must be set") from error


def ask(what: str, call: Callable[[], T]) -> T:
    """Calls the API server; `what` begins the message of an error.

    Raises:
        PromotionError: it refuses, or has no such object.
        UnreachableError: it does not answer.
    """
    import urllib3
    from kubernetes.client import ApiException
    from kubernetes.config import ConfigException

    try:
        return call()
    except ApiException as error:
        raise PromotionError(f"{what}: the API server answers {error.status} {error.reason}") from error
    except ConfigException as error:
        raise PromotionError(f"{what}: no access to a cluster ({error})") from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise UnreachableError(f"{what}: the API server does not answer ({error})") from error


def complaints(pods: Iterable[Any]) -> str:
    """What pods that do not run wait for, each after a semicolon."""
    found = []
    for pod in pods:
        for condition in pod.status.conditions or []:
            if condition.type == "PodScheduled" and condition.status == "False":
                found.append(f"pod {pod.metadata.name}: {condition.reason}: {condition.message or ''}")
        for container in [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]:
            state = container.state.waiting or container.state.terminated
            if state is not None and state.reason not in ("Completed", "PodInitializing", "ContainerCreating"):
                found.append(f"pod {pod.metadata.name}, {container.name}: {state.reason}: {state.message or ''}")
    return "".join(f"; {text.rstrip(': ')}" for text in found)
