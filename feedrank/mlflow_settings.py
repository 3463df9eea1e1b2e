"""Our defaults for the settings of MLflow's client, which it reads from the environment."""

import os

DEFAULTS = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # for some small files
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # what MLflow does to its database is not for those who asked for a model
    # Through the server, always: who reaches MLflow need not reach, or have a key of, its S3.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}


def set_defaults() -> None:
    """Sets what the environment doesn't; before MLflow is used."""
    for variable, value in DEFAULTS.items():
        os.environ.setdefault(variable, value)
