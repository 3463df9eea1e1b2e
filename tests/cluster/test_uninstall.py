"""The last of these tests (files run in alphabetical order): the end of the release, and its return."""

import time
from pathlib import Path

import pytest

from pipelines.kind_cluster import CHART, RELEASE, Cluster

pytestmark = pytest.mark.cluster


def test_uninstalling_leaves_the_claims_and_installing_again_serves_the_same_model(
    cluster: Cluster, tmp_path: Path
) -> None:
    version = cluster.served_version()
    values = tmp_path / "values.yaml"
    values.write_text(cluster.helm("get", "values", RELEASE, "--output", "yaml"), encoding="utf-8")
    cluster.helm("uninstall", RELEASE, "--wait")
    deadline = time.monotonic() + 120
    while (left := objects(cluster)) != {("PersistentVolumeClaim", f"{RELEASE}-{n}") for n in ("data", "mlflow")}:
        assert time.monotonic() < deadline, left
        time.sleep(2)
    cluster.helm("install", RELEASE, CHART, "--values", str(values), "--wait", "--timeout", "5m")
    (job,) = cluster.get("job", "--selector", "app.kubernetes.io/component=bootstrap")["items"]
    cluster.wait_for_job(job["metadata"]["name"])
    assert cluster.served_version() == version


def objects(cluster: Cluster) -> set[tuple[str, str]]:
    """Kind and name of all objects of the release."""
    kinds = cluster.kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
    kinds.remove("events")
    found = cluster.get(",".join(kinds), "--selector", f"app.kubernetes.io/instance={RELEASE}")["items"]
    return {(item["kind"], item["metadata"]["name"]) for item in found}
