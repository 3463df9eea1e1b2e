"""Carrying unchanged files of an old directory into the new one that replaces it."""

import os
import shutil
from pathlib import Path


def link_file(source: Path, target: Path) -> None:
    """Hard-links `source` as `target`; copies it where the file system has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def link_tree(source: Path, target: Path) -> None:
    """Hard-links every file below `source` to the same place below `target`."""
    for file in sorted(source.rglob("*")):
        if file.is_file():
            link_file(file, target / file.relative_to(source))
