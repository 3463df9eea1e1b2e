"""Time and memory of one monitoring run over a million recent predictions, and over a hundred million.

    python -m benchmarks.monitor [--engine alibi|scipy] [--rows 1000000]

A tenth of the predictions were shown. Measured is a new process that runs the monitor once (one window, imports, report
and all); its peak memory is what the operating system counted. The large day has the rows of ten times as many other
users, in files as the tables' writer makes them, each of which is read ten times. The last line is one JSON object.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.monitored_world import prediction_log, serve
from feedrank import schema
from feedrank.config import MonitoringConfig
from feedrank.config.data import GeneratorConfig
from feedrank.tables import COMPRESSION, sort_by_time, write_partitioned

FIRST_SERVED = date(2024, 2, 1)
CANDIDATES = 10
LARGE_SECONDS_LIMIT, GIB_LIMIT = 120, 3
OTHER_USERS, COPIES = 10, 9
USERS_APART = 1_000_000
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
    """Prepares the data, runs the monitor in new processes and prints what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=("alibi", "scipy"), default="alibi")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--copies", type=int, default=COPIES, help="of each of the files of the large day")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), rows=arguments.rows)
        seconds, gib = measured(Path(folder), engine=arguments.engine)
        figures = {"monitor_seconds": seconds, "peak_gib": gib}
        rows = enlarge(Path(folder), copies=arguments.copies)
        seconds, gib = measured(Path(folder), engine=arguments.engine)
        print(f"limits of the large day: {LARGE_SECONDS_LIMIT} s, {GIB_LIMIT} GiB")
        figures |= {"large_rows": rows, "large_monitor_seconds": seconds, "large_peak_gib": gib}
    print(json.dumps(figures))


def measured(folder: Path, *, engine: str) -> tuple[float, float]:
    """Seconds and peak GiB of one run in a new process."""
    shutil.rmtree(folder / "output", ignore_errors=True)
    begin = time.monotonic()
    command = [sys.executable, "-W", "ignore", "-c", RUN, str(folder), engine]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - begin
    if process.returncode:
        sys.exit(f"the monitor failed with exit code {process.returncode}")
    predictions, users, verdict = output.split()
    cpu = usage.ru_utime + usage.ru_stime
    print(
        f"engine {engine}: {predictions} predictions, {users} users under test, verdict {verdict}, {cpu:.0f} s of CPU"
    )
    return round(seconds, 2), round(usage.ru_maxrss / 2**20, 3)


def enlarge(directory: Path, *, copies: int) -> int:
    """Makes the day large: files of other users, each linked so many times; the rows of the log."""
    rows = 0
    for folder in ("predictions", "interactions"):
        day = directory / folder / f"date={FIRST_SERVED}"
        tables = [pq.read_table(file, partitioning=None) for file in sorted(day.glob("*.parquet"))]
        table = sort_by_time(pa.concat_tables(tables))
        users = table[schema.USER_ID].to_numpy()
        place = table.schema.get_field_index(schema.USER_ID)
        for other in range(OTHER_USERS):
            file = day / f"other-{other}.parquet"
            # Named like the first of its copies, and like what the writer of the log makes.
            moved = table.set_column(place, schema.USER_ID, pa.array(users + (other + 1) * USERS_APART))
            pq.write_table(moved, file, compression=COMPRESSION)
            for copy in range(copies):
                (day / f"other-{other}-{copy}.parquet").hardlink_to(file)
            rows += table.num_rows * (copies + 1) if folder == "predictions" else 0
    return rows


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
