"""The system on a kind cluster: the demo's time, and what clients notice of changes, through the Service.

    python -m benchmarks.cluster [--no-demo]

Needs `make kind-up` and the images on the node (`make kind-images`). Plays `make kind-demo` first, then measures on
what it left, with two replicas; the load comes from a pod. Prints a table and, as its last line, one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from benchmarks import predict_load
from benchmarks.figures import Figures, show
from benchmarks.predict_load import LoadResult
from pipelines import kind_demo
from pipelines.kind_cluster import RELEASE, Cluster, install

RATE = 300
LONGEST_CHANGE, SETTLING = 300.0, 6.0
"""Seconds."""
TARGETS = {
    "kind_demo_seconds": "< 720",
    "ready_seconds": "< 20",
    "p99_ms_at_300": "< 10",
    "failed_requests": "0",
}


def load_job(cluster: Cluster, name: str, *, rate: float, seconds: float) -> None:
    """Starts a pod that sends requests to the Service."""
    script = Path(predict_load.__file__).read_text(encoding="utf-8")
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "load"}, "data": {"load.py": script}}
    cluster.kubectl("apply", "--filename", "-", content=config_map)
    command = ["python", "/files/load.py", "--host", f"{RELEASE}-predictor", "--port", "80", "--users", "2000"]
    command += ["--rate", str(rate), "--seconds", str(seconds), "--items", "1500"]
    cluster.create_job(name, {"backoffLimit": 0, "template": {"spec": cluster.pod_spec(command, files="load")}})


def load_result(cluster: Cluster, name: str) -> LoadResult:
    """What the pod saw."""
    return LoadResult(**json.loads(cluster.wait_for_job(name).splitlines()[-1]))


def failed_during(cluster: Cluster, name: str, change: Callable[[], object]) -> int:
    """Requests that were not answered with 200 while something changed, and for some seconds before and after."""
    result = result_during(cluster, name, change, rate=100, longest=LONGEST_CHANGE)
    return result.offered - result.statuses.get("200", 0)


def result_during(
    cluster: Cluster, name: str, change: Callable[[], object], *, rate: float, longest: float
) -> LoadResult:
    """What a load of `rate` requests a second saw while something changed for at most so many seconds.

    Raises:
        RuntimeError: the load had ended before the change did.
    """
    load_job(cluster, name, rate=rate, seconds=longest)
    time.sleep(SETTLING)  # the pod starts
    change()
    time.sleep(SETTLING)
    if cluster.get("job", name)["status"].get("active") != 1:
        raise RuntimeError(f"{name}: the load ended before the change; {cluster.kubectl('logs', f'job/{name}')}")
    cluster.kubectl("exec", f"job/{name}", "--", "python", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
    return load_result(cluster, name)


def ready_seconds(cluster: Cluster) -> float:
    """The longest time from scheduling to ready of the predictor's pods; Kubernetes notes whole seconds."""
    times = []
    for pod in cluster.predictor_pods():
        when = {c["type"]: datetime.fromisoformat(c["lastTransitionTime"]) for c in pod["status"]["conditions"]}
        times.append((when["Ready"] - when["PodScheduled"]).total_seconds())
    return max(times)


def changes(cluster: Cluster, challenger: str) -> Figures:
    """Failed requests during each kind of change, with two replicas."""

    def job(name: str, *command: str) -> Callable[[], str]:
        return lambda: cluster.run_job(name, cron_job="retraining", command=["feedrank", *command])

    def upgrade() -> None:
        install(cluster, "--reuse-values", "--set", "predictor.replicas=2,config.serving.limits.retry_after_seconds=2")
        cluster.wait_for_rollout()

    kinds: dict[str, Callable[[], object]] = {
        "promotion": job("promote-again", "promote", challenger, "--force", "--why", "benchmark"),
        "rollback": job("rollback-again", "rollback", "--why", "benchmark"),
        "upgrade": upgrade,
        "pod_kill": cluster.end_a_pod,
    }
    failed = {f"failed_{kind}": failed_during(cluster, f"load-{kind.replace('_', '-')}", change)
              for kind, change in kinds.items()}  # fmt: skip
    return {**failed, "failed_requests": sum(failed.values())}


def main() -> None:
    """Prints the table and, as the last line, the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-demo", action="store_true", help="measure on what an earlier demo left")
    if not parser.parse_args().no_demo:
        kind_demo.main()
    demo = kind_demo.KindDemoSummary.model_validate_json((kind_demo.DIRECTORY / "summary.json").read_text())
    cluster = Cluster()
    install(cluster, "--reuse-values", "--set", "predictor.replicas=2")
    cluster.wait_for_rollout()
    load_job(cluster, "load-steady", rate=RATE, seconds=30)
    steady = load_result(cluster, "load-steady")
    figures: Figures = {
        "kind_demo_seconds": round(demo.seconds, 1),
        "p50_ms_at_300": steady.p50_ms,
        "p99_ms_at_300": steady.p99_ms,
        "failed_at_300": steady.offered - steady.statuses.get("200", 0),
        **changes(cluster, demo.retrained_version),
        "ready_seconds": ready_seconds(cluster),
    }
    show(figures, TARGETS)


if __name__ == "__main__":
    main()
