"""Measures the ETL: ingest, validation, features and split, all written; the features against two yardsticks.

- `etl_seconds`: a Parquet export of `--rows` interactions is ingested, validated, and turned into features, split
  and snapshot by the same functions that the pipelines call.
- `features_vs_limit`: computing the features over reading, sorting by time and writing the six columns that they
  need. Both start from the same file in random row order; the median of alternating repetitions.
- `features_vs_pandas`: the same over `benchmarks.pandas_features`, which gets its frame ready-made; both are checked
  to give the same.
- `scaling_10x`, `peak_gib_10m`: the features stage in a subprocess at `--rows` and at ten times as many rows, users
  and items. `scaling_10x` is the ratio of the whole stage (read, compute, split, snapshot, write), as the pipelines run
  it; `compute_scaling_10x` that of the features alone, whose arrays fit the processor's cache at 1 M rows and no longer
  at 10 M; and `peak_gib_10m` the whole stage's largest resident set, interpreter included.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import show
from benchmarks.pandas_features import check_equal, pandas_features, to_frame
from benchmarks.prepared import DEFAULT_ROWS, sized_config, write_files
from feedrank import stages
from feedrank.config import Config
from feedrank.data.ingest import ingest
from feedrank.data.validation import validate
from feedrank.data.validation.stored import CLEAN
from feedrank.features.events import event_columns
from feedrank.features.offline import compute_features
from feedrank.tables import read_partitioned, sort_by_time

REPEATS = 5
Figures = dict[str, float]
TARGETS = {
    "etl_seconds": "< 30 at 1 M rows",
    "features_vs_limit": "<= 8, aim 5",
    "features_vs_pandas": "<= 1.25, aim < 1",
    "scaling_10x": "<= 11",
    "peak_gib_10m": "<= 4",
}


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def measure_etl(folder: Path, *, config: Config) -> Figures:
    """Seconds of each stage and of all."""
    write_files(folder / "export", config=config.data.generator)
    data, raw, validated, features = config.data, folder / "raw", folder / "validated", folder / "features"
    figures = {
        "ingest_seconds": seconds(
            lambda: ingest([str(folder / "export")], output=raw, mapping=None, config=data.ingest)
        ),
        "validate_seconds": seconds(
            lambda: validate(
                raw,
                output=validated,
                config=data.validation,
                num_users=data.generator.num_users,
                num_items=data.generator.num_items,
            )
        ),
        "features_seconds": seconds(lambda: stages.build_features(validated / CLEAN, output=features, config=config)),
    }
    return {"etl_seconds": sum(figures.values()), **figures}


def measure_features(folder: Path, *, config: Config) -> Figures:
    """The features beside the limit and pandas, in alternation."""
    table = read_partitioned(folder / "raw", columns=event_columns(config.feed))
    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows))).combine_chunks()
    source, target, settings = folder / "shuffled.parquet", folder / "sorted.parquet", config.feed
    pq.write_table(shuffled, source)
    frame = to_frame(shuffled)
    check_equal(pandas_features(frame, feed=settings), compute_features(shuffled, feed=settings))
    actions: dict[str, Callable[[], object]] = {
        "limit": lambda: pq.write_table(sort_by_time(pq.read_table(source)), target),
        "features": lambda: compute_features(shuffled, feed=settings),
        "pandas": lambda: pandas_features(frame, feed=settings),
    }
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(REPEATS):
        for name, action in actions.items():
            times[name].append(seconds(action))
    median = {name: statistics.median(values) for name, values in times.items()}
    return {
        "features_vs_limit": median["features"] / median["limit"],
        "features_vs_pandas": median["features"] / median["pandas"],
        "compute_seconds": median["features"],
        "limit_seconds": median["limit"],
        "pandas_seconds": median["pandas"],
    }


def measure_stage(rows: int) -> Figures:
    """The features stage at one size, in a process of its own: seconds, and its peak memory."""
    with tempfile.TemporaryDirectory() as name:
        interactions, output = Path(name) / "interactions", Path(name) / "features"
        stages.generate_interactions(interactions, config=sized_config(rows).data.generator)
        command = [sys.executable, "-m", "benchmarks.features_stage", str(interactions), str(output)]
        lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    figures: Figures = json.loads(lines[-1])
    return figures


def measure_scaling(rows: int) -> Figures:
    """The features stage at `rows` and ten times as many."""
    small, large = measure_stage(rows), measure_stage(10 * rows)
    return {
        "scaling_10x": large["stage_seconds"] / small["stage_seconds"],
        "compute_scaling_10x": large["compute_seconds"] / small["compute_seconds"],
        "peak_gib_10m": large["peak_gib"],
        "stage_seconds_10x": large["stage_seconds"],
    }


def main() -> None:
    """Prints the table and, as the last line, the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=DEFAULT_ROWS, help="interactions; scaling takes ten times as many")
    arguments = parser.parse_args()
    config = sized_config(arguments.rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = measure_etl(folder, config=config) | measure_features(folder, config=config)
    figures |= measure_scaling(arguments.rows)
    show({"rows": arguments.rows, **{name: round(value, 3) for name, value in figures.items()}}, TARGETS)


if __name__ == "__main__":
    main()
