"""The last landed release is upgraded to this one, and back, under load: no request fails and no row is lost.

Its data are folders, and its models are of another feature schema.
"""

import json
import re
from collections.abc import Callable, Iterator

import pytest
from test_faults import wait_for
from test_oncall import line_of_the_runbook, run

from benchmarks.cluster import result_during
from benchmarks.predict_load import ITEMS
from pipelines.kind_cluster import CHART, RELEASE, VALUES, Cluster, is_ready, make_namespace
from tests.cluster.last_release import PRESENT_TAG, TAG, check_out, put_images_on_the_node

pytestmark = pytest.mark.cluster

SIZES: dict[str, object] = {
    "config.data.generator.num_users": 500,
    "config.data.generator.num_items": 800,
    "config.data.generator.num_interactions": 60_000,
    "config.model.training.epochs": 2,
    "config.model.gates.min_auc": 0.5,
    "config.model.gates.max_log_loss": 1,
    "pipelines.enabled": False,
    "predictor.replicas": 2,
    "resources.predictor.requests.cpu": "50m",
}
NEW: dict[str, object] = {"config.model.gates.max_refit_log_loss_rise": 1, "config.model.gates.max_refit_bias": 1}
"""Values that the last release does not know: of so few rows two fits differ."""
EXPORT = """
import glob, subprocess
import pyarrow.parquet as pq
rows = pq.read_table(sorted(glob.glob("/data/interactions/date=*/*.parquet"))[0]).slice(0, 20).to_pandas()
rows["interaction_id"] += "-again"
rows["timestamp"] = rows["timestamp"].astype(str)
rows.loc[0, "timestamp"] = "never"
rows.to_csv("/tmp/rows.csv", index=False)
subprocess.run(["feedrank", "ingest", "/tmp/rows.csv", "--run-dir", "/data"], check=True)
"""
OLD_ROWS = """
import glob, json
import pyarrow.parquet as pq
def count(pattern): return sum(pq.ParquetFile(file).metadata.num_rows for file in glob.glob(pattern))
interactions = count("/data/interactions/date=*/*.parquet")
print(json.dumps({"interactions": interactions, "quarantine": count("/data/interactions/_quarantine/rows.parquet")}))
"""
ROWS = """
import json
from pathlib import Path
from feedrank import delta
from feedrank.data.ingest import quarantine
interactions, log = Path("/data/interactions"), delta.open_table("/data/predictions")
print(json.dumps({
    "interactions": delta.open_table(interactions).rows,
    "quarantine": delta.open_table(quarantine.place(interactions)).rows,
    "predictions": log.rows,
    "different": len(log.read(columns=["prediction_id"])["prediction_id"].unique()),
}))
"""


@pytest.fixture(scope="module")
def last(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The last landed release in a namespace of its own, with its first model and rows in its quarantine."""
    folder = tmp_path_factory.mktemp("last-release")
    check_out(folder)
    put_images_on_the_node(folder)
    release = Cluster("feedrank-upgrade")
    make_namespace(release)
    values = ["--values", str(folder / VALUES), *options(SIZES | {"images.tag": TAG})]
    try:
        release.helm("install", RELEASE, str(folder / CHART), *values, "--wait", "--timeout=5m")
        (job,) = release.get("job", "--selector", "app.kubernetes.io/component=bootstrap")["items"]
        release.wait_for_job(job["metadata"]["name"])
        release.wait_for_rollout()
        release.run_job("export", cron_job="retraining", command=["python", "-c", EXPORT])
        yield release
    finally:
        release.kubectl("delete", "namespace", release.namespace, "--wait=false")


def test_an_upgrade_across_feature_schemas_and_back(last: Cluster) -> None:
    before = rows_of(last, OLD_ROWS)
    assert before["interactions"] and before["quarantine"]

    def there() -> None:
        last.helm("upgrade", RELEASE, CHART, "--values", VALUES, *options(SIZES | NEW))
        wait_for(says(last, PRESENT_TAG, "can't load the model"), "a new pod says that it can't load the old model")
        last.kubectl("delete", "pod", pods_of(last, TAG, ready=True)[0])  # it comes again, of the old release
        wait_for(lambda: len(pods_of(last, TAG, ready=True)) == 2, "the old pod's successor is ready")
        last.start_from_cron_job("etl-now", cron_job="etl")
        last.wait_for_job("etl-now")
        assert last.served_version() == "v1.0.0"
        last.start_from_cron_job("retrain-now", cron_job="retrain", FEEDRANK_WHY="an upgrade")
        advice = re.search(r"feedrank promote (v2\.0\.\d+) --force", last.wait_for_job("retrain-now"))
        assert advice, "the log says how to promote"
        line = line_of_the_runbook("kubectl create job --from=cronjob/feedrank-promote")
        run(last, re.sub(r"v1\.0\.4", advice[1], line))
        last.wait_for_job("promote-now")
        assert last.served_version() == advice[1]
        assert len(pods_of(last, PRESENT_TAG, ready=True)) == 2 and not pods_of(last, TAG, ready=True)

    load = result_during(last, "load-there", there, rate=20, longest=900)
    assert load.statuses == {"200": load.offered}
    last.run_job("etl-again", cron_job="etl")  # and makes rows of the log of what old pods have left
    assert "Model v2.0" in last.run_job("monitor-now", cron_job="monitor")
    wait_for(lambda: rows_of(last, ROWS)["predictions"] >= ITEMS * load.offered, "every prediction is in the log")
    after = rows_of(last, ROWS)
    assert after["predictions"] == after["different"], "and once"
    assert (after["interactions"], after["quarantine"]) == (before["interactions"], before["quarantine"])

    def back() -> None:
        last.helm("rollback", RELEASE, "1")
        wait_for(
            says(last, TAG, "can't load the model"), "a pod of the old release says that it can't load the new model"
        )
        assert last.served_version().startswith("v2.")
        last.start_from_cron_job("rollback-now", cron_job="rollback")
        last.wait_for_job("rollback-now")
        assert last.served_version() == "v1.0.0"

    load = result_during(last, "load-back", back, rate=20, longest=300)
    assert load.statuses == {"200": load.offered}
    assert len(pods_of(last, TAG, ready=True)) == 2


def options(values: dict[str, object]) -> list[str]:
    """For helm."""
    return [f"--set-json={key}={json.dumps(value)}" for key, value in values.items()]


def rows_of(release: Cluster, script: str) -> dict[str, int]:
    """What a script prints that a pod of the release runs."""
    said = release.run_job("rows", cron_job="retraining", command=["python", "-c", script])
    found: dict[str, int] = json.loads(said.splitlines()[-1])
    return found


def pods_of(release: Cluster, tag: str, *, ready: bool) -> list[str]:
    """The predictor's running pods of a release's image."""
    pods = [pod for pod in release.predictor_pods() if pod["status"]["phase"] == "Running" and is_ready(pod) is ready]
    return [p["metadata"]["name"] for p in pods if p["spec"]["containers"][0]["image"].endswith(f":{tag}")]


def says(release: Cluster, tag: str, text: str) -> Callable[[], bool]:
    """Whether a pod of an image that is not ready says something."""
    return lambda: any(text in release.kubectl("logs", name) for name in pods_of(release, tag, ready=False))
