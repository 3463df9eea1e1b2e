"""The page about an evaluation: verdict, gates, baselines, slices, feature importance and plots."""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from feedrank import storage
from feedrank.config.model import EvaluationConfig
from feedrank.evaluation.evaluate import MODEL, ORACLE, Evaluation, Metrics
from feedrank.evaluation.plots import draw
from feedrank.model.bundle import ModelMetadata

REPORT_FILE, TEMPLATE = "report.html", "report.html.j2"
TREES = "gradient_boosted_trees"
CAPTIONS = {
    "baselines": "Lift over the baselines",
    "learning_curve": "Learning curve",
    "roc": "ROC curve",
    "precision_recall": "Precision and recall",
    "calibration": "Calibration",
}


def write_report(
    evaluation: Evaluation,
    *,
    epochs: Sequence[Mapping[str, Any]],
    targets: NDArray[Any],
    scores: NDArray[Any],
    metadata: ModelMetadata,
    config: EvaluationConfig,
    directory: Path,
) -> None:
    """Writes `report.html`, which needs no other file, and its plots as PNG beside it.

    `targets` and `scores` are those of the test rows [rows], `epochs` the entries of the bundle's `epochs.json`.
    """
    plots = draw(
        evaluation,
        epochs=epochs,
        targets=targets,
        scores=scores,
        calibration_bins=config.calibration_bins,
        directory=directory,
    )
    page = (
        _environment()
        .get_template(TEMPLATE)
        .render(
            evaluation=evaluation,
            headline=headline(evaluation),
            metadata=metadata,
            config=config,
            below=("log_loss", "normalized_entropy"),
            predictors=_predictors(evaluation),
            click_rate=float(targets.mean()),
            epochs=len(epochs),
            most_lost=max([1e-9, *evaluation.importance.values()]),
            plots={CAPTIONS[name]: base64.b64encode(path.read_bytes()).decode() for name, path in plots.items()},
        )
    )
    storage.write_text(directory / REPORT_FILE, page)


def headline(evaluation: Evaluation) -> str:
    """The verdict in a sentence or two."""
    missed = evaluation.missed_gates
    gates = "misses " + _words(missed) if missed else "passes every gate"
    text = f"The ranker {gates}: GAUC {_number(evaluation.ranker.gauc)}, AUC {_number(evaluation.ranker.auc)}"
    if evaluation.oracle_share is not None:
        text += f", {evaluation.oracle_share:.0%} of what the truth itself would reach above chance"
    ranker = evaluation.ranker
    unbeaten = [n for n, metrics in evaluation.baselines.items() if not ranker.orders_better_than(metrics)]
    if unbeaten:
        return f"{text}. It does not order a user's items better than {_words(unbeaten)} (GAUC, NDCG@10)."
    if TREES not in evaluation.baselines:
        return f"{text}."
    margin = ranker.gauc - evaluation.baselines[TREES].gauc
    return f"{text}. It orders a user's items better than every baseline, gradient-boosted trees by {margin:.3f} GAUC."


def _predictors(evaluation: Evaluation) -> dict[str, Metrics]:
    """All that were judged, the best order within users first, the oracle above them."""
    judged = {**evaluation.baselines, MODEL: evaluation.ranker}
    ordered = dict(sorted(judged.items(), key=lambda entry: -entry[1].gauc))
    return ordered if evaluation.oracle is None else {ORACLE: evaluation.oracle, **ordered}


def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, words=_words_of)
    return environment


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "undefined"


def _words_of(name: str) -> str:
    return re.sub(r"\b(g?auc|ctr|ndcg)\b", lambda acronym: acronym[0].upper(), name.replace("_", " "))


def _words(names: Sequence[str]) -> str:
    *others, last = map(_words_of, names)
    return f"{', '.join(others)} and {last}" if others else last
