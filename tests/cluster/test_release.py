"""The release on the cluster: protocols, log, rights and security contexts."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from test_faults import wait_for

from pipelines.kind_cluster import NAMESPACE, RELEASE, Cluster, install
from pipelines.kind_demo import KindDemoSummary
from serving.kserve_target import VERSION_ANNOTATION

pytestmark = pytest.mark.cluster

REQUEST = {"user_id": 12, "item_ids": [1, 2, 3], "context": {"device": "mobile"}}


def test_all_protocols_answer_with_the_annotated_version(cluster: Cluster, url: str) -> None:
    version = cluster.get("inferenceservice", RELEASE)["spec"]["predictor"]["annotations"][VERSION_ANNOTATION]
    product = httpx.post(f"{url}/predict", json=REQUEST)
    assert product.status_code == 200 and product.json()["model_version"] == version
    first = httpx.post(f"{url}/v1/models/feedrank-ranker:predict", json={"instances": [REQUEST]})
    assert first.status_code == 200
    tensors = [
        {"name": "user_id", "shape": [1], "datatype": "INT64", "data": [12]},
        {"name": "item_ids", "shape": [3], "datatype": "INT64", "data": [1, 2, 3]},
    ]
    second = httpx.post(f"{url}/v2/models/feedrank-ranker/infer", json={"inputs": tensors})
    assert second.status_code == 200, second.text
    assert httpx.get(f"{url}/v2/health/ready").status_code == 200


def test_predictions_reach_the_log_on_the_volume(
    cluster: Cluster, url: str, logged_rows: Callable[[Cluster, int], int]
) -> None:
    user = 1_000_000 + int(time.time())
    httpx.post(f"{url}/predict", json={**REQUEST, "user_id": user}).raise_for_status()
    wait_for(lambda: logged_rows(cluster, user) == 3, "the predictor commits to the log every minute")


def test_the_drift_of_the_demo_was_alerted_and_started_one_retraining(cluster: Cluster, demo: KindDemoSummary) -> None:
    assert demo.first_version in demo.alerts[0] and "moved: KS distance" in demo.alerts[0]
    jobs = cluster.get("job", "--selector", "app.kubernetes.io/component=retraining")["items"]
    (started,) = [job for job in jobs if "feedrank/reasons" in job["metadata"].get("annotations", {})]
    assert started["status"]["succeeded"] == 1
    assert demo.retrained_version != demo.first_version == demo.rolled_back_to


def test_autoscaling_by_values_makes_an_autoscaler(cluster: Cluster) -> None:
    scaling = "predictor.autoscaling.enabled=true,predictor.autoscaling.maxReplicas=3"
    try:
        install(cluster, "--reuse-values", "--set", scaling)
        cluster.kubectl("wait", "--for=create", f"hpa/{RELEASE}-predictor", "--timeout=60s")
        spec = cluster.get("hpa", f"{RELEASE}-predictor")["spec"]
        assert spec["maxReplicas"] == 3
        assert spec["scaleTargetRef"]["name"] == f"{RELEASE}-predictor"
        (metric,) = spec["metrics"]
        assert metric["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}
    finally:
        cluster.helm("rollback", RELEASE, "--wait")


def pods(cluster: Cluster) -> list[dict[str, Any]]:
    selector = f"app.kubernetes.io/instance={RELEASE}"
    return list(cluster.get("pod", "--selector", selector)["items"])


def test_every_container_has_a_read_only_root_and_no_rights(cluster: Cluster) -> None:
    found = [
        container
        for pod in pods(cluster)
        for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    ]
    assert found
    for container in found:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True, container["name"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"]["drop"] == ["ALL"]


def test_the_namespace_enforces_the_restricted_standard(cluster: Cluster) -> None:
    labels = cluster.get("namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(
    ("account", "verb", "what", "allowed"),
    [
        ("promoter", "patch", f"inferenceservices/{RELEASE}", True),
        ("promoter", "patch", "inferenceservices/other", False),
        ("promoter", "get", "secrets", False),
        ("monitor", "patch", f"inferenceservices/{RELEASE}", False),
        ("monitor", "create", "jobs", True),
        ("predictor", "get", "pods", False),
    ],
)
def test_only_the_promoter_may_change_the_service(
    cluster: Cluster, account: str, verb: str, what: str, allowed: bool
) -> None:
    user = f"system:serviceaccount:{NAMESPACE}:{RELEASE}-{account}"
    permitted = cluster.allowed(verb, what, user=user)
    assert permitted is allowed
