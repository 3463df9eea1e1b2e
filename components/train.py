"""A ranker from features."""

from typing import Any

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES.train, install_kfp_package=False)
def train(
    features: dsl.Input[dsl.Dataset],
    *,
    model: dsl.Output[dsl.Model],
    training_metrics: dsl.Output[dsl.Metrics],
    config_overrides: dict[str, Any],
) -> None:
    """Writes the model bundle; the metrics are those of the last epoch."""
    from pathlib import Path

    from feedrank import stages
    from feedrank.config import load_config
    from feedrank.task_log import say, task

    def on_epoch(epoch: Any) -> None:
        for name, value in epoch.model_dump().items():
            training_metrics.log_metric(name, value)
        say(
            f"epoch {epoch.epoch}: validation loss {epoch.validation_loss:.4f}, AUC {epoch.validation_auc:.4f}, "
            f"{epoch.seconds:.1f} s"
        )

    with task(f"trains on {features.path}"):
        metadata = stages.train_ranker(
            Path(features.path),
            output=Path(model.path),
            config=load_config(overrides=config_overrides),
            on_epoch=on_epoch,
        )
        model.framework = metadata.model_type
        model.metadata.update(metadata.model_dump(mode="json", exclude={"metrics", "training_data_date_range"}))
        days = metadata.training_data_date_range
        say(f"trained a {metadata.model_type} on {days.start} to {days.end}")
