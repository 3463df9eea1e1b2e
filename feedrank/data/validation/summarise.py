"""From the rules' results and the days' entries to the summary."""

from collections.abc import Sequence, Set
from datetime import datetime

import pyarrow.compute as pc

from feedrank import schema
from feedrank.config.validation import ValidationConfig
from feedrank.data.validation.batch import Batch, Bools
from feedrank.data.validation.contents import Contents
from feedrank.data.validation.day_rules import DAILY, SHOWN_DAYS, SHOWN_RULES
from feedrank.data.validation.decide import Decision
from feedrank.data.validation.facts import FRESHNESS
from feedrank.data.validation.record import WAITING, DayRecord, Status, day_date, day_text
from feedrank.data.validation.rules import Judged
from feedrank.data.validation.summary import AcceptedDay, RuleResult, ValidationSummary, WaitingDay

REMEDY = "mend the source and ingest again, or: feedrank accept-day DATE --why …"


def refused_types(types: RuleResult, *, config: ValidationConfig, first_import: bool) -> ValidationSummary:
    """The summary of a table whose columns or types are wrong: nothing else could be judged."""
    return ValidationSummary(
        passed=False,
        rows=0,
        clean_rows=0,
        quarantined_rows=0,
        judged_rows=0,
        bad_share=0.0,
        max_bad_share=config.max_bad_share,
        start=None,
        end=None,
        problems=(f"{types.name}: {types.message}",),
        first_import=first_import,
        rules=(types,),
    )


def summarise(
    results: Sequence[RuleResult],
    *,
    judged: Judged,
    contents: Contents,
    bad: Bools,
    decision: Decision,
    forgiven: Set[str],
    config: ValidationConfig,
) -> ValidationSummary:
    """What fails the batch, what is an alarm, and what is a warning."""
    record, rows = decision.record, judged.batch.table.num_rows
    held = contents.rows_of(set(record.held))
    clean_rows = int((~bad & ~held).sum())
    judged_rows = int(contents.rows[judged.shares.judged].sum())
    share = int(judged.shares.bad[judged.shares.judged].sum()) / max(judged_rows, 1)
    start, end = _span(judged.candidates)
    return ValidationSummary(
        passed=not (problems := _problems(results, share, judged=judged, decision=decision, config=config)),
        rows=rows,
        clean_rows=clean_rows,
        quarantined_rows=rows - clean_rows,
        judged_rows=judged_rows,
        bad_share=share,
        max_bad_share=config.max_bad_share,
        start=start,
        end=end,
        problems=tuple(problems),
        alarms=tuple(_alarms(results, judged=judged, decision=decision)),
        warnings=tuple(_warnings(results, decision, forgiven)),
        first_import=judged.first_import,
        judged_days=tuple(day_date(day) for day in decision.judged),
        held_days=_waiting(record, "held"),
        missing_days=_waiting(record, "missing"),
        accepted_days=_accepted(record),
        rules=tuple(results),
    )


def _span(batch: Batch) -> tuple[datetime | None, datetime | None]:
    span = pc.min_max(batch.table[schema.TIMESTAMP]).as_py()
    return span["min"], span["max"]


def _problems(
    results: Sequence[RuleResult], share: float, *, judged: Judged, decision: Decision, config: ValidationConfig
) -> list[str]:
    """What is wrong with the batch itself; a day is wrong by itself, and old rows fail a first import only."""
    whole = [r for r in results if r.kind == "table" and not r.passed and not r.name.startswith(DAILY)]
    problems = [f"{r.name}: {r.message}" for r in whole if judged.first_import or r.name != FRESHNESS]
    spoilt, accepted = len(decision.spoilt), decision.accepted_before
    if judged.first_import and share > config.max_bad_share:
        problems.append(_bad_share(results, share, config))
    elif spoilt > max(accepted / 2, config.history.min_days):
        changed = f"{spoilt} of {accepted} days that were accepted have changed and are wrong now"
        problems.append(f"{changed}; {_bad_share(results, share, config)}")
    return problems


def _bad_share(results: Sequence[RuleResult], share: float, config: ValidationConfig) -> str:
    broken = sorted((r for r in results if r.bad_rows), key=lambda r: -r.bad_rows)
    names = ", ".join(f"{r.name} ({r.bad_rows})" for r in broken[:SHOWN_RULES])
    return f"{share:.2%} of the judged rows are bad, allowed are {config.max_bad_share:.2%}: {names}"


def _alarms(results: Sequence[RuleResult], *, judged: Judged, decision: Decision) -> list[str]:
    stale = [f"{r.name}: {r.message}" for r in results if r.name == FRESHNESS and not r.passed]
    days = [_told(decision.record, decision.alarms, status) for status in WAITING]
    return [*(text for text in days if text), *([] if judged.first_import else stale)]


def _warnings(results: Sequence[RuleResult], decision: Decision, forgiven: Set[str]) -> list[str]:
    odd = [r for r in results if r.status == "warning" or (r.status == "failed" and r.name in forgiven)]
    entries = decision.record.entries
    since_before = sorted(day for day in entries if entries[day].status in WAITING and day not in decision.alarms)
    days = [_told(decision.record, since_before, status) for status in WAITING]
    return [*(f"{r.name}: {r.message}" for r in odd), *(f"still {text}" for text in days if text)]


def _told(record: DayRecord, days: Sequence[int], status: Status) -> str:
    """A sentence about the days that have a status; "" if none has."""
    of_it = [day for day in days if record.entries[day].status == status]
    if not of_it:
        return ""
    shown = "; ".join(f"{day_text(day)} ({record.entries[day].reason})" for day in of_it[:SHOWN_DAYS])
    more = f" and {len(of_it) - SHOWN_DAYS} more days" if len(of_it) > SHOWN_DAYS else ""
    return f"{status}: {shown}{more}; {REMEDY}"


def _waiting(record: DayRecord, status: Status) -> tuple[WaitingDay, ...]:
    return tuple(
        WaitingDay(date=day_date(day), since=datetime.fromisoformat(entry.since), reason=entry.reason)
        for day, entry in sorted(record.entries.items())
        if entry.status == status
    )


def _accepted(record: DayRecord) -> tuple[AcceptedDay, ...]:
    return tuple(
        AcceptedDay(date=day_date(day), who=entry.who, at=datetime.fromisoformat(entry.at), why=entry.why)
        for day, entry in sorted(record.entries.items())
        if entry.by_hand
    )
