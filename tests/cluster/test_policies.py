"""Who reaches whom: the NetworkPolicies as they are enforced, seen by pods with other pods' labels."""

import json
from collections.abc import Iterator

import pytest

from pipelines.kind_alerts import NAME as ALERTS
from pipelines.kind_cluster import NAMESPACE, RELEASE, Cluster, make_namespace

pytestmark = pytest.mark.cluster

TARGETS = {
    "predictor": (f"{RELEASE}-predictor.{NAMESPACE}.svc.cluster.local", 80),
    "mlflow": (f"{RELEASE}-mlflow.{NAMESPACE}.svc.cluster.local", 5000),
    "alerts": (f"{ALERTS}.{NAMESPACE}.svc.cluster.local", 8080),
    "kubernetes": ("kubernetes.default.svc.cluster.local", 443),
}
PROBE = f"""
import json, socket, sys, time
expected, deadline = json.loads(sys.argv[1]), time.monotonic() + 40

def reached():
    for name, (host, port) in {TARGETS!r}.items():
        address = socket.gethostbyname(host)
        try:
            socket.create_connection((address, port), timeout=2).close()
            yield name
        except OSError:
            pass

time.sleep(4)  # a pod's rules come a moment after it, on a busy machine a longer one
while (found := list(reached())) != expected and time.monotonic() < deadline:
    time.sleep(2)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Cluster]:
    """Another namespace."""
    other = Cluster("feedrank-stranger")
    make_namespace(other)
    yield other
    other.kubectl("delete", "namespace", other.namespace, "--wait=false")


def assert_reaches(cluster: Cluster, allowed: set[str], *, name: str, labels: dict[str, str]) -> None:
    """A pod with some labels can connect to these targets and to no other."""
    expected = [target for target in TARGETS if target in allowed]
    command = ["python", "-c", PROBE, json.dumps(expected)]
    template = {"metadata": {"labels": labels}, "spec": Cluster().pod_spec(command)}
    cluster.create_job(name, {"backoffLimit": 0, "template": template})
    assert json.loads(cluster.wait_for_job(name)) == expected
    cluster.kubectl("delete", "job", name)


@pytest.mark.parametrize(
    ("component", "allowed"),
    [
        ("monitor", {"predictor", "mlflow", "alerts", "kubernetes"}),
        ("upkeep", {"mlflow", "alerts", "kubernetes"}),
        ("retraining", {"predictor", "mlflow", "alerts", "kubernetes"}),
        ("rollback", {"predictor", "mlflow", "alerts", "kubernetes"}),
        ("promote", {"predictor", "mlflow", "alerts", "kubernetes"}),
        ("etl", {"alerts"}),
        ("predictor", {"alerts"}),
        ("mlflow", {"alerts"}),
    ],
)
def test_a_pod_of_the_release_reaches_what_it_needs(cluster: Cluster, component: str, allowed: set[str]) -> None:
    labels = {"app.kubernetes.io/name": "feedrank", "app.kubernetes.io/instance": RELEASE}
    labels["app.kubernetes.io/component"] = component
    assert_reaches(cluster, allowed, name=f"reach-{component}", labels=labels)


def test_a_product_in_the_namespace_reaches_the_predictor_and_not_the_models(cluster: Cluster) -> None:
    assert_reaches(cluster, {"predictor", "alerts", "kubernetes"}, name="reach-product", labels={"app": "product"})


def test_a_pod_of_another_namespace_reaches_nothing_of_the_release(cluster: Cluster, elsewhere: Cluster) -> None:
    assert_reaches(elsewhere, {"alerts", "kubernetes"}, name="reach-stranger", labels={})
