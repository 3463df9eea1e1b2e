"""The loop's trainings: the bootstrap's and `promotion/retrain.py` without the steps that a simulated day has no use
for (validation of rows that nobody can have spoilt, baselines, plots).

What is held out, and the fit on all rows, are the library's.
"""

import shutil
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from feedrank import stages, storage
from feedrank.config import Config
from feedrank.data.split import save_split, split_by_time
from feedrank.evaluation.evaluate import Evaluation, RocCurve, gates_on, measure
from feedrank.features.offline import compute_features
from feedrank.features.snapshot import save_snapshot, take_snapshot
from feedrank.model.bundle import SNAPSHOT_FOLDER, load_bundle
from feedrank.promotion.window import chosen_rows, split_window
from feedrank.registered_model import RegisteredModel
from feedrank.registry import Registry
from feedrank.tables import write_partitioned


def train_and_register(
    interactions: pa.Table, *, folder: Path, now: datetime, config: Config, first: bool = False
) -> RegisteredModel:
    """Trains a ranker on a platform's interactions up to `now` and registers its fit on all of them.

    A platform's `first` model learns from all rows and is judged on the last share of them, as the bootstrap's is.
    `folder` gets features/, model/, evaluation/ and refitted/; what was there is replaced.
    """
    write_training_rows(interactions, output=folder / "features", now=now, config=config, first=first)
    stages.train_ranker(folder / "features", output=folder / "model", config=config)
    evaluation = evaluate_alone(folder, config=config)
    stages.refit_ranker(folder / "model", folder / "features", output=folder / "refitted", gates=config.model.gates)
    return Registry(config.model.registry).register(
        folder / "refitted", evaluation_folder=folder / "evaluation", evaluation=evaluation, config=config.model
    )


def write_training_rows(
    interactions: pa.Table, *, output: Path, now: datetime, config: Config, first: bool = False
) -> None:
    """Writes what `stages.train_ranker` reads: the rows, their split, and the snapshot as of `now`."""
    rows = compute_features(interactions, feed=config.feed)
    if first:
        split = split_by_time(rows, config=config.data.split)
    else:
        rows = chosen_rows(rows, window=config.monitoring.retraining, seed=config.model.training.seed)
        split = split_window(rows, config=config)
    with storage.new_directory(output) as fresh:
        write_partitioned(rows, fresh)
        save_split(split, fresh)
        (fresh / SNAPSHOT_FOLDER).mkdir()
        snapshot = take_snapshot(interactions, cutoff=now, feed=config.feed)
        save_snapshot(snapshot, fresh / SNAPSHOT_FOLDER)


def evaluate_alone(folder: Path, *, config: Config) -> Evaluation:
    """Judges `folder`/model on the test rows of `folder`/features, and writes `folder`/evaluation."""
    bundle, (_, _, _, test) = load_bundle(folder / "model"), stages.load_features(folder / "features")
    metrics = measure(test, bundle.score_table(test), config=config.model.evaluation)
    evaluation = Evaluation(
        ranker=metrics,
        slices={},
        baselines={},
        oracle=None,
        gates=gates_on(test, metrics, bundle.feed, config=config.model),
        roc=RocCurve(fpr=[], tpr=[], threshold=[]),
    )
    shutil.rmtree(folder / "evaluation", ignore_errors=True)
    storage.write_text(folder / "evaluation" / stages.EVALUATION_FILE, evaluation.model_dump_json(indent=2))
    return evaluation
