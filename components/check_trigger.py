"""Whether a retraining may start: at most one at a time, and not within the cool-down."""

from typing import Any, NamedTuple

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES.train, install_kfp_package=False)
def check_trigger(
    trigger: dict[str, Any],
    *,
    monitoring_directory: str,
    config_overrides: dict[str, Any],
) -> NamedTuple("Outputs", [("Output", bool), ("trigger", dict[str, Any])]):  # type: ignore[valid-type]
    """Takes over the decision that the monitor made and recorded; a scheduled run makes its own.

    The verdict is called `Output` for the reason that `monitor` gives.
    """
    from datetime import UTC, datetime
    from pathlib import Path

    from feedrank.config import load_config
    from feedrank.monitoring.results import TriggerDecision
    from feedrank.monitoring.triggers import RetrainingLog
    from feedrank.task_log import say, task

    with task("checks " + ("the given trigger" if trigger else "whether a scheduled retraining may start")):
        if trigger:
            decision = TriggerDecision.model_validate(trigger)
        else:
            config = load_config(overrides=config_overrides).monitoring.retraining
            decision = RetrainingLog(Path(monitoring_directory), config=config).decide(
                ["it was scheduled"], now=datetime.now(UTC)
            )
        say(f"retraining because {'; '.join(decision.reasons)}" if decision.start else decision.refused_because)
        return decision.start, decision.model_dump(mode="json")
