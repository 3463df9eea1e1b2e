"""Tests of the release that `make kind-demo` left on a cluster: `make cluster-test`. They change it, and restore it."""

import shutil
from collections.abc import Callable, Iterator

import pytest

from feedrank.errors import FeedrankError
from pipelines.kind_cluster import CONTEXT, RELEASE, Cluster, install, is_ready
from pipelines.kind_demo import DIRECTORY, KindDemoSummary


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    found = Cluster()
    try:
        ready = is_ready(found.get("inferenceservice", RELEASE))
    except FeedrankError as error:
        pytest.skip(f"needs the release of `make kind-demo` on {CONTEXT} ({str(error)[:120]})")
    if not ready:
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


@pytest.fixture(scope="session")
def logged_rows() -> Callable[[Cluster, int], int]:
    """Gives the rows of a user in a release's prediction log, as a pod reads them from the volume."""

    def count(release: Cluster, user: int) -> int:
        script = (
            "from pathlib import Path; import pyarrow.compute as pc; from feedrank.prediction_log import read_log; "
            f"print(pc.sum(pc.equal(read_log(Path('/data/predictions'))['user_id'], {user})).as_py())"
        )
        return int(release.run_job("read-log", cron_job="retraining", command=["python", "-c", script]))

    return count


@pytest.fixture
def url(cluster: Cluster) -> Iterator[str]:
    """The predictor's Service."""
    with cluster.predictor() as address:
        yield address
