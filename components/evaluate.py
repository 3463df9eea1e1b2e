"""The judgement of a ranker on the test rows."""

from typing import Any, NamedTuple

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES.train, install_kfp_package=False)
def evaluate(
    model: dsl.Input[dsl.Model],
    *,
    features: dsl.Input[dsl.Dataset],
    evaluation: dsl.Output[dsl.Artifact],
    evaluation_metrics: dsl.Output[dsl.Metrics],
    roc_curve: dsl.Output[dsl.ClassificationMetrics],
    evaluation_report: dsl.Output[dsl.HTML],
    synthetic: bool,
    config_overrides: dict[str, Any],
) -> NamedTuple("Outputs", [("passed", bool), ("verdict", str)]):  # type: ignore[valid-type]
    """Compares with the baselines, and with the generator's truth where the interactions are synthetic.

    It succeeds when the ranker misses its gates, too: what follows may `require` that it passed.
    """
    import math
    import shutil
    from pathlib import Path

    from feedrank import stages
    from feedrank.config import load_config
    from feedrank.task_log import say, task

    with task(f"judges {model.path} on the test rows of {features.path}"):
        config = load_config(overrides=config_overrides)
        judged = stages.evaluate_ranker(
            Path(model.path),
            Path(features.path),
            output=Path(evaluation.path),
            config=config.model,
            truth=config.data.generator if synthetic else None,
            on_step=say,
        )
        shutil.copyfile(Path(evaluation.path) / "report.html", evaluation_report.path)
        for name, value in judged.ranker.model_dump().items():
            if math.isfinite(value):
                evaluation_metrics.log_metric(name, value)
        roc_curve.log_roc_curve(**judged.roc.model_dump())
        missed = [f"{gate.name} {gate.value:.4f} (limit {gate.limit:g})" for gate in judged.gates if not gate.passed]
        evaluation_metrics.log_metric("gates_missed", len(missed))
        verdict = f"the model missed its gates: {', '.join(missed)}" if missed else "all gates passed"
        say(f"AUC {judged.ranker.auc:.4f}, {verdict}")
        return judged.passed, verdict
