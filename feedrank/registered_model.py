"""A version of the ranker as the registry knows it, and the version number that follows another."""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from feedrank.errors import RegistryError
from feedrank.model.bundle import ModelMetadata

VERSION_TAG = "model_version"
"""Tag of a registered version: the version of spec 2.7, beside MLflow's own running number."""
METADATA_TAG = "metadata"
VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True)
class RegisteredModel:
    """A version in the registry."""

    number: int
    model_version: str
    """Empty for a version that somebody made in MLflow itself."""
    run_id: str
    passed_gates: bool
    aliases: tuple[str, ...]
    metadata: ModelMetadata | None = field(compare=False)
    """None for a version that somebody made in MLflow itself."""

    def foreign(self, model_name: str) -> str:
        """What is to say of a version that somebody made in MLflow itself."""
        return f"version {self.number} of {model_name} was not registered by feedrank and is left out"

    def markdown(self, model_name: str) -> str:
        """One line about it for a pipeline's page."""
        gates = "passed its gates" if self.passed_gates else "**missed a gate**"
        aliases = ", ".join(f"`{alias}`" for alias in self.aliases) or "none"
        return f"`{model_name}` **{self.model_version}** {gates}; aliases: {aliases}; MLflow run `{self.run_id}`\n"


def next_version(previous: ModelMetadata | None, current: ModelMetadata) -> str:
    """The version that follows `previous`: major for other features (schema or constants), minor for another
    architecture or configuration, patch for a retraining (spec 2.7)."""
    if previous is None:
        return "v1.0.0"
    match = VERSION.fullmatch(previous.model_version)
    if match is None:
        raise RegistryError(f"model version '{previous.model_version}' is not of the form v1.2.3; correct its tag")
    major, minor, patch = map(int, match.groups())
    if previous.feature_fingerprint != current.feature_fingerprint:
        return f"v{major + 1}.0.0"
    if previous.config_fingerprint != current.config_fingerprint:
        return f"v{major}.{minor + 1}.0"
    return f"v{major}.{minor}.{patch + 1}"


def registered(version: Any, aliases: Sequence[str]) -> RegisteredModel:
    """A version as MLflow describes it; without valid tags of ours it is somebody else's."""
    metadata = None
    with contextlib.suppress(ValidationError):
        metadata = ModelMetadata.model_validate_json(version.tags.get(METADATA_TAG, ""))
    ours = metadata is not None and VERSION.fullmatch(version.tags.get(VERSION_TAG, "")) is not None
    return RegisteredModel(
        number=int(version.version),
        model_version=version.tags[VERSION_TAG] if ours else "",
        run_id=version.run_id or "",
        passed_gates=version.tags.get("passed_gates") == "true",
        aliases=tuple(aliases),
        metadata=metadata if ours else None,
    )
