"""What enters and leaves a table besides its rows: its layout, a commit's note, and what the log tells."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from feedrank.schema import DATE

if TYPE_CHECKING:
    from deltalake import CommitProperties


@dataclass(frozen=True)
class Layout:
    """The columns of a table, without `date`, and the time column whose UTC day is the partition."""

    columns: pa.Schema
    day_of: str
    history_days: int = 3650
    """Commits stay so long: they say which files were read, and what a model's version of the table was."""

    @property
    def stored(self) -> pa.Schema:
        """The columns with the partition's."""
        return self.columns.append(pa.field(DATE, pa.date32()))

    @property
    def settings(self) -> Mapping[str, str | None]:
        """Of a table: the log of commits has no statistics but those of the time, so no user's id either."""
        history = f"interval {self.history_days} days"
        return {"delta.logRetentionDuration": history, "delta.dataSkippingStatsColumns": self.day_of}


@dataclass(frozen=True)
class Commit:
    """One version of a table: when, by which operation, and what its writer noted."""

    version: int
    time: datetime
    operation: str
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class DayFiles:
    """What the log says of a day's files."""

    rows: int
    bytes: int
    files: int


@dataclass(frozen=True)
class Merged:
    """How the rows of a merge ended; a row that stood there already counts as neither."""

    added: int
    updated: int


@dataclass(frozen=True)
class Note:
    """What a writer leaves in its commit: texts, and a transaction (application, number) that is committed once."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    transaction: tuple[str, int] | None = None

    def properties(self) -> "CommitProperties":
        """In deltalake's terms."""
        from deltalake import CommitProperties, Transaction

        transactions = None if self.transaction is None else [Transaction(*self.transaction)]
        return CommitProperties(custom_metadata=dict(self.metadata) or None, app_transactions=transactions)


NOTHING = Note()
