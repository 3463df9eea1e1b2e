"""Runs the features stage in a process of its own: prints seconds and peak memory as JSON, for `benchmarks.etl`."""

import json
import resource
import statistics
import sys
import time
from pathlib import Path

from feedrank import stages
from feedrank.config import load_config
from feedrank.features.events import event_columns
from feedrank.features.offline import compute_features
from feedrank.tables import read_partitioned

KIB_PER_GIB = 1024**2
REPEATS = 3


def run(interactions: Path, output: Path) -> dict[str, float]:
    """The stage as the pipeline runs it and its peak memory; then the features alone, the median of repetitions."""
    config = load_config()
    started = time.perf_counter()
    stages.build_features(interactions, output=output, config=config)
    stage_seconds = time.perf_counter() - started
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_GIB
    table = read_partitioned(interactions, columns=event_columns(config.feed))
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        compute_features(table, feed=config.feed)
        seconds.append(time.perf_counter() - started)
    return {"stage_seconds": stage_seconds, "compute_seconds": statistics.median(seconds), "peak_gib": peak_gib}


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), Path(sys.argv[2]))))
