"""Where the champion is served: one interface, and its local implementation, a link to a folder.

`serving/kserve_target.py` is the one for Kubernetes.

DIRECTORY/versions/v1.2.3/   bundles, verified when they were copied
DIRECTORY/current            link to the served one; the predictor follows it
"""

import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from feedrank import storage
from feedrank.config.promotion import TargetConfig
from feedrank.errors import BundleError
from feedrank.model.bundle import ARRAYS_FOLDER, ITEM_IDS, METADATA_FILE, USER_IDS, ModelMetadata, verify
from feedrank.promotion.changes import PromotionError, Version

SMOKE_ITEMS = 10
POLL_SECONDS = 0.1
UNUSABLE_MODEL = 409
"""Status of a reload that can't be done."""


class NotServedError(PromotionError):
    """The predictor answers, but not (properly) with the wanted version."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """Of its answer, if it was no success."""


class UnreachableError(PromotionError):
    """The predictor did not answer at all."""


class ServingTarget(Protocol):
    """A place that serves exactly one version. Every method may be called again after a crash."""

    def current_version(self) -> str | None:
        """The version that is served (or will be once the predictor follows); None if nothing is."""
        ...

    def current_bundle(self) -> Path | None:
        """The folder of the served bundle, if it is within reach here."""
        ...

    def has(self, version: Version) -> bool:
        """Whether a version was staged, completely."""
        ...

    def stage(self, bundle: Path, version: Version) -> None:
        """Copies a bundle to where it can be served from, and verifies the copy; what is served stays.

        Raises:
            FeedrankError: the bundle is damaged, or can't be copied.
        """
        ...

    def renew(self, model_version: str) -> None:
        """Takes over what has changed in the folder of a staged version."""
        ...

    def switch(self, model_version: str | None) -> None:
        """Makes a staged version (None: nothing) the served one, all or nothing."""
        ...

    def smoke(self, model_version: str) -> None:
        """Waits until the version answers requests.

        Raises:
            NotServedError, UnreachableError: it does not by the deadline.
        """
        ...


@dataclass(frozen=True)
class VersionFolders:
    """Staged bundles, a folder for each version."""

    directory: Path

    def folder(self, model_version: str) -> Path:
        """Where a version is, or would be."""
        return self.directory / model_version

    def has(self, version: Version) -> bool:
        """See `ServingTarget`."""
        try:
            verify(self.folder(version.model_version))
        except (BundleError, OSError):
            return False
        return self._run_of(version.model_version) == version.run_id

    def _run_of(self, model_version: str) -> str | None:
        """The MLflow run of the model that is there; None if none is, or it can't be read."""
        try:
            text = (self.folder(model_version) / METADATA_FILE).read_text(encoding="utf-8")
            return ModelMetadata.model_validate_json(text).mlflow_run_id
        except (OSError, ValueError):
            return None

    def stage(self, bundle: Path, version: Version) -> None:
        """See `ServingTarget`. The folder of another registration, which may be served, is never replaced."""
        if (other := self._run_of(version.model_version)) not in (None, version.run_id):
            raise BundleError(
                f"{self.folder(version.model_version)}: holds another model of that version (MLflow run {other}, not "
                f"{version.run_id}); if it is not served, delete the folder and try again"
            )
        with storage.new_directory(self.folder(version.model_version)) as fresh:
            shutil.copytree(bundle, fresh, dirs_exist_ok=True)
            verify(fresh)

    def smoke_request(self, model_version: str) -> dict[str, Any]:
        """A request for a user and items that a staged model knows."""
        arrays = self.folder(model_version) / ARRAYS_FOLDER
        users, items = (np.load(arrays / f"{name}.npy", mmap_mode="r") for name in (USER_IDS, ITEM_IDS))
        return {"user_id": int(users[0]) if len(users) else 0, "item_ids": items[:SMOKE_ITEMS].tolist() or [0]}


@dataclass(frozen=True)
class LocalTarget:
    """A folder of versions and the link to the served one."""

    config: TargetConfig

    @property
    def folders(self) -> VersionFolders:
        """The staged bundles."""
        return VersionFolders(self.config.directory / "versions")

    @property
    def link(self) -> Path:
        """What the predictor is started with."""
        return self.config.directory / "current"

    def current_version(self) -> str | None:
        """See `ServingTarget`."""
        if self.link.is_symlink():
            return self.link.readlink().name
        if self.link.exists():
            raise PromotionError(f"{self.link}: is no link, so it can't be switched; move it away, then promote again")
        return None

    def current_bundle(self) -> Path | None:
        """See `ServingTarget`."""
        return None if self.current_version() is None else self.link.resolve()

    def has(self, version: Version) -> bool:
        """See `ServingTarget`."""
        return self.folders.has(version)

    def stage(self, bundle: Path, version: Version) -> None:
        """See `ServingTarget`."""
        self.folders.stage(bundle, version)

    def renew(self, model_version: str) -> None:
        """See `ServingTarget`. The predictor follows by itself."""

    def switch(self, model_version: str | None) -> None:
        """See `ServingTarget`."""
        if model_version is None:
            self.link.unlink(missing_ok=True)
            return
        if not self.folders.folder(model_version).is_dir():
            raise PromotionError(f"{self.folders.folder(model_version)}: no such version; stage it first")
        storage.point_link(self.link, Path("versions") / model_version)

    def smoke(self, model_version: str) -> None:
        """See `ServingTarget`."""
        if not self.config.url:
            return
        predictor = Predictor(self.config)
        deadline = time.monotonic() + self.config.deadline_seconds
        predictor.ask_to_reload(self.config.deadline_seconds)
        predictor.wait_for(model_version, self.folders.smoke_request(model_version), deadline)


@dataclass(frozen=True)
class Predictor:
    """The HTTP side of the predictor."""

    config: TargetConfig

    def ask_to_reload(self, timeout_seconds: float) -> None:
        """Makes it look at the link now instead of at its next poll, if it lets us.

        Raises:
            NotServedError: it can't use the model.
        """
        try:
            self._call("POST", "/admin/reload", {}, timeout_seconds=timeout_seconds)
        except NotServedError as refused:
            if refused.status == UNUSABLE_MODEL:
                raise
        except UnreachableError:
            pass  # it may be starting; the deadline is the judge

    def wait_for(self, model_version: str, request: dict[str, Any], deadline: float) -> None:
        """Returns when enough answers in a row came from the version.

        Raises:
            NotServedError, UnreachableError: that was not so by the deadline, a time of `time.monotonic`.
        """
        in_a_row = 0
        while in_a_row < self.config.smoke_requests:
            try:
                self.check(model_version, request)
                in_a_row += 1
            except PromotionError:
                in_a_row = 0
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)

    def check(self, model_version: str, request: dict[str, Any]) -> None:
        """One look at /health and one ranking.

        Raises:
            NotServedError, UnreachableError: the version did not answer.
        """
        health = self._call("GET", "/health", None)
        answer = self._call("POST", "/predict", request)
        versions = {health.get("model_version"), answer.get("model_version")}
        if versions != {model_version}:
            raise NotServedError(f"{self.config.url} answers with {' and '.join(map(str, versions))}")
        scores = [prediction["score"] for prediction in answer["predictions"]]
        if len(scores) != len(request["item_ids"]) or not all(0 <= score <= 1 for score in scores):
            raise NotServedError(f"{self.config.url} answers {model_version} with the scores {scores}")

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None, *, timeout_seconds: float | None = None
    ) -> dict[str, Any]:
        url = f"{self.config.url.rstrip('/')}{path}"
        headers = {"Content-Type": "application/json", "Connection": "close"}
        if token := os.environ.get(self.config.token_env):
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout_seconds or self.config.timeout_seconds) as answer:
                content: dict[str, Any] = json.load(answer)
                return content
        except urllib.error.HTTPError as error:
            text = error.read(300).decode(errors="replace")
            raise NotServedError(f"{url} answers {error.code}: {text}", status=error.code) from error
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"{url} does not answer ({error})") from error
        except ValueError as error:
            raise NotServedError(f"{url} answers no JSON ({error})") from error
