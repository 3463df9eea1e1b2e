"""Drift, performance, alerts and the trigger of a retraining."""

from typing import Any, NamedTuple

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES.monitor, install_kfp_package=False)
def monitor(
    reference: dsl.Input[dsl.Artifact],
    *,
    monitoring_metrics: dsl.Output[dsl.Metrics],
    monitoring_report: dsl.Output[dsl.HTML],
    predictions: str,
    feedback: str,
    monitoring_directory: str,
    at: str,
    start_retraining: bool,
    config_overrides: dict[str, Any],
) -> NamedTuple(  # type: ignore[valid-type]
    "Outputs", [("Output", bool), ("trigger", dict[str, Any]), ("judged", bool), ("verdict", str)]
):
    """The same run as `feedrank monitor`; it decides on a retraining, which the pipeline then starts.

    It succeeds when there are too few data to judge, too: what follows must `require` that it `judged`.

    Whether it starts one is called `Output` because kfp.local (2.17) finds no output of another name in a condition,
    and then takes it as false.
    """
    import shutil
    from datetime import UTC, datetime
    from pathlib import Path

    from feedrank.config import load_config
    from feedrank.errors import ConfigError
    from feedrank.monitoring.rows import Sources
    from feedrank.monitoring.run import monitor as run_monitor
    from feedrank.monitoring.triggers import NOT_STARTED, RetrainingLog
    from feedrank.task_log import say, task

    with task(f"judges the predictions in {predictions} by the feedback in {feedback}"):
        config, output = load_config(overrides=config_overrides).monitoring, Path(monitoring_directory)
        now = datetime.fromisoformat(at) if at else datetime.now(UTC)
        if now.tzinfo is None:
            raise ConfigError(f"at is {at}, a time without a zone; write {at}Z for UTC")
        result = run_monitor(
            reference_directory=Path(reference.path),
            sources=Sources(predictions, feedback),
            output=output,
            config=config,
            now=now,
        )
        shutil.copyfile(result.report, monitoring_report.path)
        monitoring_metrics.log_metric("alarms", len(result.alarms))
        monitoring_metrics.log_metric("predictions", result.latest.predictions)
        say(result.headline)
        trigger = result.trigger
        if trigger.start and not start_retraining:
            RetrainingLog(output, config=config.retraining).finish(trigger.request_id, outcome=NOT_STARTED, now=now)
        judged = result.verdict != "not_enough_data"
        return trigger.start and start_retraining, trigger.model_dump(mode="json"), judged, result.headline
