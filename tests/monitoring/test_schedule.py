"""Which windows are due."""

from datetime import UTC, datetime, timedelta

from monitored_data import CONFIG

from feedrank.monitoring.arrivals import Arrivals, FeedbackOfTime
from feedrank.monitoring.history import JudgedWindow
from feedrank.monitoring.schedule import due_windows, new_ends

NOW = datetime(2024, 3, 1, 4, 10, tzinfo=UTC)
GRID = datetime(2024, 3, 1, tzinfo=UTC)
STEP = timedelta(hours=CONFIG.window.step_hours)


def arrivals(latest_feedback: datetime | None, *, rows: int = 0, clicks: int = 0) -> Arrivals:
    """Feedback up to a time, all of it in the hour before the grid's end."""
    hour = int(GRID.timestamp()) // 3600 - 1
    return Arrivals(GRID, NOW, latest_feedback, {hour: FeedbackOfTime(rows, clicks)})


def judged(end: datetime, feedback: FeedbackOfTime | None = None) -> JudgedWindow:
    return JudgedWindow(end, end - timedelta(minutes=30), feedback)


def due(windows: list[JudgedWindow], there: Arrivals) -> list[tuple[datetime, bool]]:
    return [(window.end, window.new) for window in due_windows(windows, arrivals=there, now=NOW, config=CONFIG)]


def test_windows_end_on_a_grid_and_catching_up_has_a_limit() -> None:
    assert new_ends(GRID, now=NOW, config=CONFIG) == [GRID]
    assert new_ends(GRID - 2 * STEP, now=NOW, config=CONFIG) == [GRID - STEP, GRID]
    assert len(new_ends(None, now=NOW, config=CONFIG)) == CONFIG.drift.m
    assert len(new_ends(GRID - timedelta(days=400), now=NOW, config=CONFIG)) == CONFIG.window.max_catch_up


def test_windows_that_waited_are_due_in_order_once_feedback_reaches_nearly_all_of_their_requests() -> None:
    waiting = [judged(GRID - 3 * STEP), judged(GRID - 2 * STEP), judged(GRID - STEP)]
    new = [(GRID, True)]
    assert due(waiting, arrivals(None)) == new
    assert due(waiting, arrivals(GRID - 3 * STEP - timedelta(minutes=31))) == new
    assert due(waiting, arrivals(GRID - 2 * STEP)) == [(GRID - 3 * STEP, False), (GRID - 2 * STEP, False), *new]
    assert due(waiting, arrivals(GRID)) == [*((window.end, False) for window in waiting), *new]


def test_a_window_is_judged_again_when_late_feedback_changes_it() -> None:
    known = FeedbackOfTime(rows=1_000, clicks=100)
    windows = [judged(GRID, known), judged(GRID + STEP)]
    later = {"now": NOW + STEP, "config": CONFIG}
    assert [w.end for w in due_windows(windows, arrivals=arrivals(GRID, rows=1_000, clicks=102), **later)] == [
        GRID + STEP
    ]
    assert [w.end for w in due_windows(windows, arrivals=arrivals(GRID, rows=1_000, clicks=103), **later)] == [
        GRID,
        GRID + STEP,
    ]


def test_neither_waiting_nor_late_feedback_is_followed_for_ever() -> None:
    old = GRID - timedelta(days=CONFIG.arrivals.late_feedback_days, hours=1)
    assert due([judged(old), judged(old + STEP, FeedbackOfTime(5, 1)), judged(GRID - STEP)], arrivals(GRID))[0] == (
        old + STEP,
        False,
    )
