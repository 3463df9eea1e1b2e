"""Tests of the release that `make kind-demo` left on a cluster: `make cluster-test`. They change it, and restore it."""

import shutil
from collections.abc import Iterator

import pytest

from feedrank.errors import FeedrankError
from pipelines.kind_cluster import CONTEXT, RELEASE, Cluster, install
from pipelines.kind_demo import DIRECTORY, KindDemoSummary


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    found = Cluster()
    try:
        conditions = found.get("inferenceservice", RELEASE).get("status", {}).get("conditions", [])
    except FeedrankError as error:
        pytest.skip(f"needs the release of `make kind-demo` on {CONTEXT} ({str(error)[:120]})")
    if {"Ready": "True"}.items() - {condition["type"]: condition["status"] for condition in conditions}.items():
        pytest.skip(f"the release of `make kind-demo` on {CONTEXT} is not ready")
    return found


@pytest.fixture(scope="session")
def demo() -> KindDemoSummary:
    """What the demo did."""
    return KindDemoSummary.model_validate_json((DIRECTORY / "summary.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def two_replicas(cluster: Cluster) -> None:
    install(cluster, "--reuse-values", "--set", "predictor.replicas=2")
    cluster.wait_for_rollout()


@pytest.fixture
def url(cluster: Cluster) -> Iterator[str]:
    """The predictor's Service."""
    with cluster.predictor() as address:
        yield address
