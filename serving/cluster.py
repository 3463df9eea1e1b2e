"""Access to the Kubernetes API: in a pod by its ServiceAccount, elsewhere by the kubeconfig."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from feedrank.promotion.changes import PromotionError
from feedrank.promotion.serving_target import UnreachableError

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

T = TypeVar("T")


@cache
def api_client(kube_context: str = "") -> Any:
    """The client of the cluster that this process runs in, or of a context of the kubeconfig (the current if empty)."""
    from kubernetes import client, config

    try:
        config.load_incluster_config()
    except config.ConfigException:
        config.load_kube_config(context=kube_context or None)
    return client.ApiClient()


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
