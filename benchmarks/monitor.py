"""Time and memory of one monitoring run over a million recent predictions.

    python -m benchmarks.monitor [--engine alibi|scipy] [--rows 1000000]

A tenth of the predictions were shown. Measured is a new process that runs the monitor once (one window, imports, report
and all); its peak memory is what the operating system counted. The last line is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.monitored_world import prediction_log, serve
from feedrank import schema
from feedrank.config import MonitoringConfig
from feedrank.config.data import GeneratorConfig
from feedrank.tables import write_partitioned

FIRST_SERVED = date(2024, 2, 1)
CANDIDATES = 10
SECONDS_LIMIT, GIB_LIMIT = 30, 3
RUN = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from feedrank.config import MonitoringConfig
from feedrank.monitoring.run import monitor
from feedrank.monitoring.rows import Sources
folder = Path(sys.argv[1])
config = MonitoringConfig.model_validate({"drift": {"engine": sys.argv[2], "k": 1, "m": 1}})
result = monitor(
    reference_directory=folder / "reference",
    sources=Sources(folder / "predictions", folder / "interactions"),
    output=folder / "output",
    config=config,
    now=datetime(2024, 2, 2, tzinfo=UTC),
    channels=[],
)
print(result.latest.predictions, result.latest.sample_rows, result.verdict)
"""


def main() -> None:
    """Prepares the data, runs the monitor in a new process and prints what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=("alibi", "scipy"), default="alibi")
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), rows=arguments.rows)
        begin = time.monotonic()
        command = [sys.executable, "-W", "ignore", "-c", RUN, folder, arguments.engine]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            output = process.stdout.read() if process.stdout else ""
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - begin
    if process.returncode:
        sys.exit(f"the monitor failed with exit code {process.returncode}")
    predictions, users, verdict = output.split()
    print(f"engine {arguments.engine}: {predictions} predictions, {users} users under test, verdict {verdict}")
    print(f"limits: {SECONDS_LIMIT} s, {GIB_LIMIT} GiB")
    figures = {"monitor_seconds": round(seconds, 2), "peak_gib": round(usage.ru_maxrss / 2**20, 3)}
    print(json.dumps(figures))


def prepare(directory: Path, *, rows: int) -> None:
    """A world with enough shown rows on one day, and for each of them other candidates of the same request."""
    shown = rows // CANDIDATES
    days = 31
    generator = GeneratorConfig(
        num_users=max(100, shown // 5),
        num_items=50_000,
        num_interactions=shown * (days + 1),
        start_date=FIRST_SERVED - timedelta(days=days),
        end_date=FIRST_SERVED,
    )
    config = MonitoringConfig()
    world = serve(generator, first_served=FIRST_SERVED, drifts=(), config=config, directory=directory)
    candidates = world.served.take(pa.array(np.repeat(np.arange(world.served.num_rows), CANDIDATES - 1)))
    rng = np.random.default_rng(0)
    others = pa.array(rng.integers(0, generator.num_items, candidates.num_rows))
    place = candidates.schema.get_field_index(schema.ITEM_ID)
    candidates = candidates.set_column(place, schema.ITEM_ID, others)
    log = prediction_log(candidates, scores=np.repeat(world.scores, CANDIDATES - 1))
    folder = directory / "more"
    write_partitioned(log, folder)
    for file in folder.rglob("*.parquet"):
        file.rename(directory / "predictions" / file.parent.name / "part-1.parquet")


if __name__ == "__main__":
    main()
