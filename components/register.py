"""A judged ranker in the registry."""

from typing import Any

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES.train, install_kfp_package=False)
def register(
    model: dsl.Input[dsl.Model],
    *,
    evaluation: dsl.Input[dsl.Artifact],
    registration: dsl.Output[dsl.Markdown],
    config_overrides: dict[str, Any],
) -> None:
    """The gates decide here: a model that misses one is recorded in the registry without an alias."""
    from pathlib import Path

    from feedrank import stages
    from feedrank.config import load_config
    from feedrank.task_log import say, task

    with task(f"registers {model.path}"):
        config = load_config(overrides=config_overrides).model
        registered = stages.register_ranker(Path(model.path), Path(evaluation.path), config=config)
        registration.metadata.update(model_version=registered.model_version, number=registered.number)
        Path(registration.path).write_text(registered.markdown(config.registry.model_name), encoding="utf-8")
        say(f"registered {registered.model_version}, aliases: {', '.join(registered.aliases) or 'none'}")
