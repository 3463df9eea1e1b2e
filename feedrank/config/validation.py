"""The `validation` section of `data_config.yaml`."""

from feedrank.config.base import Section


class ValidationConfig(Section):
    """What a batch of interactions must satisfy."""
