"""The parts of the project beside the library, which know KFP and Kubernetes: loaded only where they are asked for."""

import importlib
import sys
from pathlib import Path
from typing import Any

from feedrank.errors import ConfigError


def project_module(name: str) -> Any:
    """A module of the checkout that the command runs in, or of the image; only `feedrank` itself is installed.

    Raises:
        ConfigError: it is not there, or needs a package that is not.
    """
    sys.path.append(str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"module {error.name} is missing; run from the project's folder, with the extra `pipelines`"
        ) from error
