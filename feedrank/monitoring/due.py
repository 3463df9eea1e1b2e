"""Judges the windows that are due, each with what is known of its time, and adds them to the history."""

import json
import urllib.request
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from feedrank.config.monitoring import MonitoringConfig
from feedrank.monitoring import history as histories
from feedrank.monitoring.arrivals import Arrivals
from feedrank.monitoring.consistency import consistency_signals
from feedrank.monitoring.engines import drift_engine
from feedrank.monitoring.reference import Reference
from feedrank.monitoring.results import NEED_FEEDBACK, Signal, WindowResult
from feedrank.monitoring.rows import Sources
from feedrank.monitoring.schedule import due_windows
from feedrank.monitoring.traffic import error_rate_signal, volume_signal
from feedrank.monitoring.window import Evaluation, evaluate_window

USUAL_WINDOWS = 28
"""Earlier windows that tell the usual share of requests with feedback."""


def judge_windows(
    reference: Reference,
    *,
    sources: Sources,
    own_days: Path,
    arrivals: Arrivals,
    history: pa.Table,
    config: MonitoringConfig,
    now: datetime,
) -> tuple[list[Evaluation], pa.Table]:
    """The due windows, and the history with them."""
    engine, version = drift_engine(config.drift), reference.info.model_version
    judged = histories.judged_windows(history, model_version=version)
    due = due_windows(judged, arrivals=arrivals, now=now, config=config)
    evaluations = []
    for window in due:
        share, volume = (
            histories.usual_value(history, name, model_version=version, before=window.end, windows=USUAL_WINDOWS)
            for name in ("feedback_share", "volume")
        )
        evaluation = evaluate_window(
            window.end,
            reference=reference,
            engine=engine,
            sources=sources,
            own_days=own_days,
            usual_feedback_share=share,
            feedback_until=arrivals.latest_feedback,
            config=config,
            now=now,
        )
        evaluation = _with(
            evaluation, volume_signal(evaluation.result.predictions, usual=volume, config=config.performance)
        )
        if window is due[-1]:
            evaluation = _with_error_rate(evaluation, config)
            evaluation = _with_consistency(evaluation, trained=reference, sources=sources, config=config)
        evaluations.append(evaluation)
        result = evaluations[-1].result
        known = histories.signals_of(history, model_version=version, end=window.end)
        history = histories.add_window(
            history,
            result,
            judged_at=now,
            feedback=arrivals.feedback(result.start, result.end),
            only=None if window.new else _late_signals(result, known=known),
        )
    return evaluations, history


def _late_signals(window: WindowResult, *, known: Collection[str]) -> list[str]:
    """What is judged of a window because its feedback has come: what needs it, and what had waited for it."""
    return [signal.name for signal in window.signals if signal.kind in NEED_FEEDBACK or signal.name not in known]


def _with_error_rate(evaluation: Evaluation, config: MonitoringConfig) -> Evaluation:
    """Adds the predictor's own error rate, which is known for now only, to the latest window."""
    url = config.performance.metrics_url
    if not url:
        return evaluation
    warnings = list(evaluation.result.warnings)
    rate, requests = None, 0
    try:
        request = urllib.request.Request(url, headers={"Accept": "application/json"})
        with urllib.request.urlopen(request, timeout=config.alerts.timeout_seconds) as answer:
            metrics = json.load(answer)
        rate, requests = float(metrics["error_rate"]), int(metrics["requests_total"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        warnings.append(f"{url}: the predictor's metrics could not be read ({type(error).__name__}: {error})")
    return _with(evaluation, error_rate_signal(rate, requests=requests, config=config.performance), warnings=warnings)


def _with(evaluation: Evaluation, signal: Signal, *, warnings: Sequence[str] | None = None) -> Evaluation:
    """The evaluation with one more signal."""
    result = evaluation.result
    warned = result.warnings if warnings is None else list(warnings)
    updated = result.model_copy(update={"signals": [*result.signals, signal], "warnings": warned})
    return replace(evaluation, result=updated)


def _with_consistency(
    evaluation: Evaluation, *, trained: Reference, sources: Sources, config: MonitoringConfig
) -> Evaluation:
    """Adds whether the latest window's predictions were made on the right features, which needs the whole history."""
    if not trained.info.feed_recorded:
        return evaluation
    signals = consistency_signals(
        evaluation.sample,
        interactions=sources.feedback,
        history_start=trained.info.history_start,
        feed=trained.info.feed,
        config=config.consistency,
    )
    result = evaluation.result.model_copy(update={"signals": [*evaluation.result.signals, *signals]})
    return replace(evaluation, result=result)
