"""On call: the lines of the runbook, as they are written there, change what is served."""

import os
import subprocess

import pytest

from manifests.render import ROOT
from pipelines.kind_cluster import CONTEXT, Cluster
from pipelines.kind_demo import KindDemoSummary

pytestmark = pytest.mark.cluster


def line_of_the_runbook(beginning: str, *, has: str = "") -> str:
    """A line to copy that begins so, for the demo's cluster and namespace."""
    text = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines() if line.startswith(f"    {beginning}") and has in line]
    return lines[0]


def run(cluster: Cluster, line: str) -> None:
    kubectl = f"kubectl --context {CONTEXT} --namespace {cluster.namespace}"
    command = ["bash", "-euo", "pipefail", "-c", line.replace("kubectl", kubectl)]
    subprocess.run(command, check=True, env=os.environ | {"USER": "on-call"})


def test_a_promotion_and_a_rollback_by_the_documented_lines(cluster: Cluster, demo: KindDemoSummary) -> None:
    before = cluster.served_version()
    assert before != demo.retrained_version
    cluster.kubectl("delete", "job", "promote-now", "rollback-now", "--ignore-not-found")
    promote = line_of_the_runbook("kubectl create job --from=cronjob/feedrank-promote", has="FEEDRANK_PROMOTE_VERSION")
    run(cluster, promote.replace("v1.0.4", demo.retrained_version))
    cluster.wait_for_job("promote-now")
    assert cluster.served_version() == demo.retrained_version

    run(cluster, line_of_the_runbook("kubectl create job --from=cronjob/feedrank-rollback rollback-now"))
    run(cluster, line_of_the_runbook("kubectl wait"))
    assert f"rollback to {before} done: {before} is served" in cluster.kubectl("logs", "job/rollback-now")
    assert cluster.served_version() == before
