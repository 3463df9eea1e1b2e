"""A person accepts days that are held or missing: they are history then."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import pandas as pd

from feedrank.data.validation.record import DayEntry, DayRecord, day_number, load_record, moment_text
from feedrank.errors import ConfigError, DataError
from feedrank.storage import exclusive

SHOWN = 10


def accept_days(output: Path, days: Sequence[date], *, why: str, who: str, now: datetime) -> list[DayEntry]:
    """Records who accepted days of a validation's output, when and why; the next validation lets their rows in.

    All of them are accepted, or none. A day that the person accepted already stays as it is.

    Raises:
        ConfigError: no day, no reason or no name.
        DataError: nothing was validated, or a day is not over, unknown, or needs no acceptance.
        StorageError: a validation is running.
    """
    if not days:
        raise ConfigError("accept-day: no day is given; expected one or more dates YYYY-MM-DD")
    for name, text in (("--why: a reason", why), ("--who: a name", who)):
        if not text.strip():
            raise ConfigError(f"accept-day {name} is missing; it is kept with the day")
    with exclusive(output):
        record = load_record(output)
        if not record.entries:
            raise DataError(f"{output}: no day was judged yet; run `feedrank validate` first")
        entries = {day_number(day): _accepted(record, day, why=why, who=who, now=now) for day in days}
        record.updated(entries, pd.DataFrame()).save(output)
    return list(entries.values())


def _accepted(record: DayRecord, day: date, *, why: str, who: str, now: datetime) -> DayEntry:
    entry = record.entries.get(day_number(day))
    if day >= now.date():
        raise DataError(f"{day} is not over (now is {now:%Y-%m-%d %H:%M} UTC); accept it after it was judged")
    if entry is None:
        raise DataError(f"{day}: no validation has seen this day; {_waiting(record)}")
    if entry.by_hand:
        return entry
    if entry.status not in ("held", "missing"):
        raise DataError(f"{day} is {entry.status}, so there is nothing to accept; {_waiting(record)}")
    return replace(
        entry,
        status="accepted",
        accepted_content=entry.content,
        since="",
        reason=entry.reason,
        who=who,
        at=moment_text(now),
        why=why,
    )


def _waiting(record: DayRecord) -> str:
    days = record.waiting
    if not days:
        return "no day is held or missing"
    shown = ", ".join(str(day) for day in days[:SHOWN])
    return f"held or missing are {shown}{f' and {len(days) - SHOWN} more' if len(days) > SHOWN else ''}"
