"""A model from features that an earlier run computed."""

from typing import Any

from kfp import dsl

from pipelines.steps import gated_training_steps


@dsl.pipeline(
    name="model-training",
    display_name="Model training",
    description="Load features, train, evaluate, log to MLflow, register.",
)
def model_training(
    features_uri: str,
    synthetic: bool = False,
    config_overrides: dict[str, Any] = {},  # noqa: B006 - KFP takes the default into the compiled pipeline
) -> None:
    """Features to a registered model.

    Args:
        features_uri: where a run of `etl_and_feature_engineering` left its artifact `features`.
        synthetic: the interactions were generated with the configuration at hand, so the truth is known.
        config_overrides: dotted configuration keys with their values, e.g. {"model.training.epochs": 3}.
    """
    # Imported anew each time: the same address may hold other features by now, and caching goes by the artifact.
    features = dsl.importer(artifact_uri=features_uri, artifact_class=dsl.Dataset, reimport=True)
    # No display name: on a server the driver of the next task looks for the importer by its plain name, and fails.
    gated_training_steps(features.output, synthetic=synthetic, config_overrides=config_overrides)
