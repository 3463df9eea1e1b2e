"""Upkeep of folders: what was written once and is not needed any more is taken out of sight, then removed.

The served versions lie in folders, too, and perhaps in an object store.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from feedrank import storage
from feedrank.promotion.changes import lineage
from feedrank.promotion.promote import Promoter
from feedrank.upkeep.report import Freed


def keep_served_versions(promoter: Promoter, versions: Path, *, steps: int) -> Freed | None:
    """Removes staged versions but the served one, those of a change under way, and those a rollback can go back to.

    Nothing goes while it isn't known what is served. A rollback waits only for renames.

    Raises:
        StorageError: a promotion or rollback runs.
    """
    if not versions.is_dir() or promoter.target.current_version() is None:
        return None
    before = folder_bytes(versions)
    storage.remove_put_aside(versions)
    with storage.exclusive(promoter.directory / "promotion"):
        gone = storage.put_aside(versions, keep=needed_versions(promoter, steps=steps))
    storage.remove_put_aside(versions)
    return Freed(name="served versions", bytes_before=before, bytes_after=folder_bytes(versions), done=_said(gone))


class VersionStore(Protocol):
    """An object store that pods fetch the served version from."""

    def versions(self) -> dict[str, int]:
        """Bytes of the versions that are there, whole or not."""
        ...

    def remove(self, model_version: str) -> None:
        """Removes a version."""
        ...


def keep_stored_versions(promoter: Promoter, store: VersionStore, *, steps: int) -> Freed | None:
    """As `keep_served_versions` in an object store, which knows no renames: a rollback waits for a version's removal.

    Raises:
        StorageError: a promotion or rollback runs.
        OSError: the store can't be reached.
    """
    if promoter.target.current_version() is None:
        return None
    sizes, gone = store.versions(), list[str]()
    for version in sorted(sizes):
        with storage.exclusive(promoter.directory / "promotion"):
            if version not in needed_versions(promoter, steps=steps):
                store.remove(version)
                gone.append(version)
    left = sum(size for version, size in sizes.items() if version not in gone)
    name, before = "served versions in the store", sum(sizes.values())
    return Freed(name=name, bytes_before=before, bytes_after=left, done=_said(gone))


def needed_versions(promoter: Promoter, *, steps: int) -> set[str]:
    """The versions that are served, change just now, or that so many rollbacks go back to."""
    champions = [version.model_version for version in lineage(promoter.log.history())[-steps - 1 :]]
    needed = {*champions, promoter.target.current_version() or ""}
    if (journal := promoter.log.open_change()) is not None:
        before = journal.change.champion_before
        needed |= {journal.change.to.model_version, journal.change.served_before or ""}
        needed |= set() if before is None else {before.model_version}
    return needed


def keep_recent(folder: Path, *, name: str, now: datetime, days: int) -> Freed | None:
    """Keeps the folders that changed within so many days, and the latest; None where no folder is."""
    found = sorted((path for path in folder.glob("[!.]*") if path.is_dir()), key=lambda path: path.stat().st_mtime)
    limit = (now - timedelta(days=days)).timestamp()
    keep = {path.name for path in found if path.stat().st_mtime >= limit} | {path.name for path in found[-1:]}
    return keep_named(folder, name=name, keep=keep)


def keep_own_days(promoter: Promoter, folder: Path, *, name: str, steps: int) -> Freed | None:
    """Keeps the first days of the models that are served or that so many rollbacks go back to, whatever their age."""
    if promoter.target.current_version() is None:
        return None
    return keep_named(folder, name=name, keep=needed_versions(promoter, steps=steps))


def keep_named(folder: Path, *, name: str, keep: Collection[str]) -> Freed | None:
    """Keeps the folders of those names; None where no folder is."""
    if not folder.is_dir():
        return None
    before, gone = folder_bytes(folder), storage.keep_only(folder, keep=keep)
    return Freed(name=name, bytes_before=before, bytes_after=folder_bytes(folder), done=_said(gone))


def _said(gone: Sequence[str]) -> list[str]:
    return [f"removed {name}" for name in gone]


def folder_bytes(folder: Path) -> int:
    """Of all files below it."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
