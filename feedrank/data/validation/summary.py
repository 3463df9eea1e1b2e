"""What a validation says: the JSON summary."""

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

Status = Literal["passed", "failed", "warning", "not_evaluated"]


class RuleResult(BaseModel):
    """The outcome of one rule. A row rule quarantines rows; a table rule judges days or the batch as a whole."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: Literal["row", "table"]
    status: Status
    bad_rows: int = 0
    observed: str
    expected: str
    message: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the batch; a rule that couldn't be evaluated doesn't."""
        return self.status != "failed"


class WaitingDay(BaseModel):
    """A day that is held or missing: it waits for better rows, or for a person who accepts it."""

    model_config = ConfigDict(frozen=True)

    date: date
    since: datetime
    reason: str


class AcceptedDay(BaseModel):
    """A day that a person accepted."""

    model_config = ConfigDict(frozen=True)

    date: date
    who: str
    at: datetime
    why: str


class ValidationSummary(BaseModel):
    """The whole outcome. `passed` is false when the batch is wrong in itself; days that are held don't fail it."""

    model_config = ConfigDict(frozen=True)

    passed: bool
    rows: int
    clean_rows: int
    """Good rows of days that are not held."""
    quarantined_rows: int
    """All others."""
    judged_rows: int
    """Rows of the judged days."""
    bad_share: float
    """Share of bad rows among them."""
    max_bad_share: float
    start: datetime | None
    end: datetime | None
    problems: tuple[str, ...]
    """Why the batch failed."""
    alarms: tuple[str, ...] = ()
    """What a person must look at now, and that does not fail the batch: days that are held or missing since now."""
    warnings: tuple[str, ...] = ()
    """What stands out and is no alarm, or none any more."""
    first_import: bool = False
    """No day was accepted before, so days that stand out are warnings."""
    judged_days: tuple[date, ...] = ()
    """New days, and those whose rows have changed."""
    held_days: tuple[WaitingDay, ...] = ()
    missing_days: tuple[WaitingDay, ...] = ()
    accepted_days: tuple[AcceptedDay, ...] = ()
    """By a person."""
    rules: tuple[RuleResult, ...]
