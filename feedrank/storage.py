"""Safe writing: outputs are written aside and renamed, so that a reader never meets a half-written one."""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import filelock

from feedrank.errors import StorageError

GONE = "gone"


def _aside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{suffix}")


@contextlib.contextmanager
def exclusive(path: Path, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Holds the only right to write `path`; the operating system frees it when the process dies.

    Raises:
        StorageError: another run holds it, for so long already.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(_aside(path, "lock"))
    try:
        lock.acquire(timeout=wait_seconds)
    except filelock.Timeout as error:
        raise StorageError(f"{path}: another run is writing it; wait for it to end, then try again") from error
    try:
        yield
    finally:
        lock.release()


def recover(path: Path) -> None:
    """Puts back the earlier directory if a kill hit between the two renames of `new_directory`."""
    old = _aside(path, "old")
    if old.exists() and not path.exists():
        old.rename(path)


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yields an empty directory that replaces `path` when the block ends well; else `path` stays as it was.

    Raises:
        StorageError: another run is writing `path`.
    """
    with exclusive(path):
        recover(path)
        fresh, old = _aside(path, "new"), _aside(path, "old")
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh.mkdir(parents=True)
        try:
            yield fresh
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        if path.exists():
            path.rename(old)
        fresh.rename(path)
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; it is synced and replaces `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = _aside(path, f"new-{os.getpid()}")
    try:
        yield fresh
        with fresh.open("rb+") as file:
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def point_link(link: Path, target: Path) -> None:
    """Makes `link` a symbolic link to `target` (relative to the link's folder), all or nothing; lasts a crash."""
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = _aside(link, "new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)
    folder = os.open(link.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Replaces the file at `path` by `text`, all or nothing."""
    with new_file(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def keep_only(folder: Path, *, keep: Collection[str]) -> list[str]:
    """Removes the other folders below `folder`, and names them. A reader meets each whole, or not at all."""
    remove_put_aside(folder)
    gone = put_aside(folder, keep=keep)
    remove_put_aside(folder)
    return gone


def put_aside(folder: Path, *, keep: Collection[str]) -> list[str]:
    """Hides the other folders below `folder`, and names them; hidden ones are their writers'."""
    found = (path for path in sorted(folder.glob("[!.]*")) if path.is_dir() and not path.is_symlink())
    gone = [path for path in found if path.name not in keep]
    for path in gone:
        path.rename(_aside(path, GONE))
    return [path.name for path in gone]


def remove_put_aside(folder: Path) -> None:
    """Removes what was hidden, also by a process that was cut off."""
    for path in folder.glob(f".*.{GONE}"):
        shutil.rmtree(path)
