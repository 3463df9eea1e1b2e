"""The judgement of a ranker on the test rows."""

from typing import Any

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
) -> None:
    """Compares with the baselines, and with the generator's truth where the interactions are synthetic."""
    import math
    import shutil
    from pathlib import Path

    from feedrank import stages
    from feedrank.config import load_config

    config = load_config(overrides=config_overrides)
    judged = stages.evaluate_ranker(
        Path(model.path),
        Path(features.path),
        output=Path(evaluation.path),
        config=config.model,
        truth=config.data.generator if synthetic else None,
        on_step=stages.say,
    )
    shutil.copyfile(Path(evaluation.path) / "report.html", evaluation_report.path)
    for name, value in judged.ranker.model_dump().items():
        if math.isfinite(value):
            evaluation_metrics.log_metric(name, value)
    roc_curve.log_roc_curve(**judged.roc.model_dump())
    stages.say(f"AUC {judged.ranker.auc:.4f}, gates {'passed' if judged.passed else 'missed'}")
