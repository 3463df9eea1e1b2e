"""The nightly upkeep on a real claim, started by hand."""

import pytest

from benchmarks.cluster import failed_during
from feedrank.upkeep.report import UpkeepReport
from pipelines.kind_cluster import Cluster

pytestmark = pytest.mark.cluster

WHAT_PILES_UP = """
import glob, subprocess, time
from pathlib import Path
import pyarrow.parquet as pq
rows = pq.read_table(sorted(glob.glob("/data/interactions/date=*/*.parquet"))[0]).slice(0, 10).to_pandas()
for export in range(2):
    rows["interaction_id"] = [f"{time.time_ns()}-{row}" for row in range(len(rows))]
    rows.to_csv("/tmp/rows.csv", index=False)
    subprocess.run(["feedrank", "ingest", "/tmp/rows.csv", "--run-dir", "/data"], check=True)
never_served = Path("/data/served/versions/v0.0.1")
never_served.mkdir(exist_ok=True)
(never_served / "arrays.npy").write_bytes(b"x" * 1000)
"""


def test_upkeep_merges_files_and_prunes_versions_while_the_service_goes_on(cluster: Cluster) -> None:
    cluster.run_job("pile-up", cron_job="retraining", command=["python", "-c", WHAT_PILES_UP])

    def upkeep() -> None:
        cluster.start_from_cron_job("upkeep-now", cron_job="upkeep")
        cluster.wait_for_job("upkeep-now")

    assert failed_during(cluster, "load-upkeep", upkeep) == 0
    text = cluster.run_job("read-upkeep", cron_job="retraining", command=["cat", "/data/upkeep.json"])
    report = UpkeepReport.model_validate_json(text)
    assert not report.warnings
    done = {freed.name: freed.done for freed in report.freed}
    assert any("small files away" in sentence for sentence in done["interactions"])
    assert "removed v0.0.1" in done["served versions"]
