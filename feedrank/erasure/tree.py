"""What lies below a folder: Delta tables, bundles, other Parquet files, pages, and what killed writers left."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from feedrank.features.snapshot import INFO_FILE
from feedrank.model.bundle import CHECKSUMS_FILE

LEFT_BEHIND = re.compile(r"\..+\.(new|gone)")
"""Folders of writers that were killed; nobody reads them."""
CHECKPOINT = ".checkpoint"


@dataclass
class Tree:
    """Paths, in order. What is in a bundle or in a table is not listed again."""

    tables: list[Path] = field(default_factory=list)
    bundles: list[Path] = field(default_factory=list)
    snapshots: list[Path] = field(default_factory=list)
    parquet: list[Path] = field(default_factory=list)
    texts: list[Path] = field(default_factory=list)
    checkpoints: list[Path] = field(default_factory=list)
    left_behind: list[Path] = field(default_factory=list)


TEXTS = (".json", ".jsonl", ".html", ".csv", ".tsv", ".txt", ".log", ".yaml", ".md")


def look(root: Path) -> Tree:
    """All below a folder, or one file; links are not followed."""
    tree = Tree()
    if root.is_file():
        _sort(root.parent, [], [root.name], tree)
    for folder, names, files in _walk(root):
        if LEFT_BEHIND.fullmatch(folder.name):
            tree.left_behind.append(folder)
            names.clear()
        elif CHECKSUMS_FILE in files:
            tree.bundles.append(folder)
            names.clear()
        else:
            _sort(folder, names, files, tree)
    return tree


def _sort(folder: Path, names: list[str], files: list[str], tree: Tree) -> None:
    if "_delta_log" in names:
        tree.tables.append(folder)
        names[:] = [name for name in names if not name.startswith("date=")]
    if INFO_FILE in files:
        tree.snapshots.append(folder)
    for name in files:
        path = folder / name
        if name.endswith(CHECKPOINT):
            tree.checkpoints.append(path)
        elif name.endswith(".parquet") and folder.name != "_delta_log":
            tree.parquet.append(path)
        elif name.endswith(TEXTS):
            tree.texts.append(path)


def _walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    for folder, names, files in os.walk(root):
        names.sort()
        yield Path(folder), names, sorted(files)
