"""On call: the lines of the runbook, as they are written there, change what is served."""

import getpass
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from test_faults import wait_for

from feedrank.client import request_body
from feedrank.errors import FeedrankError
from manifests.render import ROOT
from pipelines.kind_cluster import CONTEXT, Cluster
from pipelines.kind_demo import KindDemoSummary

pytestmark = pytest.mark.cluster


def line_of_the_runbook(beginning: str, *, has: str = "") -> str:
    """A line to copy that begins so."""
    text = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines() if line.startswith(f"    {beginning}") and has in line]
    return lines[0]


def run(cluster: Cluster, line: str) -> None:
    kubectl = f"kubectl --context {CONTEXT} --namespace {cluster.namespace}"
    command = ["bash", "-euo", "pipefail", "-c", line.replace("kubectl", kubectl)]
    subprocess.run(command, check=True, env=os.environ | {"USER": "on-call"})


def from_a_laptop(beginning: str, version: str, *, has: str = "") -> subprocess.CompletedProcess[str]:
    """A line of the runbook for the command line, for the demo's cluster and another version."""
    _, *words = shlex.split(line_of_the_runbook(beginning, has=has).replace("CONTEXT", CONTEXT))
    return run_feedrank([version if re.fullmatch(r"v\d+\.\d+\.\d+", word) else word for word in words])


def run_feedrank(words: list[str]) -> subprocess.CompletedProcess[str]:
    feedrank = str(Path(sys.executable).with_name("feedrank"))
    return subprocess.run([feedrank, *words], capture_output=True, text=True, check=False, cwd=ROOT)


def test_a_promotion_from_a_laptop_and_a_rollback_by_the_line_for_kubectl(
    cluster: Cluster, demo: KindDemoSummary
) -> None:
    before = cluster.served_version()
    assert before != demo.retrained_version
    done = from_a_laptop("feedrank promote", demo.retrained_version)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"promotion to {demo.retrained_version} done: {demo.retrained_version} is served" in done.stdout
    assert cluster.served_version() == demo.retrained_version

    cluster.kubectl("delete", "job", "rollback-now", "--ignore-not-found")
    run(cluster, line_of_the_runbook("kubectl create job --from=cronjob/feedrank-rollback rollback-now"))
    run(cluster, line_of_the_runbook("kubectl wait"))
    assert f"rollback to {before} done: {before} is served" in cluster.kubectl("logs", "job/rollback-now")
    assert cluster.served_version() == before


def test_a_rollback_from_a_laptop_that_can_not_be_says_why_and_fails(cluster: Cluster) -> None:
    before = cluster.served_version()
    done = from_a_laptop("feedrank rollback", "v9.9.9", has="--to")
    assert done.returncode == 1
    assert "v9.9.9" in done.stdout and "has failed" in done.stderr
    assert cluster.served_version() == before


WRONG_DAYS = """
import sys
import pyarrow.parquet as pq
for day in sys.argv[1:]:
    rows = pq.read_table(f"/data/arrived/date={day}", partitioning=None).to_pandas()
    rows.loc[::2, ["click", "like", "share", "dwell_time"]] = [0, 0, 0, 100.0]
    rows.to_parquet(f"/data/arrived/wrong-{day}.parquet")
"""


def days_held_by_the_etl(cluster: Cluster) -> list[str]:
    """Of a run that is started here."""
    cluster.start_from_cron_job("etl-of-test", cron_job="etl")
    cluster.wait_for_job("etl-of-test")
    said = cluster.run_job("validation", cron_job="retraining", command=["cat", "/data/validated/summary.json"])
    return [held["date"] for held in json.loads(said)["held_days"]]


def test_held_days_are_accepted_from_a_laptop_and_by_the_line_for_kubectl(cluster: Cluster) -> None:
    today = datetime.now(UTC).date()
    by_kubectl, from_laptop = (f"{today - timedelta(days=days)}" for days in (2, 3))
    command = ["python", "-c", WRONG_DAYS, by_kubectl, from_laptop]
    cluster.run_job("wrong-days", cron_job="retraining", command=command)
    assert days_held_by_the_etl(cluster) == [from_laptop, by_kubectl]

    _, *words = shlex.split(line_of_the_runbook("feedrank accept-day").replace("CONTEXT", CONTEXT))
    done = run_feedrank([word for word in words if not word.startswith("2024-")] + [from_laptop])
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{from_laptop} accepted by {getpass.getuser()}" in done.stdout

    cluster.kubectl("delete", "job", "accept-now", "--ignore-not-found")
    line = line_of_the_runbook("kubectl create job --from=cronjob/feedrank-accept-day")
    run(cluster, line.replace("2024-02-10 2024-02-11", by_kubectl))
    said = cluster.wait_for_job("accept-now")
    assert f"{by_kubectl} accepted by on-call" in said and "the collector was down" in said
    assert not days_held_by_the_etl(cluster)


MOST_ACTIVE_USER = """
import pyarrow.compute as pc
from feedrank import delta
users = delta.open_table("/data/interactions").dataset().to_table(columns=["user_id"])["user_id"]
print(pc.mode(users)[0]["mode"])
"""


def test_a_person_is_erased_from_a_laptop_and_the_line_for_kubectl_finds_only_what_is_not_ours(
    cluster: Cluster, url: str, logged_rows: Callable[[Cluster, int], int]
) -> None:
    user = int(cluster.run_job("user", cron_job="retraining", command=["python", "-c", MOST_ACTIVE_USER]))
    body = request_body(user, list(range(10)), device=None, timestamp=datetime.now(UTC))
    assert httpx.post(f"{url}/predict", json=body).status_code == 200
    wait_for(lambda: logged_rows(cluster, user) > 0, "the prediction is in the log")

    line = line_of_the_runbook("feedrank erase").replace("CONTEXT", CONTEXT).replace("user-abc", str(user))
    done = run_feedrank(shlex.split(line)[1:])
    assert done.returncode == 0, done.stdout + done.stderr
    assert not logged_rows(cluster, user)

    cluster.kubectl("delete", "job", "verify-now", "--ignore-not-found")
    line = line_of_the_runbook("kubectl create job --from=cronjob/feedrank-erase verify-now")
    run(cluster, line.replace("user-abc", str(user)))
    with pytest.raises(FeedrankError, match="job verify-now failed"):
        cluster.wait_for_job("verify-now")
    found = [line for line in cluster.kubectl("logs", "job/verify-now").splitlines() if "still found" in line]
    assert found and all(re.search(r": /data/(world|arrived)/.* \(not ours: erase it there\)$", line) for line in found)
    assert httpx.post(f"{url}/predict", json=body).status_code == 200
