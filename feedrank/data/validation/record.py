"""The record of days: what was judged before, with what outcome, and which days a person accepted.

A day is judged once, and again only when its rows change. Nobody can change a history that is long over, so an
accepted day stands, whatever it looks like; a held day waits for better rows or for `feedrank accept-day`.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from feedrank.data.validation.batch import Bools, Floats
from feedrank.errors import DataError
from feedrank.storage import new_file

FILE = "days.parquet"
OLD_FILE = "accepted_days.parquet"
"""Of releases before the record: the figures of accepted days alone."""

Status = Literal["accepted", "open", "held", "missing"]
"""`open`: good so far, and not over; `held`: its rows are kept from the clean table; `missing`: it has no rows."""
STATUSES: tuple[Status, ...] = get_args(Status)
WAITING: tuple[Status, ...] = ("held", "missing")
"""They wait for better rows, or for a person who accepts them."""
TEXTS = ("status", "content", "accepted_content", "since", "reason", "who", "at", "why")
"""Columns of the file that are no figures; "" for none."""
UNKNOWN = "?"
"""The content of a day that an earlier release accepted."""
NO_ROWS = ""
"""The content of a day without rows."""


@dataclass(frozen=True)
class DayEntry:
    """What is known of one day."""

    status: Status
    content: str
    """Fingerprint of the rows that were judged last."""
    accepted_content: str | None = None
    """Fingerprint of the rows that were accepted, if any were."""
    since: str = ""
    """When it was found held or missing (ISO 8601)."""
    reason: str = ""
    who: str = ""
    """The person who accepted it, if one did; `at` and `why` belong to it."""
    at: str = ""
    why: str = ""

    @property
    def never_accepted(self) -> bool:
        """Whether it is held, and was from the first."""
        return self.status == "held" and self.accepted_content is None

    @property
    def by_hand(self) -> bool:
        """Whether a person accepted it."""
        return self.status == "accepted" and bool(self.who)


@dataclass(frozen=True)
class DayRecord:
    """Entries by day (days since 1970-01-01), and figures of days (index: day; one column a figure).

    They are those that an accepted day had then, or a held one has that was never accepted: a person may accept it.
    """

    entries: Mapping[int, DayEntry]
    figures: pd.DataFrame

    @property
    def first_accepted(self) -> int | None:
        """The earliest accepted day."""
        return min((day for day, entry in self.entries.items() if entry.status == "accepted"), default=None)

    @property
    def held(self) -> frozenset[int]:
        """The days that are held."""
        return frozenset(day for day, entry in self.entries.items() if entry.status == "held")

    @property
    def waiting(self) -> list[date]:
        """The days that are held or missing, in order."""
        return [day_date(day) for day in sorted(self.entries) if self.entries[day].status in WAITING]

    def figure(self, name: str, days: Sequence[int]) -> Floats:
        """What the figure of each of the days was when it was accepted, [days]; NaN where it was not."""
        if name not in self.figures:
            return np.full(len(days), np.nan)
        waits = [day in self.entries and self.entries[day].never_accepted for day in days]
        return np.where(waits, np.nan, self.figures[name].reindex(list(days)).to_numpy(dtype=np.float64))

    def by_hand(self, days: Sequence[int]) -> Bools:
        """Which of the days a person accepted, [days]."""
        return np.array([day in self.entries and self.entries[day].by_hand for day in days], dtype=bool)

    def updated(self, entries: Mapping[int, DayEntry], figures: pd.DataFrame) -> "DayRecord":
        """With newer entries and figures in the place of those of the same days."""
        kept = self.figures[~self.figures.index.isin(figures.index)]
        return DayRecord({**self.entries, **entries}, pd.concat([kept, figures]).sort_index())

    def save(self, directory: Path) -> None:
        """Replaces the file in the output of a validation, all or nothing."""
        days = pd.Index(sorted(self.entries), name="day", dtype=np.int64)
        texts = pd.DataFrame([vars(self.entries[day]) for day in days], index=days, columns=list(TEXTS))
        with new_file(directory / FILE) as fresh:
            texts.join(self.figures).to_parquet(fresh)


EMPTY = DayRecord({}, pd.DataFrame())


def load_record(directory: Path) -> DayRecord:
    """The record in the output of a validation, of this release or of an earlier one; EMPTY if there is none.

    Raises:
        DataError: the file is damaged.
    """
    path = directory / FILE
    if path.is_file():
        frame = _read(path)
        if set(frame.columns) >= set(TEXTS) and set(frame["status"]) <= set(STATUSES):
            texts = zip(*(frame[name] for name in TEXTS), strict=True)
            entries = {int(day): DayEntry(*text) for day, text in zip(frame.index, texts, strict=True)}
            figures = frame.drop(columns=list(TEXTS))
            return DayRecord(entries, figures.dropna(how="all"))
        raise DataError(f"{path}: it is no record of days; remove it, and the next validation is a first import again")
    path = directory / OLD_FILE
    if not path.is_file():
        return EMPTY
    figures = _read(path)
    return DayRecord({int(day): DayEntry("accepted", UNKNOWN) for day in figures.index}, figures)


def share_record(output: Path, directory: Path) -> None:
    """Lets the validations that are given `directory` as `accepted` know the record of an output."""
    if (output / FILE).is_file():
        with new_file(directory / FILE) as fresh:
            shutil.copyfile(output / FILE, fresh)


def day_text(day: int) -> str:
    """A day since 1970-01-01 as YYYY-MM-DD."""
    return str(np.datetime64("1970-01-01") + day)


def day_date(day: int) -> date:
    """A day since 1970-01-01."""
    return date.fromisoformat(day_text(day))


def day_number(day: date) -> int:
    """Days since 1970-01-01."""
    return (day - date(1970, 1, 1)).days


def moment_text(moment: datetime) -> str:
    """ISO 8601 to the second."""
    return moment.isoformat(timespec="seconds")


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: can't be read ({error}); remove it, and the next validation is a first import again"
        ) from error
