"""Every week, or when the monitor asks: recent data to a new model, and the better one is served."""

from typing import Any

from kfp import dsl

from components.check_trigger import check_trigger
from components.choose_window import choose_window
from components.generate_or_ingest import generate_or_ingest
from components.promote import promote
from pipelines.steps import configured, feature_steps, training_steps


@dsl.pipeline(
    name="automated-retraining",
    display_name="Automated retraining",
    description="Check the trigger, fetch data, ETL, train, evaluate, compare with the champion, promote if better.",
)
def automated_retraining(
    monitoring_directory: str,
    input_paths: list[str] = [],  # noqa: B006 - KFP takes the default into the compiled pipeline
    mapping: str = "",
    trigger: dict[str, Any] = {},  # noqa: B006
    config_overrides: dict[str, Any] = {},  # noqa: B006
) -> None:
    """Interactions to a challenger, and perhaps to a new champion.

    Args:
        monitoring_directory: where the monitor keeps its history and the record of retrainings.
        input_paths: files, folders, globs or addresses of all interactions; synthetic ones are generated if empty.
        mapping: how their columns map to ours, the YAML text of a mapping file.
        trigger: the monitor's decision; without one the run was scheduled, and the record decides.
        config_overrides: dotted configuration keys with their values, e.g. {"model.training.epochs": 3}.
    """
    check = check_trigger(trigger=trigger, monitoring_directory=monitoring_directory, config_overrides=config_overrides)
    configured(check, "Check trigger", stage="train", cached=False)
    with dsl.If(check.outputs["Output"] == True, name="Retraining"):  # noqa: E712 - KFP compiles the comparison
        source = generate_or_ingest(
            input_paths=input_paths, mapping=mapping, data_date="", config_overrides=config_overrides
        )
        configured(source, "Fetch recent data", stage="data", cached=False)
        validation, history = feature_steps(
            source.outputs["interactions"], drift_expected=True, config_overrides=config_overrides
        )
        chosen = choose_window(history=history.outputs["features"], config_overrides=config_overrides)
        configured(chosen, "Choose recent rows and replay", stage="data")
        training, evaluation, registration = training_steps(
            chosen.outputs["window"], synthetic=False, config_overrides=config_overrides
        )
        promotion = promote(
            evaluated=training.outputs["model"],
            evaluation=evaluation.outputs["evaluation"],
            registration=registration.outputs["registration"],
            validated=validation.outputs["validated"],
            features=chosen.outputs["window"],
            trigger=check.outputs["trigger"],
            monitoring_directory=monitoring_directory,
            config_overrides=config_overrides,
        )
        configured(promotion, "Compare with production, promote if better", stage="train", cached=False)
