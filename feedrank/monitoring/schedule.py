"""Which windows a run judges.

Windows end on a grid of `window.step_hours`. A new one is judged at once by all that needs no feedback; what needs it
is judged when the feedback has come, and once more for each time that late feedback changes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from feedrank.config.monitoring import MonitoringConfig
from feedrank.monitoring.arrivals import Arrivals
from feedrank.monitoring.history import JudgedWindow

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class DueWindow:
    """A window to judge."""

    end: datetime
    new: bool
    """False: only what needs feedback is judged, for the first time or again."""


def due_windows(
    judged: Sequence[JudgedWindow], *, arrivals: Arrivals, now: datetime, config: MonitoringConfig
) -> list[DueWindow]:
    """The windows to judge, oldest first; the latest one in any case, as new."""
    ends = new_ends(judged[-1].end if judged else None, now=now, config=config)
    earliest = now - timedelta(days=config.arrivals.late_feedback_days)
    again = [
        DueWindow(window.end, new=False)
        for window in judged
        if earliest < window.end < ends[0] and _feedback_has_come(window, arrivals=arrivals, config=config)
    ]
    return [*again, *(DueWindow(end, new=True) for end in ends)]


def new_ends(last_end: datetime | None, *, now: datetime, config: MonitoringConfig) -> list[datetime]:
    """Ends of the windows after `last_end`, and the latest one in any case."""
    step = timedelta(hours=config.window.step_hours)
    latest = now - (now - EPOCH) % step
    if last_end is None:
        # A first run has no history to count K of M windows in, so it makes its own.
        return [latest - step * index for index in reversed(range(config.drift.m))]
    missed = max(0, (latest - last_end) // step)
    return [latest - step * index for index in reversed(range(min(max(missed, 1), config.window.max_catch_up)))]


def _feedback_has_come(window: JudgedWindow, *, arrivals: Arrivals, config: MonitoringConfig) -> bool:
    if window.feedback is None:
        reaches = arrivals.latest_feedback
        return window.feedback_due is not None and reaches is not None and reaches >= window.feedback_due
    there = arrivals.feedback(window.end - config.window_length, window.end)
    return there.differs_from(window.feedback, share=config.arrivals.late_feedback_share)
