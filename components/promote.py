"""The better of champion and challenger."""

from typing import Any

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES.train, install_kfp_package=False)
def promote(
    registration: dsl.Input[dsl.Markdown],
    *,
    evaluated: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    validated: dsl.Input[dsl.Dataset],
    features: dsl.Input[dsl.Dataset],
    decision: dsl.Output[dsl.Markdown],
    comparison_metrics: dsl.Output[dsl.Metrics],
    trigger: dict[str, Any],
    monitoring_directory: str,
    config_overrides: dict[str, Any],
) -> None:
    """Compares on the test rows, promotes the challenger if it is better, and records the end of the retraining."""
    from datetime import UTC, datetime
    from pathlib import Path

    from feedrank.config import load_config
    from feedrank.monitoring.results import TriggerDecision
    from feedrank.monitoring.triggers import SUCCEEDED, RetrainingLog
    from feedrank.promotion.retrain import promote_if_better
    from feedrank.promotion.served import configured_promoter
    from feedrank.task_log import say, task

    with task(f"compares {registration.metadata['model_version']} with the champion on {features.path}"):
        config = load_config(overrides=config_overrides)
        promoter = configured_promoter(config)
        request = TriggerDecision.model_validate(trigger)
        result = promote_if_better(
            promoter.registry.version(int(registration.metadata["number"])),
            evaluated=Path(evaluated.path),
            evaluation=Path(evaluation.path),
            trigger=request,
            interactions=Path(validated.path) / "clean",
            features=Path(features.path),
            config=config,
            promoter=promoter,
            now=datetime.now(UTC),
        )
        record = RetrainingLog(Path(monitoring_directory), config=config.monitoring.retraining)
        record.finish(request.request_id, outcome=SUCCEEDED, now=datetime.now(UTC))
        Path(decision.path).write_text(result.decision.markdown(), encoding="utf-8")
        if result.decision.gain is not None:
            comparison_metrics.log_metric("auc_gain", result.decision.gain.auc.estimate)
            comparison_metrics.log_metric("log_loss_gain", result.decision.gain.log_loss.estimate)
        say(f"{'promoted' if result.promoted else 'not promoted'}: {'; '.join(result.decision.reasons)}")
