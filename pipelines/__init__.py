"""The Kubeflow pipelines by name."""

from kfp.dsl.base_component import BaseComponent

from pipelines.automated_retraining import automated_retraining
from pipelines.etl_and_feature_engineering import etl_and_feature_engineering
from pipelines.model_training import model_training
from pipelines.monitoring_and_drift_detection import monitoring_and_drift_detection

PIPELINES: dict[str, BaseComponent] = {
    "etl_and_feature_engineering": etl_and_feature_engineering,
    "model_training": model_training,
    "monitoring_and_drift_detection": monitoring_and_drift_detection,
    "automated_retraining": automated_retraining,
}
