"""Traffic around the model: latency, whether feedback arrives and makes sense, and how users use the feed."""

from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from feedrank import schema
from feedrank.config.monitoring import MonitoringConfig, PerformanceConfig
from feedrank.monitoring.feedback import Joined
from feedrank.monitoring.performance import ratio_estimate
from feedrank.monitoring.results import Signal, SignalKind, Status, Visits
from feedrank.monitoring.rows import Latency
from feedrank.tables import timestamps_us

MIN_REQUESTS = 100
"""Fewer have no 99th percentile to speak of."""
US_PER_MINUTE = 60e6


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


def feedback_signals(
    predictions: pa.Table, joined: Joined, *, end: datetime, usual_share: float | None, config: MonitoringConfig
) -> list[Signal]:
    """Verdicts on how many requests get feedback (against earlier windows), and on impossible values in it."""
    performance, counts = config.performance, joined.counts
    requests, share = _feedback_share(predictions, joined, end=end, config=config)
    loss = None
    if share is not None and requests >= MIN_REQUESTS:
        loss = 1.0 if share == 0 else 1 - share / usual_share if usual_share else 0.0
    bad = counts.invalid / counts.rows if counts.rows else None
    return [
        _signal(
            "feedback_share",
            value=share if loss is not None else None,
            effect=loss,
            threshold=performance.max_feedback_loss,
            rows=requests,
            reason=f"only {share or 0:.1%} of the requests got feedback; usual is {usual_share or 0:.1%}",
        ),
        _signal(
            "bad_feedback",
            value=bad,
            threshold=performance.max_bad_feedback,
            rows=counts.rows,
            reason=f"{bad or 0:.1%} of the feedback is impossible, such as a dwell time above "
            f"{schema.MAX_DWELL_SECONDS:g} s; a sensor or a unit is broken",
        ),
    ]


def _feedback_share(
    predictions: pa.Table, joined: Joined, *, end: datetime, config: MonitoringConfig
) -> tuple[int, float | None]:
    """Requests whose attribution window is over, and the share of them with feedback."""
    frame = pd.DataFrame({"user": predictions[schema.USER_ID].to_numpy(), "time_us": timestamps_us(predictions)})
    frame["shown"] = False
    frame.loc[joined.rows, "shown"] = True
    closed_us = pd.Timestamp(end - timedelta(minutes=config.window.attribution_minutes)).value // 1000
    shown = frame[frame["time_us"] < closed_us].groupby(["user", "time_us"], sort=False)["shown"].any()
    return len(shown), float(shown.mean()) if len(shown) else None


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
