"""Judges click probabilities on the test split: metrics, slices, baselines, the oracle and the gates."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from feedrank import schema
from feedrank.config.model import EvaluationConfig, Gates
from feedrank.evaluation.baselines import BASELINES
from feedrank.evaluation.metrics import calibration_error, log_loss, precision_and_ndcg_at, roc_auc, roc_curve

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
    auc: float
    log_loss: float
    precision_at_10: float
    ndcg_at_10: float
    calibration_error: float
    users_at_10: int


class GateResult(_Json):
    """One gate and whether the model passed it."""

    name: str
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
    def oracle_share(self) -> float | None:
        """(AUC - 0.5) / (oracle's AUC - 0.5); None without an oracle."""
        return None if self.oracle is None else (self.ranker.auc - 0.5) / (self.oracle.auc - 0.5)


def measure(features: pa.Table, scores: Scores, *, config: EvaluationConfig) -> Metrics:
    """Metrics of scores [rows] for the rows of a feature table."""
    targets = features[schema.TARGET].to_numpy()
    precision, ndcg, users = precision_and_ndcg_at(
        K,
        users=features[schema.USER_ID].to_numpy(),
        targets=targets,
        scores=scores,
        min_impressions=config.min_impressions_per_user,
    )
    return Metrics(
        rows=len(targets),
        auc=roc_auc(targets, scores),
        log_loss=log_loss(targets, scores),
        precision_at_10=precision,
        ndcg_at_10=ndcg,
        calibration_error=calibration_error(targets, scores, bins=config.calibration_bins),
        users_at_10=users,
    )


def slices(features: pa.Table, *, config: EvaluationConfig) -> dict[str, NDArray[np.bool_]]:
    """Named masks [rows]: users and items with and without history, and each device."""
    few = config.new_entity_max_impressions
    users = features[schema.USER_INTERACTION_COUNT].to_numpy()
    items = np.expm1(features[schema.ITEM_POPULARITY].to_numpy())
    masks = {
        "new_users": users <= few,
        "known_users": users > few,
        "new_items": items <= few,
        "known_items": items > few,
    }
    for name in schema.DEVICE_COLUMNS:
        masks[name] = features[name].to_numpy() == 1
    return masks


def evaluate(
    scores: Scores,
    *,
    train: pa.Table,
    test: pa.Table,
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
        baselines[name] = measure(test, predict(train, test), config=config)
    return Evaluation(
        ranker=ranker,
        slices=_by_slice(test, scores, config=config),
        baselines=baselines,
        oracle=None if oracle is None else measure(test, oracle(test), config=config),
        gates=check_gates(ranker, gates),
        roc=_roc(test[schema.TARGET].to_numpy(), scores),
    )


def _roc(targets: NDArray[Any], scores: Scores) -> RocCurve:
    fpr, tpr, threshold = roc_curve(targets, scores, points=ROC_POINTS)
    return RocCurve(fpr=fpr.tolist(), tpr=tpr.tolist(), threshold=threshold.tolist())


def _by_slice(test: pa.Table, scores: Scores, *, config: EvaluationConfig) -> dict[str, Metrics]:
    masks = {name: mask for name, mask in slices(test, config=config).items() if mask.any()}
    return {name: measure(test.filter(pa.array(mask)), scores[mask], config=config) for name, mask in masks.items()}


def check_gates(metrics: Metrics, gates: Gates) -> list[GateResult]:
    """Compares metrics with the gates; NaN passes none."""
    bounds: Mapping[str, tuple[float, float, bool]] = {
        "auc": (metrics.auc, gates.min_auc, metrics.auc > gates.min_auc),
        "log_loss": (metrics.log_loss, gates.max_log_loss, metrics.log_loss < gates.max_log_loss),
        "precision_at_10": (
            metrics.precision_at_10,
            gates.min_precision_at_10,
            metrics.precision_at_10 > gates.min_precision_at_10,
        ),
    }
    return [GateResult(name=n, value=v, limit=limit, passed=ok) for n, (v, limit, ok) in bounds.items()]
