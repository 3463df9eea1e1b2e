"""What an upkeep did."""

from pydantic import BaseModel


class Freed(BaseModel):
    """What became of one table or folder."""

    name: str
    bytes_before: int
    """Of its files on the disk or in the store, earlier versions included."""
    bytes_after: int
    done: list[str]
    """Sentences."""


class UpkeepReport(BaseModel):
    """All of it."""

    freed: list[Freed]
    warnings: list[str]
