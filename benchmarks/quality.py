"""Measures both rankers on the test rows of the default world, beside the baselines and the oracle.

`auc`, `log_loss`, `precision_at_10` and `oracle_share` are two_tower's, the default; `deep_mlp` holds the other's.
The plain thresholds can be met by luck (a constant meets the log loss below 20 % CTR), so each figure is also shown as
its lift over a constant, random order and popularity: differences in AUC and precision@10, and the share of the
baseline's log loss that is saved. `oracle_share` is (AUC - 0.5) / (oracle AUC - 0.5) on the same rows. The oracle
knows user, item, time and device, and not the position in the session, which the features don't tell either.
`beats` says of each baseline whether two_tower orders a user's items better (GAUC, NDCG@10) and has a lower log loss,
gradient-boosted trees included.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from benchmarks.prepared import DEFAULT_ROWS, sized_config, write_features
from feedrank import stages
from feedrank.config import Config
from feedrank.config.model import ModelType
from feedrank.evaluation.evaluate import Evaluation, Metrics, evaluate, measure
from feedrank.model.bundle import load_bundle

LIFT_OVER = ("constant", "random", "popularity")
HEADLINE = ("auc", "log_loss", "precision_at_10", "gauc", "ndcg_at_10")
TARGETS = {"auc": "> 0.70", "log_loss": "< 0.5", "precision_at_10": "> 0.15"}
AIM = "aim 0.85"


def trained_scores(model_type: ModelType, *, features: Path, test: pa.Table, folder: Path, config: Config) -> Any:
    """Trains one kind of ranker and scores the test rows."""
    model = config.model.model_copy(update={"model_type": model_type})
    bundle = folder / model_type
    stages.train_ranker(features, output=bundle, config=config.model_copy(update={"model": model}))
    return load_bundle(bundle).score_table(test)


def judge(folder: Path, *, config: Config) -> tuple[Evaluation, dict[str, Metrics]]:
    """The default ranker's evaluation, and the metrics of both."""
    features = write_features(folder, config=config)
    _, train, _, test = stages.load_features(features)
    scores = {
        name: trained_scores(name, features=features, test=test, folder=folder, config=config)
        for name in get_args(ModelType)
    }
    evaluation = evaluate(
        scores[config.model.model_type],
        train=train,
        test=test,
        feed=config.feed,
        config=config.model.evaluation,
        gates=config.model.gates,
        oracle=stages.oracle_scores(config.data.generator, config.feed),
    )
    return evaluation, {name: measure(test, s, config=config.model.evaluation) for name, s in scores.items()}


def headline(metrics: Metrics) -> dict[str, float]:
    """The figures that gates and baselines are compared by."""
    return {name: round(getattr(metrics, name), 4) for name in HEADLINE}


def lift(metrics: Metrics, baseline: Metrics) -> dict[str, float]:
    """Gain over a baseline: differences, and the saved share of the log loss."""
    return {
        "auc": round(metrics.auc - baseline.auc, 4),
        "log_loss_saved": round(1 - metrics.log_loss / baseline.log_loss, 4),
        "precision_at_10": round(metrics.precision_at_10 - baseline.precision_at_10, 4),
    }


def share(metrics: Metrics, oracle: Metrics) -> float:
    """Lift in AUC over chance as a share of the oracle's."""
    return round((metrics.auc - 0.5) / (oracle.auc - 0.5), 4)


def figures(evaluation: Evaluation, rankers: Mapping[str, Metrics]) -> dict[str, Any]:
    """The JSON line."""
    ranker, oracle, baselines = evaluation.ranker, evaluation.oracle, evaluation.baselines
    assert oracle is not None
    return {
        **headline(ranker),
        "oracle_share": share(ranker, oracle),
        "oracle": headline(oracle),
        "lift": {name: lift(ranker, baselines[name]) for name in LIFT_OVER},
        "baselines": {name: headline(metrics) for name, metrics in baselines.items()},
        "beats": {
            name: ranker.orders_better_than(metrics) and ranker.log_loss < metrics.log_loss
            for name, metrics in baselines.items()
        },
        **{name: headline(m) | {"oracle_share": share(m, oracle)} for name, m in rankers.items() if m != ranker},
        "test_rows": ranker.rows,
        "users_at_10": ranker.users_at_10,
    }


def show(evaluation: Evaluation, rankers: Mapping[str, Metrics]) -> None:
    """Prints every predictor, the lifts, and who wins."""
    oracle = evaluation.oracle
    assert oracle is not None
    console = Console(width=110)
    table = Table("predictor", *HEADLINE, "share of the oracle", title="Quality on the test rows")
    for name, metrics in {**evaluation.baselines, **rankers, "oracle": oracle}.items():
        values = (*headline(metrics).values(), share(metrics, oracle))
        table.add_row(name, *(f"{value:.4f}" for value in values))
    table.add_section()
    table.add_row("target", *(TARGETS.get(name, "") for name in HEADLINE), AIM)
    console.print(table)
    lifts = Table("over", "AUC", "log loss saved", "precision@10", title="Lift of the default ranker")
    for name in LIFT_OVER:
        gain = lift(evaluation.ranker, evaluation.baselines[name])
        lifts.add_row(name, f"{gain['auc']:+.4f}", f"{gain['log_loss_saved']:+.1%}", f"{gain['precision_at_10']:+.4f}")
    console.print(lifts)
    for name, better in figures(evaluation, rankers)["beats"].items():
        console.print(f"{'beats' if better else '[bold red]does not beat[/]'} {name} (GAUC, NDCG@10 and log loss)")


def main() -> None:
    """Prints the tables and, as the last line, the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=DEFAULT_ROWS, help="interactions")
    parser.add_argument("--seed", type=int, default=42, help="of the world")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        evaluation, rankers = judge(Path(name), config=sized_config(arguments.rows, seed=arguments.seed))
    show(evaluation, rankers)
    line = figures(evaluation, rankers)
    print(json.dumps({"rows": arguments.rows, "seed": arguments.seed, **line}))


if __name__ == "__main__":
    main()
