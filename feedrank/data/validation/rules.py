"""The rules of a batch: what is checked, and how each verdict reads."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from feedrank import schema
from feedrank.config.validation import ValidationConfig
from feedrank.data.ingest_facts import IngestFacts
from feedrank.data.validation.batch import Batch, Bools, ColumnType
from feedrank.data.validation.expectations import Check, Table, Verdict, run_checks
from feedrank.data.validation.facts import BatchFact, batch_facts
from feedrank.data.validation.history import MISSING_DAYS, Comparison, History
from feedrank.data.validation.row_rules import RowRule
from feedrank.data.validation.summary import RuleResult

SHOWN_DAYS = 3
DEVICE_SHARES = tuple(f"{device}_share" for device in schema.DEVICES)
SCHEMA_RULE = "schema"


def judge_types(types: Sequence[ColumnType]) -> RuleResult:
    """Whether names and types are those of the schema."""
    frame = pd.DataFrame([vars(t) for t in types])
    check = Check(SCHEMA_RULE, "types", "expected", "names and types of the columns", equal_to="found")
    verdict = run_checks({"types": frame}, [check])[SCHEMA_RULE]
    wrong = [f"{types[p].column} is {types[p].found}, expected {types[p].expected}" for p in verdict.places]
    return RuleResult(
        name=SCHEMA_RULE,
        kind="table",
        status="passed" if verdict.met else "failed",
        observed=f"{len(types)} columns",
        expected="the columns and types of feedrank.schema.INTERACTIONS, in any order",
        message="; ".join(wrong),
    )


def judge(
    batch: Batch,
    good: Batch,
    rules: Sequence[RowRule],
    masks: dict[str, Bools],
    *,
    history: History | None,
    ingested: IngestFacts | None,
    config: ValidationConfig,
) -> list[RuleResult]:
    """Runs every rule but that of the schema; `good` is the batch without its bad rows."""
    counts = {rule.name: int(masks[rule.name].sum()) for rule in rules}
    facts = batch_facts(batch, good, ingested=ingested, config=config)
    comparisons = () if history is None else history.comparisons
    tables: dict[Table, pd.DataFrame] = {
        "bad_rows": pd.DataFrame([counts]),
        "batch": pd.DataFrame([{fact.name: fact.value for fact in facts}], dtype=np.float64),
        "days": pd.DataFrame({c.name: np.minimum(c.excess, 1e9) for c in comparisons}),
    }
    checks = [
        *(Check(r.name, "bad_rows", r.name, f"no row breaks: {r.expected}", max_value=0) for r in rules),
        *(Check(f.name, "batch", f.name, f.expected, f.min_value, f.max_value) for f in facts if f.value is not None),
        *(
            Check(f"daily_{c.name}", "days", c.name, "each day near the days before", max_value=1)
            for c in comparisons
            if c.judged
        ),
    ]
    verdicts = run_checks(tables, checks)
    return [
        *(_row_result(rule, counts[rule.name], batch, verdicts[rule.name]) for rule in rules),
        *(_fact_result(fact, verdicts.get(fact.name)) for fact in facts),
        *(_day_result(c, history, verdicts.get(f"daily_{c.name}")) for c in comparisons if history),
    ]


def _row_result(rule: RowRule, bad: int, batch: Batch, verdict: Verdict) -> RuleResult:
    return RuleResult(
        name=rule.name,
        kind="row",
        status="passed" if verdict.met else "failed",
        bad_rows=bad,
        observed=f"{bad} of {batch.table.num_rows} rows break it",
        expected=rule.expected,
        message="" if verdict.met else f"{bad} rows are in the quarantine",
    )


def _fact_result(fact: BatchFact, verdict: Verdict | None) -> RuleResult:
    met = verdict is None or verdict.met
    remedy = f"; {fact.remedy}" if fact.remedy else ""
    return RuleResult(
        name=fact.name,
        kind="table",
        status="not_evaluated" if verdict is None else "passed" if met else fact.severity,
        observed=fact.observed,
        expected=fact.expected,
        message="" if met else f"{fact.observed}, expected {fact.expected}{remedy}",
    )


def _day_result(comparison: Comparison, history: History, verdict: Verdict | None) -> RuleResult:
    name = f"daily_{comparison.name}"
    expected = "each day near the median of the days (or same weekdays) before it"
    if verdict is None:
        return RuleResult(
            name=name,
            kind="table",
            status="not_evaluated",
            observed="too few days with enough rows before it",
            expected=expected,
        )
    judged = int(np.isfinite(comparison.excess).sum())
    odd, standing = list(verdict.places), comparison.standing
    told = [place for place in odd if not standing.unchanged[place]]
    failed = any(not standing.past[place] for place in told)
    accepted = f", {len(odd) - len(told)} accepted before" if len(odd) > len(told) else ""
    return RuleResult(
        name=name,
        kind="table",
        status="failed" if failed else "warning" if told else "passed",
        observed=f"{judged} days judged, {len(told)} stand out{accepted}",
        expected=expected,
        message=_days_told(comparison, told, history) + (_remedy(comparison.name) if failed else ""),
    )


def _days_told(comparison: Comparison, places: Sequence[int], history: History) -> str:
    worst = sorted(places, key=lambda p: -comparison.excess[p])
    shown = [
        f"{history.days.label(p)}: {comparison.value[p]:.4g} instead of about {comparison.expected[p]:.4g}"
        for p in sorted(worst[:SHOWN_DAYS])
    ]
    more = f" and {len(worst) - SHOWN_DAYS} more days" if len(worst) > SHOWN_DAYS else ""
    return "; ".join(shown) + more


def _remedy(figure: str) -> str:
    if figure == MISSING_DAYS:
        return " (ingest the missing days)"
    setting = "device_share" if figure.endswith(DEVICE_SHARES) else figure
    return f" (mend the source and ingest again, or if that is right, widen validation.history.{setting})"
