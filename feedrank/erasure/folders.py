"""Erases people from the folders of runs: tables, bundles, feature tables, samples, snapshots and pages."""

import contextlib
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from feedrank import delta, schema, storage
from feedrank.erasure.person import RECORD, People
from feedrank.erasure.report import Erased, Left
from feedrank.erasure.tree import Tree, look
from feedrank.features.snapshot import INFO_FILE
from feedrank.model.forget import forget_users, rows_in, users_in, write_others
from feedrank.tables import day_of

REPORT, SUMMARY = "report.html", "summary.json"
"""Of a validation: pages that show rows and may name the most frequent user."""
SURE_LENGTH = 6
"""A shorter word may stand for anything in a text; there it counts as a user's only next to that word."""


def rows_of(people: People) -> delta.Rows:
    """Their rows in any table or Parquet file."""
    return delta.Rows((schema.USER_ID, RECORD), people.rows)


def erase_below(root: Path, people: People) -> Iterator[Erased]:
    """Takes them out of all below a folder that nobody else writes. Cut off and called again, it goes on."""
    tree, rows = look(root), rows_of(people)
    for folder in tree.left_behind:
        shutil.rmtree(folder)
        yield Erased(place=str(folder), rows=1, done="left by a writer that was killed: removed")
    for table in tree.tables:
        yield from erase_table(table, rows)
    for bundle in tree.bundles:
        if found := forget_users(bundle, ids=people.ids, rows=rows):
            yield Erased(place=str(bundle), rows=found, done="vector and rows taken out of the model bundle")
    for folder, found in _rewrite(tree.parquet, rows).items():
        yield Erased(place=str(folder), rows=found, done="rows taken out")
    for file in tree.checkpoints:
        file.unlink()
        yield Erased(place=str(file), rows=1, done="checkpoint of a training that was cut off: removed")
    yield from _erase_texts(tree, people)
    for snapshot in tree.snapshots:  # of another time of change, so predictors read it again
        storage.write_text(snapshot / INFO_FILE, (snapshot / INFO_FILE).read_text(encoding="utf-8"))


def _rewrite(files: Sequence[Path], rows: delta.Rows) -> Counter[Path]:
    """The rows taken out, by the folder of the files, or of all days' folders."""
    found = Counter[Path]()
    for file in files:
        if count := rows_in(file, rows):
            with storage.new_file(file) as fresh:
                write_others(file, fresh, rows=rows)
            found[file.parent if day_of(file.parent.name) is None else file.parent.parent] += count
    return found


def erase_table(location: delta.Location, rows: delta.Rows) -> Iterator[Erased]:
    """Takes rows out of a Delta table and of its earlier versions."""
    purged = delta.erase_rows(location, rows)
    if purged.rows:
        yield Erased(place=str(location), rows=purged.rows, done="rows taken out of the table")
    if purged.files:
        yield Erased(place=str(location), rows=purged.files, done="files of earlier versions removed")


def left_below(root: Path, people: People, *, ours: bool = True) -> Iterator[Left]:
    """Where they are still found."""
    tree, rows = look(root), rows_of(people)
    for table in tree.tables:
        yield from left_in_table(table, people, ours=ours)
    for bundle in tree.bundles:
        if found := users_in(bundle, ids=people.ids, rows=rows):
            yield Left(place=str(bundle), rows=found, ours=ours)
    for file in tree.parquet:
        if found := rows_in(file, rows):
            yield Left(place=str(file), rows=found, ours=ours)
    for file in tree.texts:
        if is_named_in(_text(file), people):
            yield Left(place=str(file), rows=1, ours=ours)


def left_in_table(location: delta.Location, people: People, *, ours: bool = True) -> Iterator[Left]:
    """Files of a Delta table, of any version, and commits that name them."""
    for path, found in delta.files_with(location, rows_of(people)).items():
        yield Left(place=f"{location}/{path}", rows=found, ours=ours)
    for name, text in delta.commits(location):
        if any(re.search(rf'user_id\\*"\s*:\s*{number}\b', text) for number in people.ids.tolist()):
            yield Left(place=f"{location}/{name}", rows=1, ours=ours)


def is_named_in(text: str, people: People) -> bool:
    """Whether a text names one of them, as a whole word; a short one only next to the word user."""
    for word in people.words:
        before = r"(?<![\w-])" if len(word) >= SURE_LENGTH else r"\buser(_id)?\W{1,5}"
        if re.search(rf"{before}{re.escape(word)}(?![\w-])", text):
            return True
    return False


def _text(file: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return file.read_text(encoding="utf-8", errors="replace")
    return ""


def _erase_texts(tree: Tree, people: People) -> Iterator[Erased]:
    """Pages of a validation: the next one writes them anew, and of the summary only the sentence is changed."""
    for file in tree.texts:
        if file.name == REPORT and file.with_name(SUMMARY).exists() and _shows(_text(file), people):
            file.unlink()
            yield Erased(place=str(file), rows=1, done="page with sample rows removed; the next validation writes it")
        elif file.name == SUMMARY and is_named_in(_text(file), people):
            words = "|".join(re.escape(word) for word in sorted(people.words))
            storage.write_text(file, re.sub(rf"\buser ({words})\b", "user (erased)", _text(file)))
            yield Erased(place=str(file), rows=1, done="the id taken out of a sentence")


def _shows(page: str, people: People) -> bool:
    cells = any(re.search(rf">\s*{re.escape(word)}\s*<", page) for word in people.words)
    return cells or is_named_in(page, people)
