"""Measures training: an epoch beside a naive loop's, and the seconds to early stopping.

The naive loop is what a tutorial has: a DataLoader over a shuffled TensorDataset, embeddings from N(0, 0.01) with
dense gradients, one dense Adam over everything, batches of 1,024. It has the same network and rows, and both epochs
end with the same validation scores. Ours is faster mostly because its embeddings are computed before the first epoch
(one sparse SVD) and then kept, where the naive loop moves 60,000 x 128 dense weights a batch. So the comparison holds
only at an equal or better validation AUC after as many epochs, which is shown, and `epoch_speedup_with_setup` counts
the preparation in: all seconds up to the end of that epoch, naive over ours.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.prepared import DEFAULT_ROWS, sized_config, write_features
from feedrank.config.feed import Feed
from feedrank.config.model import ModelConfig
from feedrank.evaluation.metrics import roc_auc
from feedrank.model.inputs import inputs_of
from feedrank.model.networks import Ranker, build_ranker
from feedrank.model.training import EVALUATION_BATCH_ROWS, Rows, Trained, Trainer
from feedrank.stages import load_features

THREADS = 2
NAIVE_EPOCHS = 2
NAIVE_EMBEDDING_SD = 0.01


@dataclass(frozen=True)
class NaiveEpoch:
    """One epoch of the naive loop."""

    seconds: float
    validation_auc: float


def naive_ranker(config: ModelConfig, *, num_users: int, num_items: int) -> Ranker:
    """The same network with random embeddings that get dense gradients."""
    torch.manual_seed(config.training.seed)
    ranker = build_ranker(config, inputs_of(Feed()), num_users=num_users, num_items=num_items)
    for embedding in (ranker.user_embedding, ranker.item_embedding):
        embedding.sparse = False
        embedding.weight.requires_grad_(True)
        nn.init.normal_(embedding.weight, std=NAIVE_EMBEDDING_SD)
    return ranker


def naive_epochs(ranker: Ranker, *, train: Rows, validation: Rows, config: ModelConfig) -> Iterator[NaiveEpoch]:
    """Trains for ever."""
    dataset = TensorDataset(train.users, train.items, train.inputs, train.targets)
    loader = DataLoader(dataset, batch_size=config.training.batch_size, shuffle=True)
    optimizer = torch.optim.Adam(ranker.parameters(), lr=config.training.learning_rate)
    loss_function = nn.BCEWithLogitsLoss()
    while True:
        started = time.perf_counter()
        ranker.train()
        for users, items, inputs, targets in loader:
            optimizer.zero_grad()
            loss = loss_function(ranker(users, items, inputs), targets)
            loss.backward()
            optimizer.step()
        auc = validation_auc(ranker, validation)
        yield NaiveEpoch(time.perf_counter() - started, auc)


@torch.inference_mode()
def validation_auc(ranker: Ranker, rows: Rows) -> float:
    """AUC of a ranker on some rows."""
    ranker.eval()
    parts = torch.arange(len(rows)).split(EVALUATION_BATCH_ROWS)
    batches = (rows.take(part) for part in parts)
    logits = torch.cat([ranker(batch.users, batch.items, batch.inputs) for batch in batches])
    return roc_auc(rows.targets.numpy(), logits.numpy())


@dataclass(frozen=True)
class Measured:
    """Both loops on the same rows."""

    trained: Trained
    setup_seconds: float
    train_seconds: float
    naive: list[NaiveEpoch]
    naive_setup_seconds: float


def measure(train: pa.Table, validation: pa.Table, *, config: ModelConfig, naive_count: int) -> Measured:
    """Trains ours to early stopping, then the naive loop for some epochs."""
    started = time.perf_counter()
    trainer = Trainer(config, Feed(), train=train, validation=validation)
    setup_seconds = time.perf_counter() - started
    trained = trainer.run()
    train_seconds = time.perf_counter() - started

    started = time.perf_counter()
    users, items = trainer.user_ids, trainer.item_ids
    rows, validation_rows = (
        Rows.from_table(t, trainer.inputs, user_ids=users, item_ids=items) for t in (train, validation)
    )
    ranker = naive_ranker(config, num_users=len(users), num_items=len(items))
    ranker.input_mean.copy_(rows.inputs.mean(0))
    ranker.input_std.copy_(rows.inputs.std(0).clamp(min=1e-3))
    naive_setup_seconds = time.perf_counter() - started
    epochs = naive_epochs(ranker, train=rows, validation=validation_rows, config=config)
    naive = [next(epochs) for _ in range(naive_count)]
    return Measured(trained, setup_seconds, train_seconds, naive, naive_setup_seconds)


def figures(measured: Measured) -> dict[str, float]:
    """The JSON line."""
    ours, naive = measured.trained.epochs, measured.naive
    count = min(len(ours), len(naive))
    ours_epoch = statistics.median(epoch.seconds for epoch in ours)
    naive_epoch = statistics.median(epoch.seconds for epoch in naive)
    ours_total = measured.setup_seconds + sum(epoch.seconds for epoch in ours[:count])
    naive_total = measured.naive_setup_seconds + sum(epoch.seconds for epoch in naive[:count])
    return {
        "epoch_speedup": naive_epoch / ours_epoch,
        "epoch_speedup_with_setup": naive_total / ours_total,
        "compared_epochs": count,
        "validation_auc": ours[count - 1].validation_auc,
        "naive_validation_auc": naive[count - 1].validation_auc,
        "train_seconds": measured.train_seconds,
        "epochs": len(ours),
        "best_validation_auc": ours[measured.trained.best_epoch - 1].validation_auc,
        "epoch_seconds": ours_epoch,
        "naive_epoch_seconds": naive_epoch,
        "setup_seconds": measured.setup_seconds,
    }


def show(measured: Measured) -> None:
    """Prints the epochs of both loops side by side."""
    table = Table("epoch", "ours, s", "naive, s", "ours, validation AUC", "naive, validation AUC", title="Training")
    for index, epoch in enumerate(measured.trained.epochs):
        naive = measured.naive[index] if index < len(measured.naive) else None
        table.add_row(
            str(epoch.epoch),
            f"{epoch.seconds:.1f}",
            "" if naive is None else f"{naive.seconds:.1f}",
            f"{epoch.validation_auc:.4f}",
            "" if naive is None else f"{naive.validation_auc:.4f}",
        )
    console = Console(width=100)
    console.print(table)
    console.print(f"to early stopping, preparation included: {measured.train_seconds:.1f} s (target < 300 s)")


def main() -> None:
    """Prints the table and, as the last line, the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=DEFAULT_ROWS, help="interactions")
    parser.add_argument("--naive-epochs", type=int, default=NAIVE_EPOCHS)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    config = sized_config(arguments.rows)
    with tempfile.TemporaryDirectory() as name:
        _, train, validation, _ = load_features(write_features(Path(name), config=config))
    measured = measure(train, validation, config=config.model, naive_count=arguments.naive_epochs)
    show(measured)
    line = {name: round(value, 4) for name, value in figures(measured).items()}
    print(json.dumps({"rows": arguments.rows, "threads": THREADS, **line}))


if __name__ == "__main__":
    main()
