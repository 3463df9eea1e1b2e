"""Plots of an evaluation, as PNG files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedrank.evaluation.evaluate import MODEL, ORACLE, Evaluation
from feedrank.evaluation.metrics import calibration_curve

MAIN, SECOND, QUIET, GOOD = "#1f6feb", "#d1742f", "#9aa7b4", "#1a7f37"
CURVE_POINTS = 400
Array = NDArray[Any]


def learning_curve(axis: Any, epochs: Sequence[Mapping[str, float]]) -> None:
    """Losses and validation AUC by epoch."""
    numbers = [epoch["epoch"] for epoch in epochs]
    axis.plot(numbers, [epoch["train_loss"] for epoch in epochs], "o-", color=QUIET, label="training loss")
    axis.plot(numbers, [epoch["validation_loss"] for epoch in epochs], "o-", color=MAIN, label="validation loss")
    axis.set(xlabel="epoch", ylabel="log loss")
    axis.xaxis.get_major_locator().set_params(integer=True)
    right = axis.twinx()
    right.plot(numbers, [epoch["validation_auc"] for epoch in epochs], "s--", color=SECOND, label="validation AUC")
    right.set_ylabel("AUC", color=SECOND)
    lines = [*axis.get_lines(), *right.get_lines()]
    labels = [line.get_label() for line in lines]
    axis.legend(lines, labels, frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))


def roc(axis: Any, evaluation: Evaluation) -> None:
    """True against false positive rate."""
    axis.plot(
        [0, *evaluation.roc.fpr], [0, *evaluation.roc.tpr], color=MAIN, label=f"ranker, {evaluation.ranker.auc:.3f}"
    )
    axis.plot([0, 1], [0, 1], ":", color=QUIET, label="chance, 0.500")
    axis.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1))
    axis.legend(title="AUC", frameon=False, fontsize=8, loc="lower right")


def precision_recall(axis: Any, targets: Array, scores: Array) -> None:
    """Precision against recall, beside the click-through rate that random order reaches."""
    hits = np.cumsum(targets[np.argsort(-scores, kind="stable")])
    # From where a few clicks are counted: before, precision is noise.
    start = int(np.searchsorted(hits, min(20, hits[-1])))
    rows = np.unique(np.linspace(start, len(hits) - 1, CURVE_POINTS).astype(np.int64))
    precision = hits[rows] / (rows + 1)
    axis.plot(hits[rows] / max(hits[-1], 1), precision, color=MAIN, label="ranker")
    axis.axhline(targets.mean(), ls=":", color=QUIET, label=f"chance, {targets.mean():.3f}")
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.08 * precision.max() or 1))
    axis.legend(frameon=False, fontsize=8)


def calibration(axis: Any, targets: Array, scores: Array, *, bins: int) -> None:
    """Click-through rate against mean score, in bins with equally many rows."""
    mean_score, rate, rows = calibration_curve(targets, scores, bins=bins)
    error = 1.96 * np.sqrt(rate * (1 - rate) / rows)
    top = 1.08 * max(mean_score.max(), (rate + error).max())
    axis.plot([0, top], [0, top], ":", color=QUIET, label="perfect")
    axis.errorbar(mean_score, rate, yerr=error, fmt="o-", color=MAIN, ms=4, capsize=2, label="ranker, 95 % interval")
    axis.set(xlabel="mean score", ylabel="click-through rate", xlim=(0, top), ylim=(0, top))
    axis.legend(frameon=False, fontsize=8, loc="upper left")


def baselines(axis: Any, evaluation: Evaluation) -> None:
    """AUC above chance of each baseline, the ranker and the oracle."""
    predictors = {**evaluation.baselines, MODEL: evaluation.ranker}
    if evaluation.oracle is not None:
        predictors[ORACLE] = evaluation.oracle
    names = sorted(predictors, key=lambda name: predictors[name].auc)
    lifts = [predictors[name].auc - 0.5 for name in names]
    colors = [{MODEL: MAIN, ORACLE: GOOD}.get(name, QUIET) for name in names]
    bars = axis.barh([name.replace("_", " ") for name in names], lifts, color=colors)
    axis.bar_label(bars, [f"{lift:+.3f}" for lift in lifts], padding=3, fontsize=8)
    axis.set(xlabel="AUC above chance (0.5)")
    axis.margins(x=0.15)


def draw(
    evaluation: Evaluation,
    *,
    epochs: Sequence[Mapping[str, float]],
    targets: Array,
    scores: Array,
    calibration_bins: int,
    directory: Path,
) -> dict[str, Path]:
    """Writes all plots as `directory`/NAME.png."""
    plots: dict[str, Callable[[Any], None]] = {
        "baselines": lambda axis: baselines(axis, evaluation),
        "learning_curve": lambda axis: learning_curve(axis, epochs),
        "roc": lambda axis: roc(axis, evaluation),
        "precision_recall": lambda axis: precision_recall(axis, targets, scores),
        "calibration": lambda axis: calibration(axis, targets, scores, bins=calibration_bins),
    }
    return {name: _save(directory / f"{name}.png", plot) for name, plot in plots.items()}


def _save(path: Path, plot: Callable[[Any], None]) -> Path:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(5.6, 3.6), constrained_layout=True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    plot(axis)
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)
    return path
