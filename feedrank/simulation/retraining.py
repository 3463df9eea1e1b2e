"""The loop's retraining: `promotion/retrain.py` without the steps that a simulated day has no use for (validation of
rows that nobody can have spoilt, baselines, plots).

And a day is held out: its first half stops the training, its second half compares challenger and champion.
"""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from feedrank import stages, storage
from feedrank.config import Config
from feedrank.data.split import Part, Split, save_split
from feedrank.evaluation.evaluate import Evaluation, RocCurve, check_gates, measure
from feedrank.features.offline import compute_features
from feedrank.features.snapshot import save_snapshot, take_snapshot
from feedrank.model.bundle import SNAPSHOT_FOLDER, load_bundle
from feedrank.promotion.window import chosen_rows
from feedrank.registered_model import RegisteredModel
from feedrank.registry import Registry
from feedrank.tables import US_PER_DAY, timestamps_us, write_partitioned


def train_and_register(interactions: pa.Table, *, folder: Path, now: datetime, config: Config) -> RegisteredModel:
    """Trains a ranker on a platform's interactions up to `now` and registers it.

    `folder` gets features/, model/ and evaluation/; what was there is replaced.
    """
    write_training_rows(interactions, output=folder / "features", now=now, config=config)
    stages.train_ranker(folder / "features", output=folder / "model", config=config)
    evaluation = evaluate_alone(folder, config=config)
    return Registry(config.model.registry).register(
        folder / "model", evaluation_folder=folder / "evaluation", evaluation=evaluation, config=config.model
    )


def write_training_rows(interactions: pa.Table, *, output: Path, now: datetime, config: Config) -> None:
    """Writes what `stages.train_ranker` reads: recent and replayed rows, their split, and the snapshot as of `now`."""
    features = compute_features(interactions, config=config.data.features)
    window, split = config.monitoring.retraining, config.promotion.retraining_split
    rows = chosen_rows(features, window=window, split=split, seed=config.model.training.seed)
    with storage.new_directory(output) as fresh:
        write_partitioned(rows, fresh)
        save_split(split_off_last_day(rows), fresh)
        (fresh / SNAPSHOT_FOLDER).mkdir()
        snapshot = take_snapshot(interactions, cutoff=now, config=config.data.features)
        save_snapshot(snapshot, fresh / SNAPSHOT_FOLDER)


def split_off_last_day(features: pa.Table) -> Split:
    """All days but the last train; the last one's first half of the rows validates, the second tests."""
    times = timestamps_us(features)
    first = int(np.searchsorted(times, times[-1] // US_PER_DAY * US_PER_DAY))
    second = int(np.searchsorted(times, times[(first + len(times)) // 2]))
    bounds = {"train": (0, first), "validation": (first, second), "test": (second, len(times))}

    def utc(time_us: np.int64) -> datetime:
        return datetime.fromtimestamp(int(time_us) / 1e6, UTC)

    parts = {n: Part(rows=b - a, start=utc(times[a]), end=utc(times[b - 1])) for n, (a, b) in bounds.items()}
    return Split(**parts)


def evaluate_alone(folder: Path, *, config: Config) -> Evaluation:
    """Judges `folder`/model on the test rows of `folder`/features, and writes `folder`/evaluation."""
    _, _, _, test = stages.load_features(folder / "features")
    metrics = measure(test, load_bundle(folder / "model").score_table(test), config=config.model.evaluation)
    evaluation = Evaluation(
        ranker=metrics,
        slices={},
        baselines={},
        oracle=None,
        gates=check_gates(metrics, config.model.gates),
        roc=RocCurve(fpr=[], tpr=[], threshold=[]),
    )
    shutil.rmtree(folder / "evaluation", ignore_errors=True)
    storage.write_text(folder / "evaluation" / stages.EVALUATION_FILE, evaluation.model_dump_json(indent=2))
    return evaluation
