"""The rows that a retraining learns from: recent days and a replay of older ones."""

from typing import Any

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES.data, install_kfp_package=False)
def choose_window(
    history: dsl.Input[dsl.Dataset],
    *,
    window: dsl.Output[dsl.Dataset],
    config_overrides: dict[str, Any],
) -> None:
    """Takes the features of the whole history and keeps their snapshot."""
    from pathlib import Path

    from feedrank.config import load_config
    from feedrank.promotion import window as windows
    from feedrank.task_log import say, task

    with task(f"chooses recent rows and a replay out of {history.path}"):
        summary = windows.choose_window(
            Path(history.path), output=Path(window.path), config=load_config(overrides=config_overrides)
        )
        window.metadata.update(summary.model_dump(mode="json", exclude={"output"}))
        say(f"{summary.rows:,} rows from {summary.start} to {summary.end}")
