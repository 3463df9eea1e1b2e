"""The rules of a batch: what is checked, how each verdict reads, and what it says of each day."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import pandas as pd

from feedrank.config.validation import ValidationConfig
from feedrank.data.ingest_facts import IngestFacts
from feedrank.data.validation.batch import Batch, Bools, ColumnType
from feedrank.data.validation.day_rules import (
    BAD_ROWS_RULE,
    DayShares,
    Finding,
    day_outcomes,
    excesses,
    share_findings,
    share_result,
)
from feedrank.data.validation.expectations import Check, Table, Verdict, run_checks
from feedrank.data.validation.facts import BatchFact, batch_facts
from feedrank.data.validation.history import History
from feedrank.data.validation.row_rules import RowRule
from feedrank.data.validation.summary import RuleResult

ROW_RULES, DAY_RULES = "rows_that_break_it", "distance"
"""One expectation for all rules about rows and one for all about days, as each costs milliseconds."""
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


@dataclass(frozen=True)
class Judgement:
    """The outcome of every rule, and what they say of single days."""

    results: list[RuleResult]
    findings: list[Finding]


@dataclass(frozen=True)
class Judged:
    """What the rules look at: all rows of the batch with their masks, and the figures of its days."""

    batch: Batch
    rules: Sequence[RowRule]
    masks: Mapping[str, Bools]
    """The rows that break each rule, of the days that are judged."""
    candidates: Batch
    """Good rows of days that are not held."""
    shares: DayShares
    history: History | None
    ingested: IngestFacts | None
    first_import: bool


def judge(judged: Judged, *, forgiven: Set[str], config: ValidationConfig) -> Judgement:
    """Runs every rule but that of the schema; the rules in `forgiven` hold no day."""
    counts = {rule.name: int(judged.masks[rule.name].sum()) for rule in judged.rules}
    facts = batch_facts(
        judged.batch, judged.candidates, ingested=judged.ingested, first_import=judged.first_import, config=config
    )
    tables: dict[Table, pd.DataFrame] = {
        "bad_rows": pd.DataFrame({ROW_RULES: list(counts.values())}),
        "batch": pd.DataFrame([{fact.name: fact.value for fact in facts}], dtype=np.float64),
        "shares": pd.DataFrame({BAD_ROWS_RULE: judged.shares.excess}),
        "days": pd.DataFrame({DAY_RULES: excesses(judged.history)}),
    }
    checks = [
        Check(ROW_RULES, "bad_rows", ROW_RULES, "no row breaks any of the rules about rows", max_value=0),
        *(Check(f.name, "batch", f.name, f.expected, f.min_value, f.max_value) for f in facts if f.value is not None),
        Check(BAD_ROWS_RULE, "shares", BAD_ROWS_RULE, "few bad rows on each day", max_value=0),
        Check(DAY_RULES, "days", DAY_RULES, "each day near the days before, by each figure", max_value=1),
    ]
    verdicts = run_checks(tables, checks)
    bad_days = share_findings(judged.shares, verdicts[BAD_ROWS_RULE].places, judged.masks, config)
    days, findings = day_outcomes(judged.history, verdicts[DAY_RULES].places, forgiven=forgiven)
    broken = set(verdicts[ROW_RULES].places)
    results = [
        *(_row_result(rule, counts[rule.name], met=place not in broken) for place, rule in enumerate(judged.rules)),
        *(_fact_result(fact, verdicts.get(fact.name)) for fact in facts),
        share_result(judged.shares, bad_days, config),
        *days,
    ]
    return Judgement(results, [*bad_days, *findings])


def _row_result(rule: RowRule, bad: int, *, met: bool) -> RuleResult:
    remedy = f"; {rule.remedy}" if rule.remedy else ""
    return RuleResult(
        name=rule.name,
        kind="row",
        status="passed" if met else "failed",
        bad_rows=bad,
        observed=f"{bad} rows of the judged days break it",
        expected=rule.expected,
        message="" if met else f"{bad} rows are in the quarantine{remedy}",
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
