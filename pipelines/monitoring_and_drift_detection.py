"""Every morning: is the champion still as good as it was; if not, people are told and a retraining starts."""

from typing import Any

from kfp import dsl

from components.load_reference import load_reference
from components.monitor import monitor
from pipelines.automated_retraining import automated_retraining
from pipelines.steps import configured, required


@dsl.pipeline(
    name="monitoring-and-drift-detection",
    display_name="Monitoring and drift detection",
    description="Load the champion's reference, judge recent predictions, alert; retrain if a trigger fires.",
)
def monitoring_and_drift_detection(  # noqa: PLR0917 - KFP passes them by position
    predictions: str,
    feedback: str,
    monitoring_directory: str,
    input_paths: list[str],
    mapping: str = "",
    at: str = "",
    start_retraining: bool = True,
    config_overrides: dict[str, Any] = {},  # noqa: B006 - KFP takes the default into the compiled pipeline
) -> None:
    """The prediction log and its feedback to a verdict.

    Args:
        predictions: folder of the prediction log.
        feedback: folder of the interactions.
        monitoring_directory: where the monitor keeps its history and the record of retrainings.
        input_paths: files, folders, globs or addresses of all interactions, for a retraining.
        mapping: how their columns map to ours, the YAML text of a mapping file.
        at: the time to judge at, ISO 8601 with a zone; now if empty.
        start_retraining: run `automated_retraining` when a trigger fires.
        config_overrides: dotted configuration keys with their values.
    """
    reference = load_reference(monitoring_directory=monitoring_directory, config_overrides=config_overrides)
    configured(reference, "Load reference", stage="monitor", cached=False)
    verdict = monitor(
        reference=reference.outputs["reference"],
        predictions=predictions,
        feedback=feedback,
        monitoring_directory=monitoring_directory,
        at=at,
        start_retraining=start_retraining,
        config_overrides=config_overrides,
    )
    configured(verdict, "Detect drift, measure performance, alert", stage="monitor", cached=False)
    required(verdict, "judged", "Stop if there were too few data to judge")
    with dsl.If(verdict.outputs["Output"] == True, name="Retraining"):  # noqa: E712 - KFP compiles the comparison
        automated_retraining(
            monitoring_directory=monitoring_directory,
            input_paths=input_paths,
            mapping=mapping,
            trigger=verdict.outputs["trigger"],
            config_overrides=config_overrides,
        )
