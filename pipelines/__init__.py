"""The Kubeflow pipelines by name."""

from kfp.dsl.base_component import BaseComponent

from pipelines.etl_and_feature_engineering import etl_and_feature_engineering
from pipelines.model_training import model_training

PIPELINES: dict[str, BaseComponent] = {
    "etl_and_feature_engineering": etl_and_feature_engineering,
    "model_training": model_training,
}
