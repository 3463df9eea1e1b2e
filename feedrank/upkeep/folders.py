"""Upkeep of folders: what was written once and is not needed any more is taken out of sight, then removed."""

import shutil
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from feedrank import storage
from feedrank.promotion.changes import lineage
from feedrank.promotion.promote import Promoter
from feedrank.upkeep.report import Freed

GONE = ".gone"


def keep_served_versions(promoter: Promoter, versions: Path, *, steps: int) -> Freed | None:
    """Removes staged versions but the served one, those of a change under way, and those a rollback can go back to.

    Raises:
        StorageError: a promotion or rollback runs.
    """
    if not versions.is_dir():
        return None
    with storage.exclusive(promoter.directory / "promotion"):
        return keep_folders(versions, keep=needed_versions(promoter, steps=steps), name="served versions")


def needed_versions(promoter: Promoter, *, steps: int) -> set[str]:
    """The versions that are served, change just now, or that so many rollbacks go back to."""
    champions = [version.model_version for version in lineage(promoter.log.history())[-steps - 1 :]]
    needed = {*champions, promoter.target.current_version() or ""}
    if (journal := promoter.log.open_change()) is not None:
        before = journal.change.champion_before
        needed |= {journal.change.to.model_version, journal.change.served_before or ""}
        needed |= set() if before is None else {before.model_version}
    return needed


def keep_recent(folder: Path, *, name: str, now: datetime, days: int, pattern: str = "*") -> Freed | None:
    """Keeps the folders that changed within so many days, and the latest."""
    if not folder.is_dir():
        return None
    found = sorted((path for path in folder.glob(pattern) if path.is_dir()), key=lambda path: path.stat().st_mtime)
    limit = (now - timedelta(days=days)).timestamp()
    return keep_folders(
        folder,
        keep={path.name for path in found if path.stat().st_mtime >= limit} | {path.name for path in found[-1:]},
        name=name,
    )


def keep_folders(folder: Path, *, keep: Iterable[str], name: str) -> Freed:
    """Removes the other folders below `folder`; hidden ones are their writers'."""
    before, kept, done = folder_bytes(folder), set(keep), list[str]()
    for path in sorted(folder.glob("[!.]*")):
        if path.is_dir() and not path.is_symlink() and path.name not in kept:
            path.rename(path.with_name(f".{path.name}{GONE}"))
            done.append(f"removed {path.name}")
    for path in folder.glob(f".*{GONE}"):  # of an upkeep that was cut off, too
        shutil.rmtree(path)
    return Freed(name=name, bytes_before=before, bytes_after=folder_bytes(folder), done=done)


def folder_bytes(folder: Path) -> int:
    """Of all files below it."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
