"""What a validation found out about a batch, and which rows go to which table."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feedrank import schema
from feedrank.data.validation.batch import Batch, Bools
from feedrank.data.validation.contents import Contents
from feedrank.data.validation.decide import Decision
from feedrank.data.validation.history import History
from feedrank.data.validation.record import Status
from feedrank.data.validation.stored import (
    CLEAN,
    CLEAN_LAYOUT,
    DAY,
    NOTHING,
    QUARANTINE,
    QUARANTINE_LAYOUT,
    REASON,
    replace_changed_days,
)
from feedrank.data.validation.summary import ValidationSummary
from feedrank.tables import US_PER_DAY

DAY_HELD = "day_held"
"""Reason of a good row in the quarantine."""


@dataclass(frozen=True)
class Outcome:
    """The rows, what is wrong with them, and what was decided."""

    batch: Batch
    contents: Contents
    masks: Mapping[str, Bools]
    """The rows that break each rule, of any day."""
    bad: Bools
    history: History | None
    decision: Decision
    summary: ValidationSummary

    def bad_rows(self) -> pa.Table:
        """Those of the judged days, with their reasons."""
        return self._with_reasons(self.bad & self.contents.rows_of(set(self.decision.judged)))

    def write_tables(self, output: Path, *, source: str) -> None:
        """Brings the quarantine, and unless the batch failed the clean table, up to date; `source` is what was judged.

        The quarantine comes first: so a row is in one of them at any time.
        """
        replace_changed_days(
            output / QUARANTINE, self._kept_back, wanted=self._quarantined(), layout=QUARANTINE_LAYOUT, source=source
        )
        if self.summary.passed:
            content = self.contents.by_day
            wanted = {day: content[day] for day in self._days("accepted", "open")}
            replace_changed_days(output / CLEAN, self._good_rows, wanted=wanted, layout=CLEAN_LAYOUT, source=source)

    def _days(self, *statuses: Status) -> set[int]:
        entries = self.decision.record.entries
        return {day for day in self.contents.by_day if entries[day].status in statuses}

    def _held(self) -> set[int]:
        """Days of which no row is clean; a batch that failed holds no further one."""
        return self._days("held") - (set() if self.summary.passed else set(self.decision.judged))

    def _quarantined(self) -> dict[int, str]:
        held, counts = self._held(), self.contents.count(self.bad).tolist()
        return {
            day: f"held {content}" if day in held else f"bad {content}" if bad else NOTHING
            for (day, content), bad in zip(self.contents.by_day.items(), counts, strict=True)
        }

    def _good_rows(self, days: Set[int]) -> pa.Table:
        rows = ~self.bad & self.contents.rows_of(days)
        return self.batch.table.filter(pa.array(rows)).cast(schema.INTERACTIONS)

    def _kept_back(self, days: Set[int]) -> pa.Table:
        """Bad rows, and all rows of held days."""
        return self._with_reasons((self.bad | self.contents.rows_of(self._held())) & self.contents.rows_of(days))

    def _with_reasons(self, rows: Bools) -> pa.Table:
        """Rows with the names of all rules that each breaks."""
        places = np.flatnonzero(rows)
        reasons = np.full(len(places), "", dtype=object)
        for name, mask in self.masks.items():
            hit = mask[places]
            if hit.any():
                reasons[hit] += f"{name}; "
        reasons[reasons == ""] = DAY_HELD
        texts = pc.utf8_rtrim(pa.array(reasons, pa.string()), "; ")
        days = pa.array(self.batch.days[places] * US_PER_DAY).cast(schema.TIMESTAMP_TYPE)
        return self.batch.table.take(pa.array(places)).append_column(REASON, texts).append_column(DAY, days)
