"""Model versions in an object store: promotion copies them there, and the predictor's pods fetch the served one.

`python -m serving.object_store ADDRESS FOLDER` fetches the version that FEEDRANK_MODEL_VERSION names. A pod's first
container does so, in the predictor's own image: KServe's storage initializer would take its endpoint and security
context from objects that hold for the whole cluster.
"""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs as pafs

from feedrank.errors import BundleError, FeedrankError
from feedrank.model.bundle import CHECKSUMS_FILE, verify
from feedrank.promotion.changes import PromotionError
from feedrank.registered_model import VERSION

VERSION_VARIABLE = "FEEDRANK_MODEL_VERSION"


@dataclass(frozen=True)
class ObjectStore:
    """Staged bundles below an address such as s3://BUCKET/PREFIX."""

    address: str

    def uri(self, model_version: str) -> str:
        """Of a version."""
        return f"{self.address.rstrip('/')}/{model_version}"

    def has(self, model_version: str) -> bool:
        """Whether a version was uploaded, completely: its checksums are the last file."""
        filesystem, path = pafs.FileSystem.from_uri(self.uri(model_version))
        return bool(filesystem.get_file_info(f"{path}/{CHECKSUMS_FILE}").is_file)

    def upload(self, folder: Path) -> None:
        """Copies a staged bundle.

        Raises:
            PromotionError: the store refuses, or can't be reached.
        """
        uri = self.uri(folder.name)
        try:
            filesystem, path = pafs.FileSystem.from_uri(uri)
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            for file in sorted(files, key=lambda file: file.name == CHECKSUMS_FILE):
                target = f"{path}/{file.relative_to(folder).as_posix()}"
                filesystem.create_dir(target.rsplit("/", 1)[0], recursive=True)
                pafs.copy_files(str(file), target, destination_filesystem=filesystem)
        except OSError as error:
            raise PromotionError(f"{uri}: the bundle can't be copied there ({error})") from error

    def versions(self) -> dict[str, int]:
        """Bytes of the versions that are there, whole or not; what has another name is not ours.

        Raises:
            OSError: the store can't be reached.
        """
        filesystem, path = pafs.FileSystem.from_uri(self.address.rstrip("/"))
        sizes: dict[str, int] = {}
        for info in filesystem.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True)):
            name = info.path.removeprefix(f"{path}/").split("/", 1)[0]
            if VERSION.fullmatch(name):
                sizes[name] = sizes.get(name, 0) + (info.size or 0)
        return sizes

    def remove(self, model_version: str) -> None:
        """Removes a version; its checksums first, so that what is left of it after a crash counts as incomplete.

        Raises:
            OSError: the store refuses, or can't be reached.
        """
        filesystem, path = pafs.FileSystem.from_uri(self.uri(model_version))
        if filesystem.get_file_info(f"{path}/{CHECKSUMS_FILE}").is_file:
            filesystem.delete_file(f"{path}/{CHECKSUMS_FILE}")
        filesystem.delete_dir(path)

    def fetch(self, model_version: str, folder: Path) -> None:
        """Copies a version into a folder, over what an earlier attempt has left there.

        Raises:
            BundleError: it is not there, not whole, or the store can't be reached.
        """
        uri = self.uri(model_version)
        try:
            filesystem, path = pafs.FileSystem.from_uri(uri)
            pafs.copy_files(path, str(folder), source_filesystem=filesystem)
        except OSError as error:
            raise BundleError(f"{uri}: the model can't be fetched ({error})") from error
        verify(folder)


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m serving.object_store", description="Fetches the served model.")
    parser.add_argument("address", help="such as s3://BUCKET/PREFIX")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    version = os.environ.get(VERSION_VARIABLE, "")
    try:
        if not version:
            raise BundleError(f"missing value for {VERSION_VARIABLE}: nothing was promoted yet")
        ObjectStore(arguments.address).fetch(version, arguments.folder)
    except FeedrankError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{version} was fetched from {arguments.address}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
