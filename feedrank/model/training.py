"""Fits a ranker: tensors in memory, sparse updates of the embeddings, early stopping, resumable from a checkpoint."""

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy.special import expit
from torch import Tensor, nn

from feedrank import schema, storage
from feedrank.config.feed import Feed
from feedrank.config.model import ModelConfig, TrainingConfig
from feedrank.errors import DataError
from feedrank.evaluation.metrics import log_loss, roc_auc
from feedrank.features.events import Ints
from feedrank.features.forms import Clock
from feedrank.model.bundle import ITEM_IDS, USER_IDS
from feedrank.model.calibration import logit_offset
from feedrank.model.day_levels import DayLevels, leveled, with_mixed_weekdays
from feedrank.model.inputs import inputs_of
from feedrank.model.networks import Moves, Ranker, build_ranker
from feedrank.model.pretraining import co_engagement_factors
from feedrank.model.rows import Rows, recency_of
from feedrank.tables import US_PER_DAY, timestamps_us

EVALUATION_BATCH_ROWS = 16_384


class Epoch(BaseModel):
    """Figures of one pass over the training rows; NaN without validation rows.

    The losses are those with each day's level (`day_levels.py`): how well is known what differs within a day.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_auc: float
    seconds: float


def best_epoch(epochs: Sequence[Epoch]) -> Epoch:
    """The one with the lowest validation loss; the last one if nothing validated."""
    if np.isnan(epochs[-1].validation_loss):
        return epochs[-1]
    return min(epochs, key=lambda epoch: epoch.validation_loss)


@dataclass(frozen=True)
class Trained:
    """A fitted ranker's arrays (the best epoch's weights, calibrated, with the known ids) and how it got there."""

    arrays: dict[str, NDArray[Any]]
    epochs: list[Epoch]
    best_epoch: int
    half_life_days: float | None


Progress = Callable[[int, float], None]
"""Called after each batch with the rows done in this epoch and the mean loss so far."""


class Trainer:
    """One training run. `run` gives the best weights seen; a checkpoint after each epoch lets a rerun go on."""

    def __init__(
        self,
        config: ModelConfig,
        feed: Feed,
        *,
        train: pa.Table,
        validation: pa.Table | None,
        half_life_days: float | None = None,
        checkpoint: Path | None = None,
        on_epoch: Callable[[Epoch], None] = lambda _: None,
        on_batch: Progress = lambda _rows, _loss: None,
    ) -> None:
        """Takes feature tables (`Feed.table`). Without validation rows all configured epochs are trained.

        How days differ is set aside, and the mean score of the latest of both is set to their click rate. A row that is
        `half_life_days` older than the latest one counts for half as much; without, all count alike.

        Raises:
            DataError: a table is empty, has a value that is no finite number, or holds one class only.
        """
        _check(train, feed, "training")
        if validation is not None:
            _check(validation, feed, "validation")
        torch.manual_seed(config.training.seed)
        self.config, self.checkpoint, self.half_life_days = config, checkpoint, half_life_days
        self.inputs = inputs_of(feed)
        weekdays = feed.chosen(lambda form: isinstance(form, Clock) and form.clock == "weekday")
        self.weekday = torch.tensor(self.inputs.indices(weekdays), dtype=torch.long)
        self.on_epoch, self.on_batch = on_epoch, on_batch
        self.user_ids = np.unique(train[schema.USER_ID].to_numpy())
        self.item_ids = np.unique(train[schema.ITEM_ID].to_numpy())
        self.train_rows = self._rows(train).to_train_on(
            recency_of(train, half_life_days=half_life_days), click_weight=config.training.pretraining.click_weight
        )
        self.validation_rows: Rows | None = None
        known = [(timestamps_us(train), self.train_rows)]
        if validation is not None:
            self.validation_rows = self._rows(validation)
            known.append((timestamps_us(validation), self.validation_rows))
        self.latest_rows = _latest(known, clicks=config.training.calibration_clicks)
        self.levels = DayLevels(self.train_rows)
        self.ranker = build_ranker(config, self.inputs, num_users=len(self.user_ids), num_items=len(self.item_ids))
        self.ranker.input_mean.copy_(self.train_rows.inputs.mean(0))
        self.ranker.input_std.copy_(self.train_rows.inputs.std(0).clamp(min=1e-3))
        self._pretrain()
        self.optimizers = _optimizers(self.ranker, config.training)
        self.shuffle = torch.Generator().manual_seed(config.training.seed)
        self.epochs: list[Epoch] = []
        self.best_arrays = self.ranker.arrays()

    def run(self) -> Trained:
        """Trains until early stopping or the last epoch."""
        self._resume()
        while not self._done():
            epoch = self._epoch()
            self.epochs.append(epoch)
            if best_epoch(self.epochs) is epoch:
                self.best_arrays = self.ranker.arrays()
            self._save()
            self.on_epoch(epoch)
        arrays = {**self._calibrated(), USER_IDS: self.user_ids, ITEM_IDS: self.item_ids}
        return Trained(arrays, self.epochs, best_epoch(self.epochs).epoch, self.half_life_days)

    def _calibrated(self) -> dict[str, NDArray[np.float32]]:
        """The best weights, with the output's bias moved."""
        self.ranker.load_state_dict({name: torch.from_numpy(array) for name, array in self.best_arrays.items()})
        offset = logit_offset(
            np.concatenate([self._logits(rows) for rows in self.latest_rows]),
            np.concatenate([rows.targets.numpy() for rows in self.latest_rows]),
        )
        with torch.no_grad():
            self.ranker.output_bias.add_(offset)
        return self.ranker.arrays()

    def _rows(self, features: pa.Table) -> Rows:
        return Rows.from_table(features, self.inputs, user_ids=self.user_ids, item_ids=self.item_ids)

    def _pretrain(self) -> None:
        self.factors = co_engagement_factors(
            self.train_rows.users.numpy(),
            self.train_rows.items.numpy(),
            self.train_rows.counts.numpy(),
            shape=(len(self.user_ids), len(self.item_ids)),
            dim=self.config.embedding_dim,
            config=self.config.training.pretraining,
            seed=self.config.training.seed,
        )
        self.pretrained = self.factors.embeddings()
        self.ranker.set_embeddings(users=self.pretrained[0], items=self.pretrained[1])

    def _done(self) -> bool:
        stopping, losses = self.config.training.early_stopping, [epoch.validation_loss for epoch in self.epochs]
        if len(losses) >= self.config.training.epochs:
            return True
        if self.validation_rows is None or len(losses) <= stopping.patience:
            return False
        recent, earlier = losses[-stopping.patience :], losses[: -stopping.patience]
        return min(recent) > min(earlier) - stopping.min_delta

    def _epoch(self) -> Epoch:
        started, rows, total = time.perf_counter(), len(self.train_rows), 0.0
        self.ranker.train()
        order = torch.randperm(rows, generator=self.shuffle)
        for start in range(0, rows, self.config.training.batch_size):
            batch = self.train_rows.take(order[start : start + self.config.training.batch_size])
            total += self._step(batch) * len(batch)
            done = start + len(batch)
            self.on_batch(done, total / done)
        self.levels.follow()
        validation_loss, validation_auc = self._validate()
        return Epoch(
            epoch=len(self.epochs) + 1,
            train_loss=total / rows,
            validation_loss=validation_loss,
            validation_auc=validation_auc,
            seconds=time.perf_counter() - started,
        )

    def _validate(self) -> tuple[float, float]:
        """Log loss and AUC on the validation rows."""
        if self.validation_rows is None:
            return float("nan"), float("nan")
        targets = self.validation_rows.targets.numpy()
        scores = expit(leveled(self._logits(self.validation_rows), self.validation_rows))
        return log_loss(targets, scores), roc_auc(targets, scores)

    def _step(self, batch: Rows) -> float:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        users = self._hide(batch.users, len(self.user_ids))
        items = self._hide(batch.items, len(self.item_ids))
        rate = self.config.training.mixed_weekday_rate
        inputs = with_mixed_weekdays(batch.inputs, self.weekday, rate=rate, generator=self.shuffle)
        logits = self.levels.added(self.ranker(users, items, inputs, self._moves(batch, users, items)), batch)
        self.levels.note(logits, batch)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, batch.targets, batch.weights)
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.item()

    def _moves(self, batch: Rows, users: Tensor, items: Tensor) -> Moves | None:
        """What makes pretrained embeddings those without the batch's own impressions; 0 for ids that are hidden."""
        if not batch.counts.any():
            return None
        looked_up = batch.users.numpy(), batch.items.numpy()
        own = self.factors.without_own(*looked_up, batch.counts.numpy())
        moves = (own[side] - self.pretrained[side][looked_up[side]] for side in (0, 1))
        users_by, items_by = (torch.from_numpy(move) for move in moves)
        return users_by * (users == batch.users)[:, None], items_by * (items == batch.items)[:, None]

    def _hide(self, rows: Tensor, unknown_row: int) -> Tensor:
        hidden = torch.rand(len(rows), generator=self.shuffle) < self.config.training.unknown_id_rate
        return torch.where(hidden, unknown_row, rows)

    @torch.inference_mode()
    def _logits(self, rows: Rows) -> NDArray[np.float64]:
        self.ranker.eval()
        batches = (
            rows.take(torch.arange(i, min(i + EVALUATION_BATCH_ROWS, len(rows))))
            for i in range(0, len(rows), EVALUATION_BATCH_ROWS)
        )
        logits = [
            self.ranker(batch.users, batch.items, batch.inputs, self._moves(batch, batch.users, batch.items))
            for batch in batches
        ]
        return torch.cat(logits).double().numpy()

    def _fingerprint(self) -> str:
        """Of all that a checkpoint must agree with to be continued."""
        digest = hashlib.sha256(self.config.model_dump_json().encode())
        for rows in (self.train_rows, self.validation_rows):
            if rows is None:
                continue
            for tensor in (rows.users, rows.items, rows.inputs, rows.targets, rows.days, rows.counts):
                digest.update(np.ascontiguousarray(tensor.numpy()).data)
        return digest.hexdigest()

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        state = {
            "fingerprint": self._fingerprint(),
            "ranker": self.ranker.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "shuffle": self.shuffle.get_state(),
            "torch": torch.get_rng_state(),
            "levels": self.levels.values,
            "epochs": [epoch.model_dump() for epoch in self.epochs],
            "best": {name: torch.from_numpy(array) for name, array in self.best_arrays.items()},
        }
        with storage.new_file(self.checkpoint) as fresh:
            torch.save(state, fresh)

    def _resume(self) -> None:
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        try:
            state = torch.load(self.checkpoint, weights_only=True)
        except Exception:
            # torch raises whatever a damaged file leads it to; such a checkpoint costs epochs, not the run.
            return
        if state["fingerprint"] != self._fingerprint():
            return
        self.ranker.load_state_dict(state["ranker"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.shuffle.set_state(state["shuffle"])
        torch.set_rng_state(state["torch"])
        self.levels.values = state["levels"]
        self.epochs = [Epoch.model_validate(epoch) for epoch in state["epochs"]]
        self.best_arrays = {name: tensor.numpy() for name, tensor in state["best"].items()}


def train_best(
    config: ModelConfig,
    feed: Feed,
    *,
    train: pa.Table,
    validation: pa.Table,
    checkpoints: Sequence[Path],
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    on_batch: Progress = lambda _rows, _loss: None,
) -> Trained:
    """Trains with the configured half-lives, each with a checkpoint of its own, as long as the next is better.

    How fast a feed forgets is not known beforehand: while tastes last, old rows are as good as new ones; after they
    have moved, they are in the way. Better is a lower loss on the validation rows.
    """
    return best_of(
        Trainer(
            config,
            feed,
            train=train,
            validation=validation,
            half_life_days=half_life_days,
            checkpoint=checkpoint,
            on_epoch=on_epoch,
            on_batch=on_batch,
        ).run()
        for half_life_days, checkpoint in zip(config.training.half_life_days, checkpoints, strict=True)
    )


def best_of(runs: Iterable[Trained]) -> Trained:
    """The last of at least one run before the first that is no better than it; those after that are not asked for."""
    found = iter(runs)
    best = next(found)
    for trained in found:
        if best_epoch(trained.epochs).validation_loss >= best_epoch(best.epochs).validation_loss:
            break
        best = trained
    return best


def _optimizers(ranker: Ranker, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """Adam for the dense weights; SparseAdam touches only the embeddings that a batch looked up."""
    dense = torch.optim.Adam(
        ranker.dense_parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    if not config.embedding_learning_rate:
        return [dense]
    return [dense, torch.optim.SparseAdam(ranker.embedding_parameters(), lr=config.embedding_learning_rate)]


def _latest(known: Sequence[tuple[Ints, Rows]], *, clicks: int) -> list[Rows]:
    """Of parts with their times: the last rows with so many clicks, and in any case those of the last 24 hours."""
    clicked = np.sort(np.concatenate([own[rows.targets.numpy() == 1] for own, rows in known]))
    last = max(own.max() for own, _ in known)
    since = min(clicked[-min(clicks, len(clicked))], last - US_PER_DAY)
    return [part.take(torch.from_numpy(np.flatnonzero(own >= since))) for own, part in known if own.max() >= since]


def _check(features: pa.Table, feed: Feed, name: str) -> None:
    if not features.num_rows:
        raise DataError(f"the {name} rows are empty; widen the date range or the split")
    for column in (schema.TARGET, *feed.names):
        values = features[column]
        if values.null_count or not np.isfinite(values.to_numpy()).all():
            raise DataError(
                f"the {name} rows hold a null, NaN or infinity in column {column}; compute the features again"
            )
    classes = np.unique(features[schema.TARGET].to_numpy())
    if classes.tolist() != [0, 1]:
        raise DataError(
            f"the {name} rows have {schema.TARGET} values {classes.tolist()}, a ranker needs both 0 and 1 (clicks "
            "and impressions without one); widen the date range or check the click mapping"
        )
