"""Which of the input files were not read yet as they are, by the facts of the table."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from feedrank import schema
from feedrank.config.ingest import IngestConfig, Mapping
from feedrank.data.ingest.files import InputFile
from feedrank.data.ingest_facts import FileRead, IngestFacts

MARKS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")
"""What file systems say of a file that changes with its content; the first one counts."""
COARSE_CLOCK_S = 2.0
"""A time of change in whole seconds may hide a change in the same second; such a file is read once more."""


def reading_of(mapping: Mapping | None, config: IngestConfig) -> str:
    """Fingerprint of all that says which rows a file gives: another mapping or default reads it again."""
    how = [mapping.model_dump_json() if mapping else "", config.earliest, config.latest, schema.INTERACTIONS.names]
    return hashlib.sha256(repr(how).encode()).hexdigest()[:16]


def stamp(file: InputFile, *, reading: str) -> FileRead:
    """The file as it is now, of no row yet."""
    found = file.filesystem.info(file.path)
    return FileRead(bytes=found.get("size") or 0, modified=_mark(found), reading=reading, rows=0)


def _mark(found: dict[str, Any]) -> str:
    for name in MARKS:
        mark = found.get(name)
        if isinstance(mark, datetime):
            mark = mark.timestamp()
        if mark is not None:
            coarse = isinstance(mark, int | float) and float(mark).is_integer()
            return "" if coarse and datetime.now(UTC).timestamp() - mark < COARSE_CLOCK_S else str(mark)
    return ""


def is_unread(name: str, now: FileRead, facts: IngestFacts) -> bool:
    """Whether the file is new, changed, to be read otherwise, or of a store that doesn't tell."""
    before = facts.files.get(name)
    return before is None or not now.modified or before.model_copy(update={"rows": 0}) != now


def from_first_unread(files: Sequence[InputFile], unread: Sequence[InputFile]) -> list[InputFile]:
    """The first unread file and all after it: what those say of an interaction is later."""
    return list(files[files.index(unread[0]) :])
