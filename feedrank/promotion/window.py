"""The rows that a retraining learns from: recent days, and a replay of older ones so that it does not forget."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa

from feedrank import stages, storage
from feedrank.config import Config
from feedrank.config.monitoring import RetrainingConfig
from feedrank.data.split import Split, hold_out, save_split
from feedrank.model.bundle import SNAPSHOT_FOLDER
from feedrank.tables import US_PER_DAY, date_range, read_partitioned, timestamps_us, write_partitioned


def chosen_rows(features: pa.Table, *, window: RetrainingConfig, seed: int) -> pa.Table:
    """The rows of the last `recent_days` and so many random older ones that they are `replay_share` of all.

    In time order; the older rows come first, so all of them fall into the train part.
    """
    times = timestamps_us(features)
    first_recent = int(np.searchsorted(times, (times[-1] // US_PER_DAY + 1 - window.recent_days) * US_PER_DAY))
    recent = len(times) - first_recent
    wanted = min(first_recent, round(recent * window.replay_share / (1 - window.replay_share)))
    older = np.random.default_rng(seed).choice(first_recent, wanted, replace=False)
    # Monitoring takes the beginning of the history from the first row, so that one stays.
    rows = np.union1d([0, *older], np.arange(first_recent, len(times))).astype(np.int64)
    return features.take(pa.array(rows))


def choose_window(features: Path, *, output: Path, config: Config) -> stages.Summary:
    """Writes the rows that a retraining learns from, with their split, beside the snapshot of the whole history."""
    rows = chosen_rows(read_partitioned(features), window=config.monitoring.retraining, seed=config.model.training.seed)
    with storage.new_directory(output) as fresh:
        write_partitioned(rows, fresh)
        save_split(split_window(rows, config=config), fresh)
        shutil.copytree(features / SNAPSHOT_FOLDER, fresh / SNAPSHOT_FOLDER)
    start, end = date_range(rows)
    return stages.Summary(output=output, rows=rows.num_rows, start=start.isoformat(), end=end.isoformat())


def split_window(rows: pa.Table, *, config: Config) -> Split:
    """Holds out the latest of a retraining's rows."""
    least = config.model.evaluation.min_impressions_per_user
    return hold_out(rows, config=config.promotion.hold_out, min_impressions=least)
