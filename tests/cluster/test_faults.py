"""What is missing or broken is named where an operator looks, and the old version goes on serving."""

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from feedrank.client import Client
from pipelines.kind_cluster import CHART, CONTEXT, RELEASE, VALUES, Cluster, install
from serving.kserve_target import VERSION_ANNOTATION

pytestmark = pytest.mark.cluster

REQUEST: dict[str, Any] = {"user_id": 12, "item_ids": [1, 2, 3]}
SECONDS = 90
NO_DIGEST = "sha256:" + "0" * 64


def wait_for(found: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not found():
        assert time.monotonic() < deadline, what
        time.sleep(1)


def warnings_of_pods(cluster: Cluster) -> str:
    """The messages of the events of pods that are no success."""
    events = cluster.get("events", "--field-selector", "type=Warning,involvedObject.kind=Pod")["items"]
    return "\n".join(event["message"] for event in events)


def assert_serving(url: str, version: str) -> None:
    answer = httpx.post(f"{url}/predict", json=REQUEST)
    assert (answer.status_code, answer.json()["model_version"]) == (200, version)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("predictor.token.existingSecret=no-such-secret", 'secret "no-such-secret" not found'),
        (f"images.digests.serve={NO_DIGEST}", f"feedrank-serve@{NO_DIGEST}"),
    ],
)
def test_an_upgrade_to_what_is_not_there(cluster: Cluster, url: str, value: str, message: str) -> None:
    version = cluster.served_version()
    try:
        cluster.helm("upgrade", RELEASE, CHART, "--reuse-values", "--set", value)
        wait_for(lambda: message in warnings_of_pods(cluster), message)
        assert_serving(url, version)
    finally:
        cluster.helm("rollback", RELEASE, "--wait", "--timeout", "5m")
        cluster.wait_for_rollout()
    assert cluster.served_version() == version


def test_wrong_values_are_refused_with_their_key(cluster: Cluster) -> None:
    with pytest.raises(Exception, match="/predictor/replicas"):
        install(cluster, "--reuse-values", "--set", "predictor.replicas=none")


def test_a_version_that_does_not_load(cluster: Cluster, url: str) -> None:
    version = cluster.served_version()
    try:
        annotate(cluster, "v9.9.9")
        wait_for(lambda: "no model bundle" in logs(cluster, "v9.9.9"), "the new pod says what is wrong")
        assert_serving(url, version)
    finally:
        annotate(cluster, version)
        cluster.wait_for_rollout()
    command = ["sh", "-c", "rmdir /data/served/versions/v9.9.9"]  # Kubernetes has made it for the pod to mount
    cluster.run_job("remove-version", cron_job="retraining", command=command)


def annotate(cluster: Cluster, version: str) -> None:
    """Names the served version as a promotion does, unchecked."""
    patch = json.dumps({"spec": {"predictor": {"annotations": {VERSION_ANNOTATION: version}}}})
    cluster.kubectl("patch", "inferenceservice", RELEASE, "--type=merge", f"--patch={patch}")


def logs(cluster: Cluster, version: str) -> str:
    """Of the pods that want a version and run."""
    pods = [p for p in cluster.predictor_pods() if p["metadata"]["annotations"].get(VERSION_ANNOTATION) == version]
    return "".join(cluster.kubectl("logs", p["metadata"]["name"]) for p in pods if p["status"]["phase"] == "Running")


def test_an_installation_without_its_claim() -> None:
    with other_release("no-claim", {"storage.data.existingClaim": "no-such-claim"}) as faulty:
        wait_for(
            lambda: 'persistentvolumeclaim "no-such-claim" not found' in warnings_of_pods(faulty),
            "an event of the pod names the claim",
        )


@pytest.mark.skipif(not (shutil.which("docker") and CONTEXT.startswith("kind-")), reason="needs a node of kind")
def test_a_full_volume_fails_no_request_and_loses_no_prediction(
    cluster: Cluster, logged_rows: Callable[[Cluster, int], int]
) -> None:
    version, user = cluster.served_version(), 2_000_000 + int(time.time())
    with (
        small_volume(cluster) as on_node,
        other_release("small", {"storage.data.existingClaim": "small", "predictor.modelVersion": version}) as small,
    ):
        small.kubectl("wait", "--for=condition=Ready", "inferenceservice/small", "--timeout=120s")
        on_node("dd if=/dev/zero of=$small/predictions/ballast bs=1M count=100 2> /dev/null || true")
        with small.predictor() as url, Client(url) as client:
            for _ in range(200):
                assert httpx.post(f"{url}/predict", json={**REQUEST, "user_id": user}).status_code == 200
            wait_for(lambda: any("prediction log" in p for p in client.health()["problems"]), "health names the log")
            assert "feedrank_log_failing 1.0" in httpx.get(f"{url}/metrics").text
            on_node("rm $small/predictions/ballast")
            wait_for(lambda: client.health()["status"] == "healthy", "the log is written again")
        assert logged_rows(small, user) == 600


@contextlib.contextmanager
def other_release(name: str, values: dict[str, str]) -> Iterator[Cluster]:
    """Another release beside the demo's, which uses its MLflow."""
    release = Cluster(release=name)
    off = dict.fromkeys(("bootstrap.enabled", "monitor.enabled", "etl.enabled", "pipelines.enabled"), "false")
    given = {**off, "mlflow.externalUri": f"http://{RELEASE}-mlflow:5000", **values}
    options = [f"--set={key}={value}" for key, value in given.items()]
    release.helm("install", name, CHART, "--values", VALUES, *options)
    try:
        yield release
    finally:
        release.helm("uninstall", name, "--wait")


@contextlib.contextmanager
def small_volume(cluster: Cluster) -> Iterator[Callable[[str], None]]:
    """A claim `small` of 64 MB with the demo's served versions; gives what runs a shell on the node, with $small."""
    claim = cluster.get("pvc", f"{RELEASE}-data")
    volume = cluster.get("pv", claim["spec"]["volumeName"])["spec"]
    data = (volume.get("local") or volume["hostPath"])["path"]
    node = cluster.predictor_pods()[0]["spec"]["nodeName"]

    def on_node(script: str) -> None:
        command = ["docker", "exec", node, "sh", "-euc", f"small=/mnt/feedrank-small; {script}"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    on_node(f"mkdir -p $small; mount -t tmpfs -o size=64m,mode=777 tmpfs $small; cp -r {data}/served $small")
    size = {"storage": "64Mi"}
    specs: dict[str, Any] = {
        "PersistentVolume": {"capacity": size, "hostPath": {"path": "/mnt/feedrank-small"}},
        "PersistentVolumeClaim": {"resources": {"requests": size}, "volumeName": "small"},
    }
    try:
        for kind, spec in specs.items():
            content = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "small"}}
            content["spec"] = {"accessModes": ["ReadWriteOnce"], "storageClassName": "", **spec}
            cluster.kubectl("apply", "--filename", "-", content=content)
        yield on_node
    finally:
        cluster.kubectl("delete", "pvc/small", "pv/small", "--ignore-not-found")
        on_node("umount $small")
