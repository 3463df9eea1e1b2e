"""Where the model and the snapshot come from, and whether they have changed."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow.fs as pafs

from feedrank import mlflow_settings, storage
from feedrank.errors import BundleError, RegistryError
from feedrank.model.bundle import CHECKSUMS_FILE, METADATA_FILE

REGISTRY_PREFIX = "models:/"
SNAPSHOT_FILE = "snapshot.json"


@dataclass(frozen=True)
class Revision:
    """One state of a source: another key means another content."""

    directory: Path
    key: str


class Source(Protocol):
    """A place that may change."""

    def revision(self) -> Revision:
        """The present revision; fetches it when it is not local.

        Raises:
            FeedrankError: there is none, or the place can't be reached.
        """
        ...


def _file_key(path: Path) -> str:
    stat = path.stat()
    return f"{path}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}"


@dataclass(frozen=True)
class FolderSource:
    """A folder, or a symbolic link to one, that holds the bundle or (as storage tools lay it out) a folder with it."""

    path: Path

    def revision(self) -> Revision:
        """See `Source`."""
        root = self.path.resolve()
        directory = find_bundle(root)
        try:
            return Revision(directory, _file_key(directory / CHECKSUMS_FILE))
        except OSError as error:
            raise BundleError(f"{directory}: incomplete, {CHECKSUMS_FILE} can't be read ({error})") from error


def find_bundle(root: Path) -> Path:
    """The folder of `model_metadata.json` at or below a folder.

    Raises:
        BundleError: there is none, or more than one.
    """
    found = [root] if (root / METADATA_FILE).is_file() else [path.parent for path in root.glob(f"**/{METADATA_FILE}")]
    if len(found) != 1:
        what = "no model bundle" if not found else f"{len(found)} model bundles"
        raise BundleError(f"{root}: {what} ({METADATA_FILE}) in it; it must hold one")
    return found[0]


@dataclass(frozen=True)
class RegistrySource:
    """`models:/NAME@ALIAS` or `models:/NAME/VERSION` in the MLflow registry."""

    uri: str
    tracking_uri: str
    cache: Path
    keep: int
    """So many versions stay in the cache, those that were wanted last."""

    def revision(self) -> Revision:
        """See `Source`."""
        mlflow_settings.set_defaults()
        import mlflow
        from mlflow.exceptions import MlflowException

        name, version = self.uri.removeprefix(REGISTRY_PREFIX), ""
        try:
            client = mlflow.MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", self.tracking_uri))
            if "@" in name:
                name, alias = name.split("@", 1)
                version = client.get_model_version_by_alias(name, alias).version
            else:
                name, version = name.rsplit("/", 1)
            target = self.cache / name / str(version)
            if not target.exists():
                with storage.new_directory(target) as fresh:
                    source = client.get_model_version_download_uri(name, str(version))
                    mlflow.artifacts.download_artifacts(
                        artifact_uri=source, dst_path=str(fresh), tracking_uri=client.tracking_uri
                    )
                keep_latest(target.parent, count=self.keep)
            os.utime(target)
        except (MlflowException, OSError, ValueError) as error:
            raise RegistryError(f"{self.uri}: can't be fetched from the registry ({error})") from error
        bundle = find_bundle(target.resolve())
        return Revision(bundle, f"{name}/{version}:{_file_key(bundle / CHECKSUMS_FILE)}")


def keep_latest(folder: Path, *, count: int) -> None:
    """Removes the folders below another but so many that were used last."""
    found = sorted(folder.glob("[!.]*"), key=lambda path: path.stat().st_mtime_ns)
    storage.keep_only(folder, keep={path.name for path in found[-count:]})


@dataclass(frozen=True)
class SnapshotSource:
    """A snapshot folder, local or at a URI."""

    location: str
    cache: Path

    def revision(self) -> Revision | None:
        """The present revision; None while none was published.

        Raises:
            BundleError: the place can't be reached.
        """
        try:
            if "://" not in self.location:
                directory = Path(self.location).resolve()
                return Revision(directory, _file_key(directory / SNAPSHOT_FILE))
            return self._fetched()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BundleError(f"{self.location}: the snapshot can't be read ({error})") from error

    def _fetched(self) -> Revision | None:
        filesystem, path = pafs.FileSystem.from_uri(self.location)
        info = filesystem.get_file_info(f"{path}/{SNAPSHOT_FILE}")
        if not info.is_file:
            return None
        target = self.cache / "snapshots" / f"{info.mtime_ns}-{info.size}"
        if not target.exists():
            with storage.new_directory(target) as fresh:
                pafs.copy_files(path, str(fresh), source_filesystem=filesystem)
            keep_latest(target.parent, count=1)
        return Revision(target, f"{self.location}:{info.mtime_ns}:{info.size}")


def model_source(model: str, *, tracking_uri: str, cache: Path, keep: int) -> Source:
    """The source that `serving.model` names; of a registry's versions, so many stay in the cache."""
    if model.startswith(REGISTRY_PREFIX):
        return RegistrySource(model, tracking_uri, cache, keep)
    return FolderSource(Path(model))
