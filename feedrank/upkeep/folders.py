"""Upkeep of folders: what was written once and is not needed any more is taken out of sight, then removed."""

import shutil
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path

from feedrank import storage
from feedrank.promotion.changes import lineage
from feedrank.promotion.promote import Promoter
from feedrank.upkeep.report import Freed

GONE = ".gone"


def keep_served_versions(promoter: Promoter, versions: Path, *, steps: int) -> Freed | None:
    """Removes staged versions but the served one, those of a change under way, and those a rollback can go back to.

    Nothing goes while it isn't known what is served. A rollback waits only for renames.

    Raises:
        StorageError: a promotion or rollback runs.
    """
    if not versions.is_dir() or promoter.target.current_version() is None:
        return None
    before = folder_bytes(versions)
    remove_put_aside(versions)
    with storage.exclusive(promoter.directory / "promotion"):
        done = put_aside(versions, keep=needed_versions(promoter, steps=steps))
    remove_put_aside(versions)
    return Freed(name="served versions", bytes_before=before, bytes_after=folder_bytes(versions), done=done)


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
    """Keeps the folders that changed within so many days, and the latest."""
    if not folder.is_dir():
        return None
    found = sorted((path for path in folder.glob("[!.]*") if path.is_dir()), key=lambda path: path.stat().st_mtime)
    limit = (now - timedelta(days=days)).timestamp()
    keep = {path.name for path in found if path.stat().st_mtime >= limit} | {path.name for path in found[-1:]}
    before = folder_bytes(folder)
    remove_put_aside(folder)
    done = put_aside(folder, keep=keep)
    remove_put_aside(folder)
    return Freed(name=name, bytes_before=before, bytes_after=folder_bytes(folder), done=done)


def put_aside(folder: Path, *, keep: Collection[str]) -> list[str]:
    """Hides the other folders below `folder`, and says which; hidden ones are their writers'."""
    done = []
    for path in sorted(folder.glob("[!.]*")):
        if path.is_dir() and not path.is_symlink() and path.name not in keep:
            path.rename(path.with_name(f".{path.name}{GONE}"))
            done.append(f"removed {path.name}")
    return done


def remove_put_aside(folder: Path) -> None:
    """Removes the hidden folders, also those of an upkeep that was cut off."""
    for path in folder.glob(f".*{GONE}"):
        shutil.rmtree(path)


def folder_bytes(folder: Path) -> int:
    """Of all files below it."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
