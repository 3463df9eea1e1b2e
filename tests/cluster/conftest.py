"""Tests of what `make kind-demo` left on the kind cluster; skipped, with the reason, where there is none."""

import shutil
from collections.abc import Iterator

import pytest

from feedrank.errors import FeedrankError
from pipelines.kind_cluster import CONTEXT, RELEASE, Cluster


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
def url(cluster: Cluster) -> Iterator[str]:
    with cluster.predictor() as address:
        yield address
