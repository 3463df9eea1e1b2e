"""Validates a partitioned table: good rows to `clean/`, bad ones to `quarantine/`, and the reports."""

from collections.abc import Sequence, Set
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feedrank import schema
from feedrank.config.validation import ValidationConfig
from feedrank.data.ingest_facts import read_facts
from feedrank.data.links import link_file, link_tree
from feedrank.data.validation import accepted as accepted_days
from feedrank.data.validation.accepted import AcceptedDays, load_accepted
from feedrank.data.validation.batch import Batch, Bools, Limits, column_types, load
from feedrank.data.validation.history import History, compare_days
from feedrank.data.validation.report import render
from feedrank.data.validation.row_rules import RowRule, row_rules
from feedrank.data.validation.rules import judge, judge_types
from feedrank.data.validation.summary import RuleResult, ValidationSummary
from feedrank.errors import ValidationFailedError
from feedrank.storage import new_directory
from feedrank.tables import COMPRESSION, write_partitioned

DRIFTING = frozenset(
    f"daily_{figure}"
    for figure in ("click_rate", "like_rate", "share_rate", "hour_profile", "new_user_share", "new_item_share")
) | {f"daily_{device}_share" for device in schema.DEVICES}
"""Rules that a change of the users' behaviour breaks, and no fault of the data alone."""
CLEAN, QUARANTINE, REPORT, SUMMARY = "clean", "quarantine", "report.html", "summary.json"


def validate(
    interactions: Path,
    *,
    output: Path,
    config: ValidationConfig,
    now: datetime | None = None,
    num_users: int | None = None,
    num_items: int | None = None,
    drift_expected: bool = False,
    accepted: Path | None = None,
) -> ValidationSummary:
    """Judges the table `interactions` and writes `output`/clean, quarantine, report.html and summary.json.

    When the batch fails, the reports and the quarantine are written all the same, and `clean` stays what it was. When
    it passes, its days are accepted. Where no day was accepted before, it is a first import: a day unlike the days
    before it is a warning then, as nobody can change what is long over.

    Args:
        now: rows after it are from the future; the clock's time if unset.
        num_users: size of the user catalogue (ids below it), if known.
        num_items: the same for items.
        drift_expected: days on which users behave otherwise (`DRIFTING`) are reported, and do not fail the batch: what
            a retraining is for must not stop it.
        accepted: output of another validation whose accepted days count, too.

    Raises:
        ValidationFailedError: a table rule failed, or more than `max_bad_share` of the rows is bad.
        DataError: there is no table, or it can't be read.
        StorageError: another run is writing `output`.
    """
    moment = datetime.now(UTC) if now is None else now
    limits = Limits(now_us=int(moment.timestamp() * 1_000_000), num_users=num_users, num_items=num_items)
    with new_directory(output) as fresh:
        forgiven = DRIFTING if drift_expected else frozenset()
        days = load_accepted(output, accepted)
        summary = _validate(interactions, fresh, config=config, limits=limits, forgiven=forgiven, accepted=days)
        if not summary.passed:
            _keep_earlier(output, fresh)
    if not summary.passed:
        raise ValidationFailedError(
            f"{interactions}: the batch failed validation: {'; '.join(summary.problems)}; see {output / REPORT}"
        )
    return summary


def _keep_earlier(output: Path, fresh: Path) -> None:
    """Carries the last good table and its days over a batch that failed."""
    if (output / CLEAN).is_dir():
        link_tree(output / CLEAN, fresh / CLEAN)
    if (output / accepted_days.FILE).is_file():
        link_file(output / accepted_days.FILE, fresh / accepted_days.FILE)


def _validate(
    interactions: Path,
    fresh: Path,
    *,
    config: ValidationConfig,
    limits: Limits,
    forgiven: Set[str],
    accepted: AcceptedDays | None,
) -> ValidationSummary:
    types = judge_types(column_types(interactions))
    if not types.passed:
        summary = _summary([types], rows=0, bad=0, span=None, config=config, first_import=accepted is None)
        _write_reports(fresh, summary, history=None, quarantine=None, config=config)
        return summary
    batch, rules = load(interactions, limits), row_rules()
    masks = {rule.name: rule.bad(batch, config) for rule in rules}
    bad = np.logical_or.reduce(list(masks.values()))
    good = batch.good(bad)
    history = compare_days(good, config.history, accepted=accepted) if good.table.num_rows else None
    judged = judge(batch, good, rules, masks, history=history, ingested=read_facts(interactions), config=config)
    summary = _summary(
        [types, *judged],
        rows=batch.table.num_rows,
        bad=int(bad.sum()),
        span=_span(good),
        config=config,
        forgiven=forgiven,
        first_import=accepted is None,
    )
    quarantine = _with_reasons(batch, rules, masks, bad)
    _write_quarantine(quarantine, fresh / QUARANTINE)
    if summary.passed:
        write_partitioned(good.table.cast(schema.INTERACTIONS), fresh / CLEAN)
        _accept(history, accepted, fresh)
    _write_reports(fresh, summary, history=history, quarantine=quarantine, config=config)
    return summary


def _accept(history: History | None, earlier: AcceptedDays | None, fresh: Path) -> None:
    if history is not None:
        days = history.accepted()
        (days if earlier is None else earlier.updated(days)).save(fresh)


def _span(batch: Batch) -> tuple[datetime, datetime] | None:
    if not batch.table.num_rows:
        return None
    span = pc.min_max(batch.table[schema.TIMESTAMP]).as_py()
    return span["min"], span["max"]


def _summary(
    results: Sequence[RuleResult],
    *,
    rows: int,
    bad: int,
    span: tuple[datetime, datetime] | None,
    config: ValidationConfig,
    forgiven: Set[str] = frozenset(),
    first_import: bool,
) -> ValidationSummary:
    share = bad / rows if rows else 0.0
    failed = [r for r in results if r.kind == "table" and not r.passed]
    problems = [f"{r.name}: {r.message}" for r in failed if r.name not in forgiven]
    warnings = [r for r in results if r.status == "warning" or (r in failed and r.name in forgiven)]
    if share > config.max_bad_share:
        broken = sorted((r for r in results if r.bad_rows), key=lambda r: -r.bad_rows)
        names = ", ".join(f"{r.name} ({r.bad_rows})" for r in broken[:3])
        problems.append(f"{share:.2%} of the rows are bad, allowed are {config.max_bad_share:.2%}: {names}")
    return ValidationSummary(
        passed=not problems,
        rows=rows,
        clean_rows=rows - bad,
        quarantined_rows=bad,
        bad_share=share,
        max_bad_share=config.max_bad_share,
        start=None if span is None else span[0],
        end=None if span is None else span[1],
        problems=tuple(problems),
        warnings=tuple(f"{r.name}: {r.message}" for r in warnings),
        first_import=first_import,
        rules=tuple(results),
    )


def _with_reasons(batch: Batch, rules: Sequence[RowRule], masks: dict[str, Bools], bad: Bools) -> pa.Table:
    """The bad rows with the names of all rules that each breaks."""
    places = np.flatnonzero(bad)
    reasons = np.full(len(places), "", dtype=object)
    for rule in rules:
        hit = masks[rule.name][places]
        if hit.any():
            reasons[hit] += f"{rule.name}; "
    texts = pc.utf8_rtrim(pa.array(reasons, pa.string()), "; ")
    return batch.table.take(pa.array(places)).append_column("reason", texts)


def _write_quarantine(rows: pa.Table, directory: Path) -> None:
    """One folder `rule=NAME` for the first broken rule of each row."""
    directory.mkdir()
    if not rows.num_rows:
        return
    first = pc.list_element(pc.split_pattern(rows["reason"], "; "), 0)
    for name in pc.unique(first).to_pylist():
        folder = directory / f"rule={name}"
        folder.mkdir()
        pq.write_table(rows.filter(pc.equal(first, name)), folder / "part-0.parquet", compression=COMPRESSION)


def _write_reports(
    directory: Path,
    summary: ValidationSummary,
    *,
    history: History | None,
    quarantine: pa.Table | None,
    config: ValidationConfig,
) -> None:
    (directory / SUMMARY).write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")
    page = render(summary, history=history, quarantine=quarantine, sample_rows=config.sample_rows)
    (directory / REPORT).write_text(page, encoding="utf-8")
