"""The feature table with its temporal split and the online snapshot."""

from typing import Any

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES.data, install_kfp_package=False)
def compute_features(
    validated: dsl.Input[dsl.Dataset],
    *,
    features: dsl.Output[dsl.Dataset],
    config_overrides: dict[str, Any],
) -> None:
    """Reads the clean rows of `validated`."""
    from pathlib import Path

    from feedrank import stages
    from feedrank.config import load_config
    from feedrank.task_log import say, task

    with task(f"computes the features of {validated.path}"):
        summary = stages.build_features(
            Path(validated.path) / "clean",
            output=Path(features.path),
            config=load_config(overrides=config_overrides),
        )
        features.metadata.update(summary.model_dump(mode="json", exclude={"output"}))
        say(f"features of {summary.rows:,} rows from {summary.start} to {summary.end}")
