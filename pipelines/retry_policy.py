"""Whether a KFP server retries tasks that end with an error.

KFP's own ConfigMap sets a default for all tasks, `retryPolicy: OnError`, which wins over what a pipeline asks for: a
task that exits with 1 is then never tried again.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from feedrank.errors import FeedrankError
from serving.cluster import api_client, ask

CONFIG_MAP = "workflow-controller-configmap"
RETRYING = ("Always", "OnFailure")
TIMEOUT_SECONDS = 5


def check_retries(namespace: str) -> str:
    """What to tell the person who uploads pipelines to the KFP of a namespace; empty if failed tasks are retried."""
    from kubernetes import client

    what = f"ConfigMap {CONFIG_MAP} in the namespace {namespace}"
    try:
        core = ask(what, lambda: client.CoreV1Api(api_client()))
        found = ask(
            what,
            lambda: core.read_namespaced_config_map(CONFIG_MAP, namespace, _request_timeout=TIMEOUT_SECONDS),
        )
    except FeedrankError:
        return f"whether KFP retries failed tasks is not known: the {what} can't be read from here"
    policy = retry_policy(found.data or {})
    if policy in RETRYING:
        return ""
    return (
        f"KFP does not retry failed tasks: the {what} says retryPolicy: {policy}; "
        "set it to Always (docs/runbook.md, 'Pipelines on KFP')"
    )


def retry_policy(data: Mapping[str, str]) -> str:
    """The policy of tasks by the ConfigMap's data; without one there Argo's own holds."""
    defaults: Any = yaml.safe_load(data.get("workflowDefaults", "")) or {}
    for key in ("spec", "templateDefaults", "retryStrategy", "retryPolicy"):
        defaults = defaults.get(key) or {}
    return str(defaults or "OnFailure")
