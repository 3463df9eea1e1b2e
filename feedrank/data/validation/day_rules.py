"""The rules about single days: their share of bad rows, and each figure against the days before."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import pandas as pd

from feedrank import schema
from feedrank.config.validation import ValidationConfig
from feedrank.data.validation.batch import Bools, Floats, Ints
from feedrank.data.validation.contents import Contents
from feedrank.data.validation.history import MISSING_DAYS, Comparison, History
from feedrank.data.validation.record import DayRecord, day_text
from feedrank.data.validation.summary import RuleResult

SHOWN_DAYS, SHOWN_RULES = 3, 3
DAILY = "daily_"
"""Prefix of rules about single days."""
BAD_ROWS_RULE = f"{DAILY}bad_rows"
BAD_SHARE = "bad_share"
"""Figure of an accepted day: the share of its rows that are bad."""
DEVICE_SHARES = tuple(f"{device}_share" for device in schema.DEVICES)


@dataclass(frozen=True)
class Finding:
    """What a rule says of one day that is judged now."""

    day: int
    rule: str
    text: str
    holds: bool
    """The day is kept from the clean table; else it is only told."""
    past: bool = False
    """It is older than every accepted day: nobody can change it."""


@dataclass(frozen=True)
class DayShares:
    """The bad rows of each day with rows, [days]."""

    contents: Contents
    bad: Ints
    share: Floats
    """Of the day's rows, or of a usual day's rows if it has fewer: a few stray rows are no bad day."""
    allowed: Floats
    judged: Bools

    @property
    def excess(self) -> Floats:
        """Above 0 where a judged day has too many bad rows, [days]."""
        return np.where(self.judged, self.share - self.allowed, -1.0)


def day_shares(
    contents: Contents, bad: Bools, *, settled: Set[int], record: DayRecord, config: ValidationConfig
) -> DayShares:
    """A day that a person accepted may go on having as many bad rows as it had then."""
    days, counts = contents.days.tolist(), contents.count(bad)
    accepted = np.where(record.by_hand(days), record.figure(BAD_SHARE, days), 0.0)
    return DayShares(
        contents=contents,
        bad=counts,
        share=counts / np.maximum(contents.rows, _usual_rows(contents.rows, config.history.window_days)),
        allowed=config.max_bad_share + np.nan_to_num(accepted),
        judged=np.array([day not in settled for day in days], dtype=bool),
    )


def _usual_rows(rows: Ints, window: int) -> Floats:
    """The median of the days before each, [days]; that of all days for the first."""
    medians = pd.Series(rows, dtype=np.float64).shift().rolling(window, min_periods=1).median()
    return medians.fillna(float(np.median(rows)) if len(rows) else 0.0).to_numpy()


def share_findings(
    shares: DayShares, places: Sequence[int], masks: Mapping[str, Bools], config: ValidationConfig
) -> list[Finding]:
    """What is wrong with the rows of the days at these places."""
    counts = {name: shares.contents.count(mask) for name, mask in masks.items()} if places else {}
    found = []
    for place in places:
        broken = sorted(((int(count[place]), name) for name, count in counts.items() if count[place]), reverse=True)
        names = ", ".join(f"{name} ({count})" for count, name in broken[:SHOWN_RULES])
        rows = f"{shares.bad[place]} of its {shares.contents.rows[place]} rows are bad"
        text = f"{rows}, allowed are {config.max_bad_share:.2%}: {names}"
        found.append(Finding(int(shares.contents.days[place]), BAD_ROWS_RULE, text, holds=True))
    return found


def share_result(shares: DayShares, found: Sequence[Finding], config: ValidationConfig) -> RuleResult:
    """The outcome of the rule about bad rows."""
    return RuleResult(
        name=BAD_ROWS_RULE,
        kind="table",
        status="failed" if found else "passed",
        observed=f"{int(shares.judged.sum())} days judged, {len(found)} have too many bad rows",
        expected=f"at most {config.max_bad_share:.2%} of the rows of each day",
        message=_told(found),
    )


def excesses(history: History | None) -> Floats:
    """Of every figure and day, [figures * days]; above 1 the day stands out."""
    comparisons = () if history is None else history.comparisons
    return np.concatenate([np.array([]), *(np.minimum(c.excess, 1e9) for c in comparisons)])


def day_outcomes(
    history: History | None, odd: Iterable[int], *, forgiven: Set[str]
) -> tuple[list[RuleResult], list[Finding]]:
    """The outcome of each figure's rule, and what they say of the days; `odd` are the places of `excesses` above 1."""
    results, findings = [], []
    places = np.fromiter(odd, dtype=np.int64)
    for number, comparison in enumerate(() if history is None else history.comparisons):
        count = len(comparison.value)
        days = places[places // count == number] % count
        found = _findings(comparison, days, first=history.days.first if history else 0, forgiven=forgiven)
        results.append(_result(comparison, days, found))
        findings += found
    return results, findings


def _findings(comparison: Comparison, odd: Ints, *, first: int, forgiven: Set[str]) -> list[Finding]:
    """The worst day first."""
    standing, rule = comparison.standing, f"{DAILY}{comparison.name}"
    return [
        Finding(
            day=first + place,
            rule=rule,
            text=f"{comparison.value[place]:.4g} instead of about {comparison.expected[place]:.4g}",
            holds=not standing.past[place] and rule not in forgiven,
            past=bool(standing.past[place]),
        )
        for place in sorted(odd[standing.told[odd]].tolist(), key=lambda p: -comparison.excess[p])
    ]


def _result(comparison: Comparison, odd: Ints, found: Sequence[Finding]) -> RuleResult:
    name, standing = f"{DAILY}{comparison.name}", comparison.standing
    expected = "each day near the median of the days (or same weekdays) before it"
    if not comparison.judged:
        return RuleResult(
            name=name,
            kind="table",
            status="not_evaluated",
            observed="too few days with enough rows before it",
            expected=expected,
        )
    judged = int((np.isfinite(comparison.excess) & standing.judged).sum())
    accepted = int((standing.unchanged & standing.judged)[odd].sum())
    failed = any(not finding.past for finding in found)
    return RuleResult(
        name=name,
        kind="table",
        status="failed" if failed else "warning" if found else "passed",
        observed=f"{judged} days judged, {len(found)} stand out{f', {accepted} accepted before' if accepted else ''}",
        expected=expected,
        message=_told(found) + (_remedy(comparison.name) if failed else ""),
    )


def _told(found: Sequence[Finding]) -> str:
    """The worst days, which come first, in order."""
    shown = sorted(found[:SHOWN_DAYS], key=lambda finding: finding.day)
    more = f" and {len(found) - SHOWN_DAYS} more days" if len(found) > SHOWN_DAYS else ""
    return "; ".join(f"{day_text(finding.day)}: {finding.text}" for finding in shown) + more


def _remedy(figure: str) -> str:
    if figure == MISSING_DAYS:
        return " (ingest the missing days, or accept that they are lost: feedrank accept-day)"
    setting = "device_share" if figure.endswith(DEVICE_SHARES) else figure
    return (
        " (mend the source and ingest again; if that is right, feedrank accept-day, or widen "
        f"validation.history.{setting} where such days are usual)"
    )
