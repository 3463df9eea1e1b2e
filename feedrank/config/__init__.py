"""One validated configuration tree, read from `config/*.yaml` and overridden by the environment.

`FEEDRANK__MODEL__TRAINING__EPOCHS=3` overrides `training.epochs` of `model_config.yaml`; values are read as YAML, but
for a key that holds text they are that text, be it `123`, `off` or `::` (`null` or nothing unsets an optional one).
`FEEDRANK_CONFIG_DIR` names another folder than `config/`. A pipeline run overrides keys by its parameter
`config_overrides`, e.g. `{"model.training.epochs": 3}`; it wins over the environment.
"""

import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError, model_validator

from feedrank.config.base import Section
from feedrank.config.data import DataConfig
from feedrank.config.feed import Feed
from feedrank.config.model import ModelConfig
from feedrank.config.monitoring import MonitoringConfig
from feedrank.config.pipelines import PipelinesConfig
from feedrank.config.promotion import PromotionConfig
from feedrank.config.serving import ServingConfig
from feedrank.config.simulation import SimulationConfig
from feedrank.config.sizes import SIZES, other_than_sizes
from feedrank.config.text import parsed
from feedrank.config.upkeep import UpkeepConfig
from feedrank.errors import ConfigError

ENV_PREFIX = "FEEDRANK__"

__all__ = [
    "Config",
    "DataConfig",
    "Feed",
    "ModelConfig",
    "MonitoringConfig",
    "PipelinesConfig",
    "PromotionConfig",
    "ServingConfig",
    "SimulationConfig",
    "UpkeepConfig",
    "config_dir",
    "load_config",
]


class Config(Section):
    """The whole configuration; each field is one file (`file_name`)."""

    feed: Feed = Feed()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    serving: ServingConfig = ServingConfig()
    pipelines: PipelinesConfig = PipelinesConfig()
    promotion: PromotionConfig = PromotionConfig()
    simulation: SimulationConfig = SimulationConfig()
    upkeep: UpkeepConfig = UpkeepConfig()

    @model_validator(mode="after")
    def _thresholds_of_features(self) -> "Config":
        if unknown := sorted({*self.monitoring.drift.thresholds} - {*self.feed.names}):
            raise ValueError(
                f"monitoring.drift.thresholds: unknown feature {', '.join(unknown)}; feed.yaml declares "
                f"{', '.join(self.feed.names)}"
            )
        return self

    def resized(self, sizes: Mapping[str, Any]) -> "Config":
        """The same with other sizes, by dotted keys such as `model.embedding_dim`.

        Raises:
            ConfigError: a key is no size.
        """
        if others := other_than_sizes(sizes):
            raise ConfigError(f"{others[0]}: no size; feedrank/config/sizes.py has them: {', '.join(SIZES)}")
        tree = self.model_dump()
        for key, value in sizes.items():
            _override(tree, tuple(key.split(".")), value, source=key)
        return Config.model_validate(tree)


def file_name(field: str) -> str:
    """The file of a field of `Config`, in the configuration's folder."""
    return "feed.yaml" if field == "feed" else f"{field}_config.yaml"


def config_dir() -> Path:
    """The folder of the configuration files."""
    return Path(os.environ.get("FEEDRANK_CONFIG_DIR", "config"))


def load_config(
    directory: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    source: str = "config_overrides",
) -> Config:
    """Reads and validates the configuration; a missing file means its defaults.

    `overrides` maps dotted keys, such as `data.generator.seed`, to values; `source` says in errors where they are from.

    Raises:
        ConfigError: names the file (or the environment variable), the key and what is expected.
    """
    directory = config_dir() if directory is None else directory
    environ = os.environ if environ is None else environ
    if not directory.is_dir():
        raise ConfigError(f"{directory}: no such configuration folder; run from the project or set FEEDRANK_CONFIG_DIR")
    tree = {name: _read_file(directory / file_name(name)) for name in Config.model_fields}
    overridden = _apply_environment(tree, environ)
    for name, value in (overrides or {}).items():
        _override(tree, tuple(name.split(".")), value, source=name)
        overridden[tuple(name.split("."))] = f"{source}: {name}"
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_describe(error, directory, overridden)) from error


def _read_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: can't be read ({error}); write it as UTF-8 text") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values, got {type(content).__name__}")
    return content


def _apply_environment(tree: dict[str, Any], environ: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    overridden: dict[tuple[str, ...], str] = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(ENV_PREFIX):
            continue
        keys = tuple(variable[len(ENV_PREFIX) :].lower().split("__"))
        try:
            _override(tree, keys, parsed(text, _type_of(keys)), source=variable)
        except yaml.YAMLError as error:
            raise ConfigError(f"{variable}: not a valid YAML value: {error}") from error
        overridden[keys] = variable
    return overridden


def _type_of(keys: tuple[str, ...]) -> Any:
    """The annotation of a key; None if there is no such key."""
    node: Any = Config
    for key in keys:
        section = isinstance(node, type) and issubclass(node, BaseModel)
        node = node.model_fields[key].annotation if section and key in node.model_fields else None
    return node


def _override(tree: dict[str, Any], keys: tuple[str, ...], value: Any, *, source: str) -> None:
    node = tree
    for key in keys[:-1]:
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{source}: '{key}' is a value, not a section")
        node = child
    node[keys[-1]] = value


def _describe(error: ValidationError, directory: Path, overridden: Mapping[tuple[str, ...], str]) -> str:
    lines = []
    for problem in error.errors():
        location = tuple(str(part) for part in problem["loc"])
        if not location:  # files that do not agree
            lines.append(f"{directory}: {problem['msg'].removeprefix('Value error, ')}")
            continue
        source = next((v for k, v in overridden.items() if k == location[: len(k)]), None)
        source = source or str(directory / file_name(location[0]))
        key = ".".join(location[1:]) or location[0]
        message = "unknown key" if problem["type"] == "extra_forbidden" else problem["msg"]
        if problem["type"] == "string_type" and isinstance(problem["input"], bool | int | float | date):
            message += "; quote it, YAML reads it as something else"
        value = "" if problem["type"] in ("extra_forbidden", "missing") else f" (got {problem['input']!r})"
        lines.append(f"{source}: {key}: {message}{value}")
    return "; ".join(lines)
