"""Traffic around the model: latency, whether feedback arrives and makes sense, and how users use the feed."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from feedrank import schema
from feedrank.config.monitoring import MonitoringConfig, PerformanceConfig
from feedrank.monitoring.performance import ratio_estimate
from feedrank.monitoring.results import NEED_FEEDBACK, FeedbackCounts, Signal, SignalKind, Status, Visits
from feedrank.monitoring.rows import HourCounts, Latency
from feedrank.tables import timestamps_us

MIN_REQUESTS = 100
"""Fewer have no 99th percentile to speak of."""
NEARLY_ALL = 0.95
US_PER_MINUTE = 60e6
HOUR = timedelta(hours=1)


def latency_signal(latency: Latency, *, config: PerformanceConfig) -> Signal:
    """Verdict on the 99th percentile of the logged latency."""
    p99 = latency.p99_ms if latency.requests >= MIN_REQUESTS else None
    return _signal(
        "latency_p99_ms",
        kind="serving",
        value=p99,
        threshold=config.p99_ms,
        rows=latency.requests,
        reason=f"99 % of the requests take up to {p99 or 0:.0f} ms (limit {config.p99_ms:g} ms)",
    )


def error_rate_signal(error_rate: float | None, *, requests: int, config: PerformanceConfig) -> Signal:
    """Verdict on the predictor's own count of failed requests; None when it wasn't to be had."""
    return _signal(
        "error_rate",
        kind="serving",
        value=error_rate,
        threshold=config.max_error_rate,
        rows=requests,
        reason=f"{error_rate or 0:.2%} of the requests failed (limit {config.max_error_rate:.2%})",
    )


def volume_signal(predictions: int, *, usual: float | None, config: PerformanceConfig) -> Signal:
    """Verdict on the number of predictions against earlier windows; only a fall is one."""
    loss = None if usual is None else max(0.0, 1 - predictions / usual) if usual else 0.0
    return _signal(
        "volume",
        kind="arrival",
        value=float(predictions),
        effect=0.0 if loss is None else loss,
        threshold=config.max_volume_loss,
        rows=predictions,
        reason=f"only {predictions} predictions have arrived in the window; usual are {usual or 0:.0f}",
    )


def feedback_due(hours: Sequence[HourCounts], *, end: datetime) -> datetime:
    """The time by which nearly all requests of a window were made: what feedback must reach for a verdict on it."""
    wanted = NEARLY_ALL * sum(hour.requests for hour in hours)
    before = 0
    for hour in hours:
        if hour.requests and before + hour.requests >= wanted:
            return hour.start + (wanted - before) / hour.requests * HOUR
        before += hour.requests
    return end


def waiting(signal: Signal, *, due: datetime) -> Signal:
    """The signal as it is before the window's feedback has come; one that needs none stays as it is."""
    if signal.kind not in NEED_FEEDBACK:
        return signal
    return Signal(
        name=signal.name,
        kind=signal.kind,
        test=signal.test,
        threshold=signal.threshold,
        rows=0,
        status="pending",
        reason=f"waits for feedback up to {due:%Y-%m-%d %H:%M} UTC",
    )


def feedback_signals(
    hours: Sequence[HourCounts],
    counts: FeedbackCounts,
    *,
    until: datetime,
    usual_share: float | None,
    config: MonitoringConfig,
) -> list[Signal]:
    """Verdicts on how many requests get feedback (against earlier windows), and on impossible values in it.

    Feedback can be there `until` then; hours that end less than the attribution window before are left out.
    """
    performance = config.performance
    closed = until - timedelta(minutes=config.window.attribution_minutes)
    over = [hour for hour in hours if hour.start + HOUR <= closed]
    bad = counts.invalid / counts.rows if counts.rows else None
    return [
        _share_signal(over, usual_share=usual_share, config=performance),
        _signal(
            "bad_feedback",
            value=bad,
            threshold=performance.max_bad_feedback,
            rows=counts.rows,
            reason=f"{bad or 0:.1%} of the feedback is impossible, such as a dwell time above "
            f"{schema.MAX_DWELL_SECONDS:g} s; a sensor or a unit is broken",
        ),
    ]


def _share_signal(hours: Sequence[HourCounts], *, usual_share: float | None, config: PerformanceConfig) -> Signal:
    """Verdict on the share of requests with feedback: of all, and of each hour that has enough of them."""
    requests = sum(hour.sampled_requests for hour in hours)
    answered = sum(hour.answered_requests for hour in hours)
    share = answered / requests if requests >= MIN_REQUESTS else None
    loss, reason = None, ""
    if share is not None:
        loss = 1.0 if share == 0 else 1 - share / usual_share if usual_share else 0.0
        reason = f"only {share:.1%} of {requests} requests got feedback; usual is {usual_share or 0:.1%}"
        lost = _lost_hours(hours, usual_share=usual_share or share, config=config)
        if len(lost) > config.max_lost_hours and loss <= config.max_feedback_loss:
            loss = 1.0
            reason = f"{len(lost)} hours have hardly any feedback, the first from {lost[0].start:%Y-%m-%d %H:%M} UTC"
    return _signal(
        "feedback_share",
        value=share,
        effect=loss,
        threshold=config.max_feedback_loss,
        rows=requests,
        reason=reason,
    )


def _lost_hours(hours: Sequence[HourCounts], *, usual_share: float, config: PerformanceConfig) -> list[HourCounts]:
    """Hours with enough requests whose share of feedback is far below the usual one."""
    low = (1 - config.max_feedback_loss) * usual_share
    return [
        hour
        for hour in hours
        if hour.sampled_requests >= MIN_REQUESTS and hour.answered_requests < low * hour.sampled_requests
    ]


def measure_visits(feedback: pa.Table, *, start: datetime, config: MonitoringConfig) -> Visits:
    """Visits of the window from `start`, and how many users of the window before came back in it."""
    users, times = feedback[schema.USER_ID].to_numpy(), timestamps_us(feedback)
    now = times >= pd.Timestamp(start).value // 1000
    before, current = np.unique(users[~now]), np.unique(users[now])
    order = np.lexsort((times[now], users[now]))
    sorted_users, sorted_times = users[now][order], times[now][order]
    pauses = np.diff(sorted_times, prepend=0)
    starts = (np.diff(sorted_users, prepend=-1) != 0) | (pauses > config.window.visit_gap_minutes * US_PER_MINUTE)
    starts[:1] = True
    confidence = config.performance.confidence
    clusters = np.unique(sorted_users, return_inverse=True)[1]
    minutes = np.where(starts, 0.0, pauses / US_PER_MINUTE)
    begun = starts.astype(np.float64)
    returned = np.isin(before, current).astype(np.float64)
    return Visits(
        users=len(current),
        impressions_per_visit=ratio_estimate(np.ones(len(starts)), begun, clusters=clusters, confidence=confidence),
        minutes_per_visit=ratio_estimate(minutes, begun, clusters=clusters, confidence=confidence),
        retention=ratio_estimate(
            returned, np.ones(len(before)), clusters=np.arange(len(before)), confidence=confidence
        ),
    )


def _signal(
    name: str,
    *,
    value: float | None,
    threshold: float,
    rows: int,
    reason: str,
    effect: float | None = None,
    kind: SignalKind = "feedback",
) -> Signal:
    compared = value if effect is None else effect
    status: Status = "not_enough_data"
    if compared is not None:
        status = "drift" if compared > threshold else "ok"
    return Signal(
        name=name,
        kind=kind,
        test="limit",
        statistic=value,
        effect=compared,
        threshold=threshold,
        rows=rows,
        status=status,
        reason={"drift": reason, "ok": ""}.get(status, "not enough data"),
    )
