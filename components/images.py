"""The images that the components run in: the one place that names them is `config/pipelines_config.yaml`."""

from feedrank.config import load_config

IMAGES = load_config().pipelines.images
