"""Interactions to features, every night; then a model from them."""

from typing import Any

from kfp import dsl

from components.generate_or_ingest import generate_or_ingest
from pipelines.steps import configured, feature_steps, gated_training_steps


@dsl.pipeline(
    name="etl-and-feature-engineering",
    display_name="ETL and feature engineering",
    description="Ingest (or generate) interactions, validate them, compute features; then train on success.",
)
def etl_and_feature_engineering(
    input_paths: list[str] = [],  # noqa: B006 - KFP takes the default into the compiled pipeline
    mapping: str = "",
    data_date: str = "",
    start_training: bool = True,
    config_overrides: dict[str, Any] = {},  # noqa: B006
) -> None:
    """Interactions to features, then (if `start_training`) to a registered model.

    Args:
        input_paths: files, folders, globs or addresses of interactions; synthetic ones are generated if empty.
        mapping: how their columns map to ours, the YAML text of a mapping file.
        data_date: the last day (YYYY-MM-DD) whose interactions count, for a backfill; all of them if empty.
        start_training: train, evaluate and register a model on the features.
        config_overrides: dotted configuration keys with their values, e.g. {"model.training.epochs": 3}.
    """
    source = generate_or_ingest(
        input_paths=input_paths, mapping=mapping, data_date=data_date, config_overrides=config_overrides
    )
    configured(source, "Generate or ingest interactions", stage="data", cached=False)
    _, features = feature_steps(source.outputs["interactions"], drift_expected=False, config_overrides=config_overrides)
    with dsl.If(start_training == True, name="Model training"):  # noqa: E712 - KFP compiles the comparison
        gated_training_steps(
            features.outputs["features"], synthetic=source.outputs["synthetic"], config_overrides=config_overrides
        )
