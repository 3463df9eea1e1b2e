"""The rules of a batch: what is checked, and how each verdict reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from feedrank import schema
from feedrank.config.validation import ValidationConfig
from feedrank.data.validation.batch import Batch, Bools, ColumnType
from feedrank.data.validation.expectations import Check, Table, Verdict, run_checks
from feedrank.data.validation.history import Comparison, History
from feedrank.data.validation.row_rules import RowRule
from feedrank.data.validation.summary import RuleResult, Status

US_PER_HOUR = 3_600_000_000
SHOWN_DAYS = 3
MUST_VARY = (schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP)
SCHEMA_RULE = "schema"
WARNING_RULE = "click_has_both_classes"


@dataclass(frozen=True)
class BatchFact:
    """One figure of the whole batch with its limits; None for the value if it can't be evaluated."""

    name: str
    value: float | None
    expected: str
    min_value: float | None = None
    max_value: float | None = None


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
    rules: Sequence[RowRule],
    masks: dict[str, Bools],
    history: History | None,
    config: ValidationConfig,
) -> list[RuleResult]:
    """Runs every rule but that of the schema."""
    counts = {rule.name: int(masks[rule.name].sum()) for rule in rules}
    facts = _facts(batch, config)
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


def _facts(batch: Batch, config: ValidationConfig) -> list[BatchFact]:
    rows = batch.table.num_rows
    age = (batch.limits.now_us - int(batch.times.max())) / US_PER_HOUR if rows else None
    enough = rows >= config.min_rows_to_vary
    return [
        BatchFact("row_count", rows, f"at least {config.min_rows} rows", min_value=config.min_rows),
        BatchFact(
            "freshness",
            None if config.max_age_hours is None else age,
            "no limit is configured"
            if config.max_age_hours is None
            else f"newest row at most {config.max_age_hours:g} h old",
            max_value=config.max_age_hours,
        ),
        *(
            BatchFact(
                f"{name}_varies",
                float(np.ptp(batch.ints(name)) > 0) if enough else None,
                f"more than one value in {config.min_rows_to_vary} rows or more",
                min_value=1,
            )
            for name in MUST_VARY
        ),
        BatchFact(
            WARNING_RULE,
            float(np.ptp(batch.clicks) > 0) if rows else None,
            "clicks and non-clicks (without both, no model can be trained)",
            min_value=1,
        ),
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
    observed = "not evaluated" if fact.value is None else f"{fact.value:g}"
    if fact.name.endswith(("_varies", "_classes")) and fact.value is not None:
        observed = "varies" if fact.value else "constant"
    failed: Status = "warning" if fact.name == WARNING_RULE else "failed"
    return RuleResult(
        name=fact.name,
        kind="table",
        status="not_evaluated" if verdict is None else "passed" if verdict.met else failed,
        observed=observed,
        expected=fact.expected,
        message="" if verdict is None or verdict.met else f"{observed}, expected {fact.expected}",
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
    worst = sorted(verdict.places, key=lambda p: -comparison.excess[p])
    shown = [
        f"{history.days.label(p)}: {comparison.value[p]:.4g} instead of about {comparison.expected[p]:.4g}"
        for p in sorted(worst[:SHOWN_DAYS])
    ]
    more = f" and {len(worst) - SHOWN_DAYS} more days" if len(worst) > SHOWN_DAYS else ""
    return RuleResult(
        name=name,
        kind="table",
        status="passed" if verdict.met else "failed",
        observed=f"{judged} days judged, {len(worst)} stand out",
        expected=expected,
        message="; ".join(shown) + more,
    )
