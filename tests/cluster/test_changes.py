"""Clients notice nothing of changes: every request of a steady load is answered while they happen."""

import contextlib

import pytest

from benchmarks.cluster import failed_during
from feedrank.errors import FeedrankError
from pipelines.kind_cluster import RELEASE, Cluster, install, is_ready
from pipelines.kind_demo import KindDemoSummary
from serving.kserve_target import VERSION_ANNOTATION

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("two_replicas")]


def test_promotion_and_rollback(cluster: Cluster, demo: KindDemoSummary) -> None:
    before = cluster.served_version()
    assert before != demo.retrained_version
    served = []

    def there_and_back() -> None:
        for name, command in (
            ("promote", ["promote", demo.retrained_version, "--force", "--why", "test"]),
            ("rollback", ["rollback", "--why", "test"]),
        ):
            cluster.run_job(f"test-{name}", cron_job="retraining", command=["feedrank", *command])
            served.append(cluster.served_version())

    assert failed_during(cluster, "load-promotion", there_and_back) == 0
    assert served == [demo.retrained_version, before]


def test_a_promotion_that_can_not_be_rolled_out_is_undone(cluster: Cluster, demo: KindDemoSummary) -> None:
    before = cluster.served_version()
    running = cluster.get("pod", "--field-selector", "status.phase=Running")["items"]
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"}}
    hard = {"spec": {"hard": {"pods": str(len(running) + 2)}}}  # the Job and the load
    promote = ["feedrank", "promote", demo.retrained_version, "--force", "--why", "test"]

    def fail() -> None:
        try:
            cluster.kubectl("apply", "--filename", "-", content=quota | hard)
            with pytest.raises(FeedrankError, match=f"{demo.retrained_version} is not rolled out"):
                cluster.run_job(
                    "test-promote",
                    cron_job="retraining",
                    command=promote,
                    FEEDRANK__PROMOTION__TARGET__DEADLINE_SECONDS="20",
                    FEEDRANK__PROMOTION__TARGET__POD_DEADLINE_SECONDS="1",
                )
        finally:
            cluster.kubectl("delete", "resourcequota", "full")
        cluster.wait_for_rollout()

    assert failed_during(cluster, "load-undone", fail) == 0
    assert cluster.served_version() == before
    annotations = cluster.get("inferenceservice", RELEASE)["spec"]["predictor"]["annotations"]
    assert annotations[VERSION_ANNOTATION] == before


def test_an_upgrade_and_its_rollback_which_leave_the_served_version(cluster: Cluster) -> None:
    version, pods = cluster.served_version(), pod_names(cluster)

    def there_and_back() -> None:
        install(cluster, "--reuse-values", "--set", "config.serving.limits.max_instances=16")
        cluster.wait_for_rollout()
        assert not pods & pod_names(cluster), "the predictor has taken its new configuration"
        cluster.helm("rollback", RELEASE, "--wait", "--timeout", "5m")
        cluster.wait_for_rollout()

    assert failed_during(cluster, "load-upgrade", there_and_back) == 0
    assert cluster.served_version() == version
    assert "max_instances: 256" in cluster.get("configmap", f"{RELEASE}-jobs")["data"]["serving_config.yaml"]


def test_the_end_of_a_pod(cluster: Cluster) -> None:
    assert failed_during(cluster, "load-pod-kill", cluster.end_a_pod) == 0


def test_a_drained_node_of_which_the_disruption_budget_keeps_one_pod(cluster: Cluster) -> None:
    node = cluster.predictor_pods()[0]["spec"]["nodeName"]
    selector = "--pod-selector=app.kubernetes.io/component=predictor"

    def drain() -> None:
        try:
            with contextlib.suppress(FeedrankError):  # on a single node the last pod must stay, so it never ends
                cluster.kubectl("drain", node, selector, "--delete-emptydir-data", "--timeout=30s")
            assert any(is_ready(pod) for pod in cluster.predictor_pods())
        finally:
            cluster.kubectl("uncordon", node)
        cluster.wait_for_rollout()

    before = pod_names(cluster)
    assert failed_during(cluster, "load-drain", drain) == 0
    assert before - pod_names(cluster), "a pod was evicted"


def pod_names(cluster: Cluster) -> set[str]:
    return {pod["metadata"]["name"] for pod in cluster.predictor_pods()}
