"""Changes of the champion: the journal of the one under way, and the history of those that ended.

DIRECTORY/promotion.json   the change under way and its step; absent when there is none
DIRECTORY/history.jsonl    one line per change: who, when, why, from, to, and how it ended
"""

import contextlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from feedrank import storage
from feedrank.errors import FeedrankError, StorageError
from feedrank.monitoring.jsonlines import append_json_line, read_lines

Kind = Literal["promotion", "rollback"]
Step = Literal["alias", "target", "smoke", "record", "undo"]


class PromotionError(FeedrankError):
    """A promotion or rollback can't be done, or was undone."""


class Version(BaseModel):
    """A registered version."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    number: int
    model_version: str
    run_id: str


class Change(BaseModel):
    """A change of the champion, as it was decided."""

    model_config = ConfigDict(frozen=True)

    change_id: str
    kind: Kind
    at: datetime
    who: str
    why: str
    champion_before: Version | None
    served_before: str | None
    to: Version


class Journal(BaseModel):
    """`promotion.json`: `step` is under way, or was when the process died."""

    model_config = ConfigDict(frozen=True)

    change: Change
    step: Step
    problem: str = ""
    """Why it is undone."""


class Record(BaseModel):
    """A line of the history."""

    model_config = ConfigDict(frozen=True)

    change: Change
    outcome: Literal["done", "undone"]
    note: str = ""


class ChangeLog:
    """Journal and history in one folder. Only the holder of the folder's lock may write."""

    def __init__(self, directory: Path) -> None:
        """Touches nothing yet."""
        self.directory = directory
        self._journal = directory / "promotion.json"
        self._history = directory / "history.jsonl"

    def open_change(self) -> Journal | None:
        """The change that is under way, or was cut off.

        Raises:
            StorageError: the journal is damaged.
        """
        try:
            return Journal.model_validate_json(self._journal.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StorageError(
                f"{self._journal}: can't be read ({error}); check which version is served, then delete it"
            ) from error

    def write(self, journal: Journal) -> None:
        """Replaces the journal; on disk when it returns."""
        storage.write_text(self._journal, journal.model_dump_json(indent=2))

    def close(self, record: Record) -> None:
        """Adds the record to the history, once, and removes the journal."""
        if all(record.change.change_id != earlier.change.change_id for earlier in self.history()):
            append_json_line(self._history, record.model_dump(mode="json"))
        self._journal.unlink(missing_ok=True)

    def history(self) -> list[Record]:
        """All records, the oldest first; a line that a crash cut off is left out."""
        records = []
        for line in read_lines(self._history):
            with contextlib.suppress(ValidationError):
                records.append(Record.model_validate_json(line))
        return records


def lineage(history: Sequence[Record]) -> list[Version]:
    """The champions that a rollback goes back through, the present one last.

    A promotion adds one, a rollback takes away all after its target; so after v1, v2, v3 and a rollback to v2, the
    next rollback goes to v1.
    """
    line: list[Version] = []
    for record in history:
        change = record.change
        if record.outcome == "undone":
            continue
        before = change.champion_before
        if before is not None and (not line or line[-1] != before):
            line.append(before)
        if change.kind == "rollback" and change.to in line:
            del line[line.index(change.to) + 1 :]
        elif not line or line[-1] != change.to:
            line.append(change.to)
    return line
