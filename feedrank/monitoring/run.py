"""One monitoring run: what the CronJob, the pipeline's steps and `feedrank monitor` call.

It judges every window that ended since the last run (the latest one always again), and earlier ones whose feedback has
come since (see `schedule.py`); raises alarms, also of what does not arrive; sends alerts, decides on a retraining, and
writes the history, a report and the typed result:

    OUTPUT/history.parquet          one row per window and signal
    OUTPUT/retraining.jsonl         every trigger and its reasons
    OUTPUT/own_days/VERSION         what a model is compared with, see `own_days.py`
    OUTPUT/runs/TIME/result.json    `MonitoringResult`; beside it report.html
    OUTPUT/alerts.json, dead_letters.jsonl

An error (no reference, a damaged history, …) is alerted and raised; as the history is written last, the next run
makes up for the windows that this one could not finish.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from feedrank import storage
from feedrank.config.monitoring import MonitoringConfig
from feedrank.errors import FeedrankError, StorageError
from feedrank.monitoring import history as histories
from feedrank.monitoring.alerts import Alert, Alerter
from feedrank.monitoring.arrivals import read_arrivals
from feedrank.monitoring.channels import Channel, configured_channels
from feedrank.monitoring.due import judge_windows
from feedrank.monitoring.held_days import day_alerts
from feedrank.monitoring.reference import Reference, load_reference
from feedrank.monitoring.report import write_report
from feedrank.monitoring.results import (
    Alarm,
    AlertReport,
    MonitoringResult,
    TriggerDecision,
    WindowResult,
)
from feedrank.monitoring.rows import Sources
from feedrank.monitoring.silence import silence_alarms
from feedrank.monitoring.triggers import NOT_STARTED, RetrainingLog
from feedrank.monitoring.verdict import finding, verdict

RUNS, RESULT_FILE, REPORT_FILE = "runs", "result.json", "report.html"
OWN_DAYS = "own_days"
RETRAINING_KINDS = ("feature", "score", "performance")
"""Alarms that a retraining can mend; slow answers and broken feedback need a person."""


def monitor(
    *,
    reference_directory: Path,
    sources: Sources,
    output: Path,
    config: MonitoringConfig,
    now: datetime,
    channels: Sequence[Channel] | None = None,
    start_retraining: Callable[[TriggerDecision], None] | None = None,
) -> MonitoringResult:
    """Runs the monitor once and saves what it found below `output`.

    Args:
        reference_directory: `reference` in the bundle of the model that is watched (the champion).
        sources: prediction log and feedback.
        output: folder that all runs share.
        config: the monitoring configuration.
        now: the present time.
        channels: of the alerts; by default those of the configuration.
        start_retraining: starts a retraining; without it the caller acts on `trigger.start` of the result.

    Raises:
        StorageError: another monitor runs on the same output.
        FeedrankError: the run can't be done; an alert was sent.
    """
    now = now.astimezone(UTC)  # days, folders and texts are in UTC
    alerter = _alerter(output, config=config, channels=channels)
    with _only_monitor(output):
        try:
            result, history = _judge(
                load_reference(reference_directory), sources=sources, output=output, config=config, now=now,
                alerter=alerter, start_retraining=start_retraining,
            )  # fmt: skip
            storage.write_text(Path(result.report).with_name(RESULT_FILE), result.model_dump_json(indent=2))
            histories.write_history(history, output / histories.FILE, keep_days=config.history_days)
        except Exception as error:
            _alert_failure(error, alerter=alerter, now=now)
            raise
    return result


def alert_failure(
    error: Exception,
    *,
    output: Path,
    config: MonitoringConfig,
    now: datetime,
    channels: Sequence[Channel] | None = None,
) -> AlertReport:
    """Tells people that a step around the monitor failed, such as finding the champion in the registry."""
    return _alert_failure(error, alerter=_alerter(output, config=config, channels=channels), now=now)


def _alert_failure(error: Exception, *, alerter: Alerter, now: datetime) -> AlertReport:
    kind = type(error).__name__
    text = f"{error}; nothing is lost, the next run catches up" if isinstance(error, FeedrankError) else repr(error)
    alert = Alert(key=f"failure:{kind}", text=text)
    return alerter.send([alert], title=f"feedrank monitoring failed ({kind})", now=now)


def _alerter(output: Path, *, config: MonitoringConfig, channels: Sequence[Channel] | None) -> Alerter:
    chosen = configured_channels(config.alerts) if channels is None else channels
    return Alerter(output, channels=chosen, config=config.alerts)


def _judge(
    reference: Reference,
    *,
    sources: Sources,
    output: Path,
    config: MonitoringConfig,
    now: datetime,
    alerter: Alerter,
    start_retraining: Callable[[TriggerDecision], None] | None,
) -> tuple[MonitoringResult, pa.Table]:
    """The result of a run, its alerts sent and its report written; and the history with its windows."""
    version = reference.info.model_version
    days = config.arrivals.late_feedback_days + math.ceil(config.window.hours / 24)
    arrivals = read_arrivals(sources, now=now, days=days)
    before = histories.read_history(output / histories.FILE)
    evaluations, history = judge_windows(
        reference, sources=sources, own_days=output / OWN_DAYS, arrivals=arrivals,
        history=before, config=config, now=now,
    )  # fmt: skip
    windows = [evaluation.result for evaluation in evaluations]
    alarms = [
        *silence_alarms(arrivals, sources=sources, now=now, config=config.arrivals),
        *histories.alarms(
            history,
            before=before,
            model_version=version,
            ends=[window.end for window in windows],
            config=config.drift,
            keep=timedelta(days=config.arrivals.late_feedback_days),
        ),
    ]
    quality = histories.latest_verdicts(history, model_version=version, kind="performance")
    headline = _headline(finding(alarms, windows[-1], quality=quality), windows[-1], config)
    trigger, warnings = _trigger(
        alarms, feedback_until=arrivals.latest_feedback, output=output, config=config, now=now, start=start_retraining
    )
    alerts = [_alert(alarm, version=version) for alarm in alarms]
    alerts += [Alert(key="retraining", text=warning) for warning in warnings]
    alerts += day_alerts(sources.feedback, since=now - timedelta(hours=config.window.hours))
    if clock := windows[-1].clock_warnings:
        alerts.append(Alert(key="clock", text=f"warning: {'; '.join(clock)}"))
    report = output / RUNS / f"{now:%Y%m%dT%H%M%SZ}" / REPORT_FILE
    result = MonitoringResult(
        created_at=now,
        model_version=version,
        engine=config.drift.engine,
        headline=headline,
        verdict=verdict(alarms, windows[-1]),
        windows=windows,
        alarms=alarms,
        trigger=trigger,
        alerts=alerter.send(alerts, title=headline, now=now),
        warnings=warnings,
        report=str(report),
    )
    write_report(result, evaluation=evaluations[-1], trained=reference, history=history, config=config, path=report)
    return result, history


def _alert(alarm: Alarm, *, version: str) -> Alert:
    """A feature is the traffic's, whoever ranks: a new champion on moved users is no news."""
    key = alarm.signal if alarm.kind == "feature" else f"{version}:{alarm.signal}"
    return Alert(key=key, text=alarm.sentence, answered=alarm.kind in RETRAINING_KINDS)


def _trigger(
    alarms: Sequence[Alarm],
    *,
    feedback_until: datetime | None,
    output: Path,
    config: MonitoringConfig,
    now: datetime,
    start: Callable[[TriggerDecision], None] | None,
) -> tuple[TriggerDecision, list[str]]:
    """The decision on a retraining, and what went wrong in starting it."""
    record = RetrainingLog(output, config=config.retraining)
    reasons = [alarm.reason for alarm in alarms if alarm.active and alarm.kind in RETRAINING_KINDS]
    broken = [alarm.reason for alarm in alarms if alarm.active and alarm.kind == "feedback"]
    record.note_feedback("; ".join(broken), now=now)
    decision = (
        record.decide(reasons, now=now, cause="alarm", feedback_until=feedback_until)
        if reasons
        else record.follow_up(now=now, feedback_until=feedback_until)
    )
    if not decision.start or start is None:
        return decision, []
    try:
        start(decision)
    except Exception as error:
        record.finish(decision.request_id, outcome=NOT_STARTED, now=now)
        refused = f"it could not be started ({type(error).__name__}: {error}); the next run tries again"
        return decision.model_copy(update={"start": False, "refused_because": refused}), [f"retraining: {refused}"]
    return decision, []


def _headline(found: str, latest: WindowResult, config: MonitoringConfig) -> str:
    model = f"Model {latest.model_version}, {config.window.hours} h to {latest.end:%Y-%m-%d %H:%M} UTC"
    clock = " Rows are stamped in the future, see the warnings." if latest.clock_warnings else ""
    return f"{model}: {found}.{clock}"


@contextlib.contextmanager
def _only_monitor(output: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(storage.exclusive(output / "monitor"))
        except StorageError as error:
            raise StorageError(f"{output}: another monitor runs on this folder; wait for it to end") from error
        yield
