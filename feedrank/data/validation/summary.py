"""What a validation says: the JSON summary."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

Status = Literal["passed", "failed", "warning", "not_evaluated"]


class RuleResult(BaseModel):
    """The outcome of one rule. A row rule quarantines rows; a table rule judges the batch as a whole."""

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


class ValidationSummary(BaseModel):
    """The whole outcome; `passed` is false when a table rule failed or more than `max_bad_share` is bad."""

    model_config = ConfigDict(frozen=True)

    passed: bool
    rows: int
    clean_rows: int
    quarantined_rows: int
    bad_share: float
    max_bad_share: float
    start: datetime | None
    end: datetime | None
    problems: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    """What stands out and does not fail the batch."""
    first_import: bool = False
    """No day was accepted before, so days that stand out are warnings."""
    rules: tuple[RuleResult, ...]
