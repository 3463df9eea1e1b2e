"""What an ingestion knows of a table and its rows don't say; it stands in the commits of the table itself.

Which columns the files had: a constant device is right where the mapping fills it in for files without one, and a fault
where the files say it. And which files were read, so that none is read again as long as it is what it was.
"""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, ValidationError

from feedrank import delta
from feedrank.errors import DataError

KEY = "feedrank.ingest"
"""Of the commits' metadata; each holds all that was known then, so the newest says all."""
APPLICATION = "feedrank.ingest"


class FileRead(BaseModel):
    """A file as it was when it was read, and how many rows it had."""

    model_config = ConfigDict(frozen=True)

    bytes: int
    modified: str
    """Its time of change, or the store's mark of its content."""
    reading: str
    """Fingerprint of the mapping and of the settings that it was read by."""
    rows: int


class IngestFacts(BaseModel):
    """Facts of all ingestions into a table."""

    model_config = ConfigDict(frozen=True)

    columns_from_files: tuple[str, ...] = ()
    """Columns of ours with at least one value that a file had; the others were derived or filled by the mapping."""
    files: dict[str, FileRead] = {}
    """By name."""

    def from_files(self, column: str) -> bool:
        """Whether any value of the column came from a file."""
        return column in self.columns_from_files

    def after(self, columns: Iterable[str], files: dict[str, FileRead]) -> "IngestFacts":
        """With those of one more ingestion."""
        return IngestFacts(
            columns_from_files=tuple(sorted({*self.columns_from_files, *columns})), files={**self.files, **files}
        )

    def note(self, *, transaction: int | None = None) -> delta.Note:
        """For the commit of an ingestion."""
        number = None if transaction is None else (APPLICATION, transaction)
        return delta.Note({KEY: self.model_dump_json()}, number)


NO_FACTS = IngestFacts()
"""Of a table that was written otherwise; every file is read."""


def facts_of(table: delta.Snapshot) -> IngestFacts | None:
    """The facts of a table; None if no ingestion wrote it.

    Raises:
        DataError: another program wrote them.
    """
    for limit in (20, None):  # the newest is near, mostly
        for commit in table.history(limit=limit):
            if KEY in commit.metadata:
                return _parsed(table.location, commit.metadata[KEY])
    return None


def _parsed(location: delta.Location, text: str) -> IngestFacts | None:
    try:
        facts = IngestFacts.model_validate_json(text)
    except ValidationError as error:
        raise DataError(f"{location}: {KEY} in its log can't be read ({error.errors()[0]['msg']})") from error
    return facts if facts.columns_from_files else None


def read_facts(location: delta.Location) -> IngestFacts | None:
    """The facts of the table at a place; None if none is there, or no ingestion wrote it.

    Raises:
        DataError: another program wrote them.
    """
    return facts_of(delta.open_table(location)) if delta.is_table(location) else None
