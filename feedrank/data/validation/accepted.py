"""The days that were accepted: their figures, kept beside the clean table.

Nobody can change a history that is long over. So the days of a first import are reported where they stand out, and do
not fail it; afterwards a day that was accepted stands out only if it is no longer what it was.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from feedrank.data.validation.batch import Floats
from feedrank.data.validation.daily import Days
from feedrank.errors import DataError
from feedrank.storage import new_file

FILE = "accepted_days.parquet"


@dataclass(frozen=True)
class AcceptedDays:
    """The figures of accepted days, at least one: one row a day (index: days since 1970-01-01), one column a figure."""

    figures: pd.DataFrame

    @property
    def first_day(self) -> int:
        """Days since 1970-01-01."""
        return int(self.figures.index.min())

    def of(self, figure: str, days: Days) -> Floats:
        """What the figure of each of the days was when it was accepted, [days]; NaN where it was not."""
        if figure not in self.figures:
            return np.full(days.count, np.nan)
        wanted = np.arange(days.first, days.first + days.count)
        return self.figures[figure].reindex(wanted).to_numpy(dtype=np.float64)

    def updated(self, newer: "AcceptedDays") -> "AcceptedDays":
        """With the days of a newer record, which replace the same days here."""
        kept = self.figures[~self.figures.index.isin(newer.figures.index)]
        return AcceptedDays(pd.concat([kept, newer.figures]).sort_index())

    def save(self, directory: Path) -> None:
        """Writes them, if there are any, into the output of a validation."""
        if len(self.figures):
            self.figures.to_parquet(directory / FILE)


def load_accepted(*outputs: Path | None) -> AcceptedDays | None:
    """The accepted days of one or more outputs of a validation, the first wins; None if there are none.

    Raises:
        DataError: the file is damaged.
    """
    records = [_load(output / FILE) for output in outputs if output is not None and (output / FILE).is_file()]
    if not records:
        return None
    accepted = records[-1]
    for record in reversed(records[:-1]):
        accepted = accepted.updated(record)
    return accepted


def share_accepted(output: Path, directory: Path) -> None:
    """Lets the validations that are given `directory` as `accepted` know the accepted days of an output."""
    if (output / FILE).is_file():
        with new_file(directory / FILE) as fresh:
            shutil.copyfile(output / FILE, fresh)


def _load(path: Path) -> AcceptedDays:
    try:
        return AcceptedDays(pd.read_parquet(path))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: can't be read ({error}); remove it, and the next validation is a first import again"
        ) from error
