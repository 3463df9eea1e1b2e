"""`config/serving_config.yaml`: limits, reloading and the prediction log of the predictor."""

from feedrank.config.base import Section


class ServingConfig(Section):
    """The whole of `serving_config.yaml`."""
