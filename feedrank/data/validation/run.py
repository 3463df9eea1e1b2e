"""Validates a partitioned table: the days that are new or changed are judged; good rows go to `clean`, bad ones and
those of held days to `quarantine`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from feedrank import schema
from feedrank.config.validation import ValidationConfig
from feedrank.data.ingest_facts import read_facts
from feedrank.data.validation.batch import Bools, Limits, column_types, load
from feedrank.data.validation.contents import day_contents
from feedrank.data.validation.day_rules import day_shares
from feedrank.data.validation.decide import decide_days, settled_days
from feedrank.data.validation.history import History, compare_days
from feedrank.data.validation.outcome import Outcome
from feedrank.data.validation.record import EMPTY, DayRecord, load_record
from feedrank.data.validation.report import render
from feedrank.data.validation.row_rules import row_rules
from feedrank.data.validation.rules import Judged, judge, judge_types
from feedrank.data.validation.summarise import refused_types, summarise
from feedrank.data.validation.summary import RuleResult, ValidationSummary
from feedrank.delta import is_table, open_table
from feedrank.errors import ValidationFailedError
from feedrank.storage import exclusive, recover, write_text

DRIFTING = frozenset(
    f"daily_{figure}"
    for figure in ("click_rate", "like_rate", "share_rate", "hour_profile", "new_user_share", "new_item_share")
) | {f"daily_{device}_share" for device in schema.DEVICES}
"""Rules that a change of the users' behaviour breaks, and no fault of the data alone."""
REPORT, SUMMARY = "report.html", "summary.json"


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
    """Judges what is new in the table `interactions`; writes `output`/clean, quarantine, report.html and summary.json.

    A day is new if it wasn't judged before or its rows have changed. A new day that is wrong is held: `clean` keeps
    what it had of it, the other days go on, and the summary's `alarms` say so once. Where no day was accepted before,
    it is a first import: a day unlike the days before it is a warning then, as nobody can change what is long over.
    When the batch is wrong in itself, `clean` and the record of days stay what they were.

    Args:
        interactions: the table.
        output: folder of the tables, the reports and the record of days.
        config: limits.
        now: rows after it are from the future; the clock's time if unset.
        num_users: size of the user catalogue (ids below it), if known.
        num_items: the same for items.
        drift_expected: days on which users behave otherwise (`DRIFTING`) are reported, and not held: what a retraining
            is for must not stop it.
        accepted: output of another validation, whose record of days counts instead of one in `output`.

    Raises:
        ValidationFailedError: the batch is wrong in itself.
        DataError: there is no table, or it can't be read.
        StorageError: another run is writing `output`.
    """
    moment = datetime.now(UTC) if now is None else now
    limits = Limits(now_us=int(moment.timestamp() * 1_000_000), num_users=num_users, num_items=num_items)
    with exclusive(output):
        types = judge_types(column_types(interactions))
        recover(output)
        output.mkdir(parents=True, exist_ok=True)
        record = _record(output, accepted)
        if types.passed:
            found = _judge(
                interactions, types, limits=limits, record=record, drift_expected=drift_expected, config=config
            )
            summary = found.summary
            found.write_tables(output, source=_version(interactions))
            _write_reports(output, summary, history=found.history, quarantine=found.bad_rows(), config=config)
            if summary.passed:
                found.decision.record.save(output)
        else:
            summary = refused_types(types, config=config, first_import=record.first_accepted is None)
            _write_reports(output, summary, history=None, quarantine=None, config=config)
    if not summary.passed:
        raise ValidationFailedError(
            f"{interactions}: the batch failed validation: {'; '.join(summary.problems)}; see {output / REPORT}"
        )
    return summary


def _version(interactions: Path) -> str:
    """Of the table; a folder that is none has only its name."""
    return str(open_table(interactions).version) if is_table(interactions) else str(interactions)


def _record(output: Path, accepted: Path | None) -> DayRecord:
    shared = EMPTY if accepted is None else load_record(accepted)
    return shared if shared.entries else load_record(output)


def _judge(
    interactions: Path,
    types: RuleResult,
    *,
    limits: Limits,
    record: DayRecord,
    drift_expected: bool,
    config: ValidationConfig,
) -> Outcome:
    batch = load(interactions, limits)
    contents = day_contents(batch)
    settled = settled_days(contents, record)
    batch = batch.with_settled(contents.rows_of(settled))
    rules = row_rules()
    masks = {rule.name: rule.bad(batch, config) for rule in rules}
    bad = np.logical_or.reduce(list(masks.values()))
    good = batch.only(~bad)
    history = None
    if good.table.num_rows:
        history = compare_days(good, config.history, record=record, settled=settled, present=contents.by_day.keys())
    judged = Judged(
        batch=batch,
        rules=rules,
        masks=_of_judged_days(masks, batch.settled),
        candidates=good.only(~np.isin(good.days, sorted(record.held & settled))),
        shares=day_shares(contents, bad, settled=settled, record=record, config=config),
        history=history,
        ingested=read_facts(interactions),
        first_import=record.first_accepted is None,
    )
    forgiven = DRIFTING if drift_expected else frozenset()
    judgement = judge(judged, forgiven=forgiven, config=config)
    decision = decide_days(
        contents,
        judgement.findings,
        history=history,
        bad_shares=pd.Series(judged.shares.share, index=contents.days),
        record=record,
        now_us=limits.now_us,
    )
    summary = summarise(
        [types, *judgement.results],
        judged=judged,
        contents=contents,
        bad=bad,
        decision=decision,
        forgiven=forgiven,
        config=config,
    )
    return Outcome(batch, contents, masks, bad, history, decision, summary)


def _of_judged_days(masks: Mapping[str, Bools], settled: Bools | None) -> Mapping[str, Bools]:
    return masks if settled is None else {name: mask & ~settled for name, mask in masks.items()}


def _write_reports(
    directory: Path,
    summary: ValidationSummary,
    *,
    history: History | None,
    quarantine: pa.Table | None,
    config: ValidationConfig,
) -> None:
    write_text(directory / SUMMARY, summary.model_dump_json(indent=2) + "\n")
    page = render(summary, history=history, quarantine=quarantine, sample_rows=config.sample_rows)
    write_text(directory / REPORT, page)
