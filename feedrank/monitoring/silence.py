"""Silence is an alarm: predictions or feedback that have not come for longer than they may take."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from feedrank.config.monitoring import ArrivalConfig
from feedrank.monitoring.arrivals import Arrivals
from feedrank.monitoring.results import Alarm
from feedrank.monitoring.rows import Sources


def silence_alarms(arrivals: Arrivals, *, sources: Sources, now: datetime, config: ArrivalConfig) -> list[Alarm]:
    """The alarms of what does not arrive, at once and not of K of M windows: time alone is the evidence."""
    return [
        *_no_predictions(arrivals, sources=sources, now=now, limit_hours=config.predictions_hours),
        *_no_feedback(arrivals, sources=sources, now=now, limit_hours=config.feedback_hours),
    ]


def _no_predictions(arrivals: Arrivals, *, sources: Sources, now: datetime, limit_hours: float) -> Iterator[Alarm]:
    latest = arrivals.latest_prediction
    if latest is None:
        yield _alarm("predictions", f"no prediction was ever logged in {sources.predictions}", since=now, now=now)
    elif now - latest > timedelta(hours=limit_hours):
        reason = (
            f"no prediction has arrived in {sources.predictions} for {_hours(now - latest)} (limit {limit_hours:g})"
        )
        yield _alarm("predictions", f"{reason}, the latest is of {latest:%Y-%m-%d %H:%M} UTC", since=latest, now=now)


def _no_feedback(arrivals: Arrivals, *, sources: Sources, now: datetime, limit_hours: float) -> Iterator[Alarm]:
    """Feedback is due only on predictions, so the first one that has none begins the wait."""
    first, latest, reaches = arrivals.first_prediction, arrivals.latest_prediction, arrivals.latest_feedback
    if first is None or latest is None or (reaches is not None and latest <= reaches):
        return
    since = first if reaches is None else max(first, reaches)
    if now - since > timedelta(hours=limit_hours):
        reason = f"no feedback has arrived in {sources.feedback} for {_hours(now - since)} (limit {limit_hours:g})"
        newest = "there was never any" if reaches is None else f"the latest is of {reaches:%Y-%m-%d %H:%M} UTC"
        yield _alarm("feedback", f"{reason}, {newest}", since=since, now=now)


def _hours(duration: timedelta) -> str:
    return f"{duration / timedelta(hours=1):.0f} hours"


def _alarm(name: str, reason: str, *, since: datetime, now: datetime) -> Alarm:
    return Alarm(
        signal=name, kind="arrival", active=True, window_end=now, flagged_windows=0, since=since, reason=reason
    )
