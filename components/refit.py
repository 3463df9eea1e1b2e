"""The ranker, fitted again on all rows."""

from typing import Any

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES.train, install_kfp_package=False)
def refit(
    model: dsl.Input[dsl.Model],
    *,
    features: dsl.Input[dsl.Dataset],
    refitted: dsl.Output[dsl.Model],
    config_overrides: dict[str, Any],
) -> None:
    """Same settings, as many epochs as were best: what is served knows the latest day."""
    from pathlib import Path

    from feedrank import stages
    from feedrank.config import load_config
    from feedrank.task_log import say, task

    with task(f"fits {model.path} again on all rows of {features.path}"):
        metadata = stages.refit_ranker(
            Path(model.path),
            Path(features.path),
            output=Path(refitted.path),
            gates=load_config(overrides=config_overrides).model.gates,
            on_epoch=lambda epoch: say(f"epoch {epoch.epoch}: {epoch.seconds:.1f} s"),
        )
        refitted.framework = metadata.model_type
        refitted.metadata.update(model_id=metadata.model_id, data_fingerprint=metadata.data_fingerprint)
        say(metadata.fit_sentence)
