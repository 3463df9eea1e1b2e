"""Judges click probabilities on the test split: metrics, slices, baselines, the oracle and the gates."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.config.model import EvaluationConfig, Gates, ModelConfig
from feedrank.evaluation.baselines import BASELINES, item_ctr
from feedrank.evaluation.metrics import (
    calibration_error,
    group_auc,
    log_loss,
    normalized_entropy,
    precision_and_ndcg_at,
    roc_auc,
    roc_curve,
)
from feedrank.features.events import Ints

Scores = NDArray[Any]
K = 10
ROC_POINTS = 200
MODEL, ORACLE = "ranker", "oracle"


class _Json(BaseModel):
    """NaN survives the way to JSON and back."""

    model_config = ConfigDict(ser_json_inf_nan="strings")


class Metrics(_Json):
    """Quality of one predictor on one set of rows; NaN where undefined (one class, no user with enough rows)."""

    rows: int
    gauc: float
    """AUC within users, weighted by impressions: how well the ranker orders what one user was offered."""
    gauc_users: int
    auc: float
    log_loss: float
    normalized_entropy: float
    """Log loss over that of the click rate; below 1 is better than knowing the rate only."""
    precision_at_10: float
    ndcg_at_10: float
    calibration_error: float
    users_at_10: int

    def orders_better_than(self, other: "Metrics") -> bool:
        """Whether it orders a user's items better: a higher GAUC, and no lower NDCG@10 where that is defined."""
        undefined = math.isnan(self.ndcg_at_10) and math.isnan(other.ndcg_at_10)
        return self.gauc > other.gauc and (undefined or self.ndcg_at_10 >= other.ndcg_at_10)


class GateResult(_Json):
    """One gate and whether the model passed it."""

    name: str
    """Of the figure that has a limit."""
    value: float
    limit: float
    passed: bool


class RocCurve(_Json):
    """Points of the ROC curve by falling threshold; empty when there is one class only."""

    fpr: list[float]
    tpr: list[float]
    threshold: list[float]


class Evaluation(_Json):
    """`evaluation.json`: the ranker on the test split, by slice, and beside what it must beat."""

    ranker: Metrics
    slices: dict[str, Metrics]
    baselines: dict[str, Metrics]
    oracle: Metrics | None
    gates: list[GateResult]
    roc: RocCurve
    importance: dict[str, float] = {}
    """AUC lost when a feature is permuted (`importance.py`)."""

    @property
    def passed(self) -> bool:
        """Whether every gate was passed."""
        return all(gate.passed for gate in self.gates)

    @property
    def missed_gates(self) -> list[str]:
        """Names of the gates that were not."""
        return [gate.name for gate in self.gates if not gate.passed]

    @property
    def oracle_share(self) -> float | None:
        """(AUC - 0.5) / (oracle's AUC - 0.5); None without an oracle."""
        return None if self.oracle is None else (self.ranker.auc - 0.5) / (self.oracle.auc - 0.5)


def measure(features: pa.Table, scores: Scores, *, config: EvaluationConfig) -> Metrics:
    """Metrics of scores [rows] for the rows of a feature table."""
    targets, user_ids = features[schema.TARGET].to_numpy(), features[schema.USER_ID].to_numpy()
    gauc, gauc_users = group_auc(user_ids, targets, scores)
    precision, ndcg, users = precision_and_ndcg_at(
        K,
        users=user_ids,
        targets=targets,
        scores=scores,
        min_impressions=config.min_impressions_per_user,
    )
    return Metrics(
        rows=len(targets),
        gauc=gauc,
        gauc_users=gauc_users,
        auc=roc_auc(targets, scores),
        log_loss=log_loss(targets, scores),
        normalized_entropy=normalized_entropy(targets, scores),
        precision_at_10=precision,
        ndcg_at_10=ndcg,
        calibration_error=calibration_error(targets, scores, bins=config.calibration_bins),
        users_at_10=users,
    )


@dataclass(frozen=True)
class KnownIds:
    """The users and items that a ranker was trained on."""

    users: Ints
    items: Ints

    @staticmethod
    def of_rows(train: pa.Table) -> "KnownIds":
        """Those of a feature table."""
        return KnownIds(train[schema.USER_ID].to_numpy(), train[schema.ITEM_ID].to_numpy())


def slices(features: pa.Table, known: KnownIds, feed: Feed) -> dict[str, NDArray[np.bool_]]:
    """Named masks [rows]: users and items unseen and seen in training, and each declared value of the context."""
    users = np.isin(features[schema.USER_ID].to_numpy(), known.users)
    items = np.isin(features[schema.ITEM_ID].to_numpy(), known.items)
    masks = {"new_users": ~users, "known_users": users, "new_items": ~items, "known_items": items}
    for name in feed.flags:
        masks[name] = features[name].to_numpy() == 1
    return masks


def evaluate(
    scores: Scores,
    *,
    train: pa.Table,
    test: pa.Table,
    feed: Feed,
    config: EvaluationConfig,
    gates: Gates,
    oracle: Callable[[pa.Table], Scores] | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Judges the ranker's scores [test rows]; `oracle` gives the true click probabilities where they are known."""
    ranker = measure(test, scores, config=config)
    baselines = {}
    for name, predict in BASELINES.items():
        on_step(name)
        if (predicted := predict(train, test, feed)) is not None:
            baselines[name] = measure(test, predicted, config=config)
    return Evaluation(
        ranker=ranker,
        slices=_by_slice(test, scores, known=KnownIds.of_rows(train), feed=feed, config=config),
        baselines=baselines,
        oracle=None if oracle is None else measure(test, oracle(test), config=config),
        gates=check_gates(ranker, gates, item_ctr=baselines.get("item_ctr")),
        roc=_roc(test[schema.TARGET].to_numpy(), scores),
    )


def _roc(targets: NDArray[Any], scores: Scores) -> RocCurve:
    fpr, tpr, threshold = roc_curve(targets, scores, points=ROC_POINTS)
    return RocCurve(fpr=fpr.tolist(), tpr=tpr.tolist(), threshold=threshold.tolist())


def _by_slice(
    test: pa.Table, scores: Scores, *, known: KnownIds, feed: Feed, config: EvaluationConfig
) -> dict[str, Metrics]:
    masks = {name: mask for name, mask in slices(test, known, feed).items() if mask.any()}
    return {name: measure(test.filter(pa.array(mask)), scores[mask], config=config) for name, mask in masks.items()}


def gates_on(rows: pa.Table, metrics: Metrics, feed: Feed, *, config: ModelConfig) -> list[GateResult]:
    """A model's metrics on some rows of a feed's features against the gates."""
    rates = item_ctr(rows, rows, feed)
    by_item_ctr = None if rates is None else measure(rows, rates, config=config.evaluation)
    return check_gates(metrics, config.gates, item_ctr=by_item_ctr)


def check_gates(metrics: Metrics, gates: Gates, *, item_ctr: Metrics | None) -> list[GateResult]:
    """Compares metrics with the gates that are set; NaN passes none. `item_ctr` are the baseline's on the same rows."""
    lift = float("nan") if item_ctr is None else metrics.ndcg_at_10 - item_ctr.ndcg_at_10
    floors = {
        "auc": (metrics.auc, gates.min_auc),
        "precision_at_10": (metrics.precision_at_10, gates.min_precision_at_10),
        "ndcg_at_10_over_item_ctr": (lift, gates.min_ndcg_lift),
    }
    ceilings = {
        "log_loss": (metrics.log_loss, gates.max_log_loss),
        "normalized_entropy": (metrics.normalized_entropy, gates.max_normalized_entropy),
    }
    return [
        *(GateResult(name=n, value=v, limit=low, passed=v > low) for n, (v, low) in floors.items() if low is not None),
        *(GateResult(name=n, value=v, limit=up, passed=v < up) for n, (v, up) in ceilings.items() if up is not None),
    ]
