"""What an ingestion knows of a table and its rows don't say: which columns the files themselves had.

A constant device is right where the mapping fills it in for files without one, and a fault where the files say it.
"""

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from feedrank.errors import DataError
from feedrank.storage import write_text

FACTS_FILE = "_ingest.json"
"""Beside the days of the table; readers of partitions don't see it."""


class IngestFacts(BaseModel):
    """Facts of all ingestions into a table."""

    model_config = ConfigDict(frozen=True)

    columns_from_files: tuple[str, ...]
    """Columns of ours with at least one value that a file had; the others were derived or filled by the mapping."""

    def from_files(self, column: str) -> bool:
        """Whether any value of the column came from a file."""
        return column in self.columns_from_files


def read_facts(table: Path) -> IngestFacts | None:
    """The facts of a table; None if no ingestion wrote it.

    Raises:
        DataError: the file is damaged.
    """
    path = table / FACTS_FILE
    try:
        return IngestFacts.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise DataError(f"{path}: can't be read ({reason}); ingest again into an empty folder") from error


def write_facts(table: Path, columns_from_files: Iterable[str], *, earlier: IngestFacts | None = None) -> IngestFacts:
    """Writes the facts of one more ingestion into a table; `earlier` are those of the table before it."""
    columns = {*columns_from_files, *(earlier.columns_from_files if earlier else ())}
    facts = IngestFacts(columns_from_files=tuple(sorted(columns)))
    write_text(table / FACTS_FILE, facts.model_dump_json(indent=2) + "\n")
    return facts
