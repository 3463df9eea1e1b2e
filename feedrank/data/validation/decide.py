"""What becomes of each day: accepted, open, held or missing; and what people are told of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pandas as pd

from feedrank.data.validation.contents import Contents
from feedrank.data.validation.day_rules import BAD_SHARE, DAILY, Finding
from feedrank.data.validation.history import MISSING_DAYS, History
from feedrank.data.validation.record import NO_ROWS, UNKNOWN, DayEntry, DayRecord, Status, moment_text
from feedrank.tables import US_PER_DAY

MISSING_RULE = f"{DAILY}{MISSING_DAYS}"


def settled_days(contents: Contents, record: DayRecord) -> frozenset[int]:
    """The days that are not judged again: their rows are those that were judged, or accepted, before."""
    now = contents.by_day
    return frozenset(
        day
        for day, entry in record.entries.items()
        if (entry.status != "open" and entry.content == now.get(day, NO_ROWS))
        or (day in now and entry.accepted_content == now[day] and entry.status == "held")
    )


@dataclass(frozen=True)
class Decision:
    """The entries of all days, and those that are new."""

    record: DayRecord
    judged: tuple[int, ...]
    """Days that were judged now."""
    alarms: tuple[int, ...]
    """Days of them that are held or missing, and weren't before."""
    spoilt: tuple[int, ...]
    """Days of them that had been accepted, and are held now."""
    accepted_before: int
    """Of the days with rows."""


def decide_days(
    contents: Contents,
    findings: Sequence[Finding],
    *,
    history: History | None,
    bad_shares: pd.Series,
    record: DayRecord,
    now_us: int,
) -> Decision:
    """Decides about every day that is not settled, from the rules' findings about it; `bad_shares` is by day."""
    now, settled = contents.by_day, settled_days(contents, record)
    gaps = [] if history is None else _over(history)
    today, moment = now_us // US_PER_DAY, moment_text(datetime.fromtimestamp(now_us // 1_000_000, UTC))
    entries = {day: _restored(record.entries[day], now.get(day, NO_ROWS)) for day in settled}
    judged = sorted({*now, *gaps} - settled)
    for day in judged:
        reasons = [finding for finding in findings if finding.day == day and finding.holds]
        entries[day] = _decided(
            record.entries.get(day), now.get(day, NO_ROWS), reasons, over=day < today, moment=moment
        )
    told = [day for day in judged if entries[day].status in ("held", "missing")]
    return Decision(
        record=record.updated(entries, _figures(history, bad_shares, entries)),
        judged=tuple(judged),
        alarms=tuple(day for day in told if not _told_before(record.entries.get(day), entries[day])),
        accepted_before=sum(_was_accepted(record.entries.get(day)) for day in now),
        spoilt=tuple(day for day in told if day in now and _was_accepted(record.entries.get(day))),
    )


def _over(history: History) -> range:
    first = history.days.first
    return range(first, first + min(history.days.count, max(history.today, 0)))


def _restored(entry: DayEntry, content: str) -> DayEntry:
    """A held day whose accepted rows are back is accepted again."""
    if entry.status == "held" and entry.accepted_content == content != entry.content:
        return replace(entry, status="accepted", content=content, since="", reason="")
    return entry


def _decided(before: DayEntry | None, content: str, reasons: Sequence[Finding], *, over: bool, moment: str) -> DayEntry:
    earlier = before or DayEntry("open", content)
    texts = [f"{finding.rule}: {finding.text}" for finding in reasons]
    if content == NO_ROWS and _was_accepted(before) and earlier.content != UNKNOWN:
        texts = texts or [f"{MISSING_RULE}: no rows are left of it"]
    if not texts:
        good: Status = "accepted" if over else "open"
        return replace(earlier, status=good, content=content, accepted_content=content, since="", reason="")
    status: Status = "missing" if content == NO_ROWS else "held"
    since = earlier.since if earlier.status == status else moment
    return replace(earlier, status=status, content=content, since=since, reason="; ".join(texts))


def _was_accepted(entry: DayEntry | None) -> bool:
    return entry is not None and entry.status == "accepted" and entry.content != NO_ROWS


def _told_before(before: DayEntry | None, entry: DayEntry) -> bool:
    return before is not None and before.status == entry.status


def _figures(history: History | None, bad_shares: pd.Series, entries: Mapping[int, DayEntry]) -> pd.DataFrame:
    """Those of accepted days, and of days that a person may accept, as they are now."""
    figures = bad_shares.to_frame(BAD_SHARE)
    if history is not None:
        figures = figures.join(history.figures, how="outer")
    return figures[[day in entries and _keeps_figures(entries[day]) for day in figures.index]]


def _keeps_figures(entry: DayEntry) -> bool:
    return entry.status == "accepted" or entry.never_accepted
