"""The predictor's clock during the kind demo, whose requests are those of the last days (`feedrank/clock.py`)."""

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime

from feedrank.clock import CLOCK_VARIABLE
from feedrank.errors import FeedrankError
from pipelines.kind_cluster import CONTEXT, POLL_SECONDS, Cluster

FILE = "/data/predictions/.rehearsal-clock"
"""Where both a Job and the predictor may write."""
ENV = "/spec/predictor/containers/0/env"
DEADLINE_SECONDS = 60.0
CREATE = """
import pathlib, sys
from feedrank.clock import ClockFile
file = pathlib.Path(sys.argv[1])
file.parent.mkdir(parents=True, exist_ok=True)
ClockFile.create(file, time_us=int(sys.argv[2]))
"""
FOLLOW = """
import pathlib, sys
from feedrank.clock import ClockFile
clock = ClockFile(pathlib.Path(sys.argv[1]))
for line in sys.stdin:
    clock.set(int(line))
    print(flush=True)
"""


@contextlib.contextmanager
def rehearsal(cluster: Cluster, *, begins: datetime) -> Iterator[Callable[[datetime], None]]:
    """The predictor goes by a clock that the yielded function sets, and by the system's when the block has ended.

    Raises:
        FeedrankError: the clock can't be set.
    """
    command = ["python", "-c", CREATE, FILE, str(_us(begins))]
    cluster.run_job("rehearsal-clock", cron_job="retraining", command=command)
    place = len(cluster.get("inferenceservice", cluster.release)["spec"]["predictor"]["containers"][0]["env"])
    variable = {"name": CLOCK_VARIABLE, "value": FILE}
    _patch(cluster, {"op": "add", "path": f"{ENV}/-", "value": variable}, has_clock=True)
    pod = cluster.predictor_pods()[0]["metadata"]["name"]
    kubectl = ["kubectl", "--context", CONTEXT, "--namespace", cluster.namespace, "exec", "--stdin", pod, "--"]
    clock = subprocess.Popen(
        [*kubectl, "python", "-c", FOLLOW, FILE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert clock.stdin is not None and clock.stdout is not None
    to_clock, from_clock = clock.stdin, clock.stdout

    def set_clock(moment: datetime) -> None:
        to_clock.write(f"{_us(moment)}\n")
        to_clock.flush()
        if not from_clock.readline():
            raise FeedrankError(f"the clock in pod {pod} does not answer; kubectl logs {pod}")

    try:
        yield set_clock
    finally:
        to_clock.close()
        clock.wait()
        _patch(cluster, {"op": "remove", "path": f"{ENV}/{place}"}, has_clock=False)


def _patch(cluster: Cluster, change: dict[str, object], *, has_clock: bool) -> None:
    """Changes the InferenceService; returns when pods with the variable, or without, are the ones that answer."""
    cluster.kubectl("patch", "inferenceservice", cluster.release, "--type=json", "--patch", json.dumps([change]))
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (CLOCK_VARIABLE in _variables(cluster)) != has_clock:
        if time.monotonic() > deadline:
            raise FeedrankError(f"KServe does not follow: kubectl describe inferenceservice {cluster.release}")
        time.sleep(POLL_SECONDS)
    cluster.wait_for_rollout()


def _variables(cluster: Cluster) -> list[str]:
    """Names of the predictor's environment variables in its Deployment."""
    pod = cluster.get("deployment", f"{cluster.release}-predictor")["spec"]["template"]["spec"]
    return [variable["name"] for variable in pod["containers"][0]["env"]]


def _us(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)
