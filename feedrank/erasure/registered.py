"""Erases people from the models that MLflow keeps, of every version and of registrations that came to nothing.

A model is fetched, cleaned, and its bundle stored again in its place. The copy stays until that is done: so nothing is
lost when MLflow goes away in the middle.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from feedrank import delta, storage
from feedrank.erasure.folders import rows_of
from feedrank.erasure.person import People
from feedrank.erasure.report import Erased, Left
from feedrank.errors import RegistryError
from feedrank.model.bundle import CHECKSUMS_FILE
from feedrank.model.forget import forget_users, users_in
from feedrank.registered_model import RegisteredModel
from feedrank.registry import Registry


def erase_registered(registry: Registry, people: People, *, work: Path) -> Iterator[Erased]:
    """Takes them out of all models; `work` is a folder that outlives a kill.

    Raises:
        RegistryError: MLflow can't be reached, or refuses.
    """
    for name, artifacts in registry.logged_bundles():
        copy = work / name.rpartition(" ")[2]
        if not copy.exists():
            with TemporaryDirectory() as folder:
                bundle = _fetched(artifacts, Path(folder), name)
                if bundle is None or not users_in(bundle, ids=people.ids, rows=rows_of(people)):
                    continue
            with storage.new_directory(copy) as fresh:
                _fetched(artifacts, fresh, name)
        (sums,) = copy.rglob(CHECKSUMS_FILE)
        found = forget_users(sums.parent, ids=people.ids, rows=rows_of(people))
        with _asking(name, "can't be stored"):
            artifacts.log_artifacts(str(sums.parent), str(sums.parent.relative_to(copy)))
        shutil.rmtree(copy)
        yield Erased(place=f"MLflow: {name}", rows=found, done="vector and rows taken out of the registered model")
    shutil.rmtree(work, ignore_errors=True)


def left_registered(registry: Registry, people: People) -> Iterator[Left]:
    """The models that still know them."""
    for name, artifacts in registry.logged_bundles():
        with TemporaryDirectory() as folder:
            bundle = _fetched(artifacts, Path(folder), name)
            if bundle and (found := users_in(bundle, ids=people.ids, rows=rows_of(people))):
                yield Left(place=f"MLflow: {name}", rows=found)


def lost_versions(registered: Sequence[RegisteredModel]) -> Iterator[str]:
    """A sentence for each model whose version of its table can't be read any more."""
    for model in registered:
        source = None if model.metadata is None else model.metadata.trained_on
        if source is None or not delta.is_table(source.location):
            continue
        newest = delta.open_table(source.location).version
        if source.version <= newest and not delta.readable(source.location, source.version):
            yield (
                f"{model.model_version} was trained on version {source.version} of {source.location}, which can't be "
                "read any more; a later version has the same rows but for those that went"
            )


def _fetched(artifacts: Any, folder: Path, name: str) -> Path | None:
    """The bundle of a model, copied below a folder; None if it has none."""
    with _asking(name, "can't be fetched"):
        artifacts.download_artifacts("", dst_path=str(folder))
    found = sorted(folder.rglob(CHECKSUMS_FILE))
    return found[0].parent if found else None


@contextmanager
def _asking(name: str, problem: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise RegistryError(f"MLflow: the artifacts of {name} {problem} ({error}); try again") from error
