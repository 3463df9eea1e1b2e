"""The history, and alarms from K of M windows."""

from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from monitored_data import START, VERSION

from feedrank.config.monitoring import DriftConfig
from feedrank.errors import DataError
from feedrank.monitoring import history as histories
from feedrank.monitoring.arrivals import FeedbackOfTime
from feedrank.monitoring.history import (
    ADDED_LATER,
    HISTORY,
    JudgedWindow,
    alarms,
    judged_windows,
    latest_verdicts,
    read_history,
    usual_value,
    write_history,
)
from feedrank.monitoring.results import (
    Alarm,
    Estimate,
    FeedbackCounts,
    Signal,
    SignalKind,
    Status,
    Visits,
    WindowResult,
)

CONFIG = DriftConfig(k=2, m=3)
NOTHING = Estimate(value=None)


def end_of(index: int) -> datetime:
    return START + timedelta(hours=6 * index)


def add_window(history: pa.Table, result: WindowResult, **options) -> pa.Table:  # type: ignore[no-untyped-def]
    return histories.add_window(history, result, judged_at=result.end, **options)


def window(
    index: int, status: Status, *, version: str = VERSION, statistic: float = 0.5, kind: SignalKind = "feature"
) -> WindowResult:
    name = "item_ctr" if kind == "feature" else "auc"
    signal = Signal(
        name=name, kind=kind, test="ks", statistic=statistic, effect=statistic, threshold=0.1, rows=10,
        status=status, reason=f"window {index}",
    )  # fmt: skip
    return WindowResult(
        start=end_of(index - 4),
        end=end_of(index),
        model_version=version,
        predictions=10,
        sample_rows=10,
        feedback_due=end_of(index) - timedelta(minutes=5),
        feedback_in=True,
        feedback=FeedbackCounts(rows=0, joined=0, late=0, duplicate=0, orphan=0, invalid=0),
        signals=[signal],
        versions=[],
        visits=Visits(users=0, impressions_per_visit=NOTHING, minutes_per_visit=NOTHING, retention=NOTHING),
        segments=[],
        warnings=[],
    )


NO_WINDOWS = HISTORY.empty_table()


def history_of(*statuses: Status, version: str = VERSION) -> pa.Table:
    history = HISTORY.empty_table()
    for index, status in enumerate(statuses):
        history = add_window(history, window(index, status, version=version))
    return history


def alarmed(history: pa.Table, *ends: int) -> list[tuple[str, bool]]:
    return [(alarm.signal, alarm.active) for alarm in raised(history, *ends)]


def raised(history: pa.Table, *ends: int, before: pa.Table = NO_WINDOWS) -> list[Alarm]:
    keep, judged = timedelta(days=3), [end_of(end) for end in ends]
    return alarms(history, before=before, model_version=VERSION, ends=judged, config=CONFIG, keep=keep)


@pytest.mark.parametrize(
    ("statuses", "alarm"),
    [
        (("drift",), False),
        (("drift", "drift"), True),
        (("ok", "drift", "ok"), False),
        (("drift", "ok", "drift"), True),
        (("drift", "drift", "ok", "ok"), False),
        (("error", "drift"), True),
        (("not_enough_data", "drift", "not_enough_data"), False),
    ],
)
def test_two_of_the_last_three_windows_raise_an_alarm(statuses: tuple[Status, ...], alarm: bool) -> None:
    assert bool(alarmed(history_of(*statuses), len(statuses) - 1)) == alarm


def test_an_alarm_of_a_window_that_was_made_up_for_is_reported_as_over() -> None:
    assert alarmed(history_of("drift", "drift", "ok", "ok"), 1, 2, 3) == [("item_ctr", False)]


def test_windows_that_are_over_and_judged_again_are_told_only_if_they_were_not_before() -> None:
    """Late clicks of a day with lost feedback change its windows for days; its alarm was told."""
    history = history_of("drift", "drift", "ok", "ok")
    assert not raised(history, 0, 1, 3, before=history_of("drift", "drift", "ok"))
    (late,) = raised(history, 0, 1, 3, before=history_of("drift", "ok", "ok"))
    assert late.sentence.endswith(f"up to {end_of(1):%Y-%m-%d %H:%M} UTC, and no more")
    lasting = history_of("drift", "drift", "drift")
    assert [alarm.active for alarm in raised(lasting, 2, before=history_of("drift", "drift"))] == [True]


def test_the_reason_is_that_of_the_latest_flagged_window() -> None:
    history = history_of("drift", "drift", "ok")
    assert [(alarm.reason, alarm.window_end) for alarm in raised(history, 2)] == [("window 1", end_of(1))]


@pytest.mark.parametrize(
    ("statuses", "since"),
    [
        (("ok", "drift", "drift"), 1),
        (("drift", "ok", "drift", "drift", "ok", "drift"), 0),
        (("drift", "drift", "ok", "ok", "drift", "drift"), 4),
    ],
)
def test_an_alarm_says_since_when(statuses: tuple[Status, ...], since: int) -> None:
    (alarm,) = raised(history_of(*statuses), len(statuses) - 1)
    assert alarm.since == end_of(since)
    assert f"; since {end_of(since):%Y-%m-%d %H:%M} UTC; a retraining is asked for (runbook.md#" in alarm.sentence


def test_each_signal_counts_its_own_windows_and_one_that_waits_for_feedback_keeps_its_alarm() -> None:
    history = HISTORY.empty_table()
    for index in range(6):
        history = add_window(history, window(index, "ok"))
        history = add_window(history, window(index, "drift" if index < 2 else "pending", kind="performance"))
    assert alarmed(history, 5) == [("auc", True)]
    for index in (2, 3):
        history = add_window(history, window(index, "ok", kind="performance"))
    assert alarmed(history, 3, 5) == []
    assert latest_verdicts(history, model_version=VERSION, kind="performance") == histories.LatestVerdicts(
        end_of(3), {"ok"}
    )


def test_an_alarm_that_nothing_confirms_for_days_ends() -> None:
    history = history_of("drift", "drift")
    for index in range(2, 20):
        history = add_window(history, window(index, "ok", kind="performance"))
    assert alarmed(history, 12) == [("item_ctr", True)]
    assert alarmed(history, 19) == []


def test_another_model_starts_with_a_clean_slate() -> None:
    assert not alarmed(history_of("drift", "drift", version="v0.9.0"), 1)


def test_judging_a_window_again_replaces_its_rows() -> None:
    history = add_window(history_of("drift", "drift"), window(1, "ok"))
    assert history.num_rows == 2
    assert not alarmed(history, 1)


def test_it_is_read_as_it_was_written_and_old_windows_leave(tmp_path: Path) -> None:
    path = tmp_path / "history.parquet"
    assert read_history(path).num_rows == 0
    write_history(history_of("ok", "drift"), path, keep_days=1)
    assert read_history(path).equals(history_of("ok", "drift"))
    write_history(add_window(read_history(path), window(40, "ok")), path, keep_days=1)
    assert read_history(path).num_rows == 1
    assert [known.end for known in judged_windows(read_history(path), model_version=VERSION)] == [end_of(40)]
    assert judged_windows(read_history(path), model_version="other") == []


def test_the_history_knows_what_feedback_each_window_was_judged_by() -> None:
    history = history_of("ok")
    assert judged_windows(history, model_version=VERSION) == [
        JudgedWindow(end_of(0), end_of(0) - timedelta(minutes=5), None)
    ]
    late = window(0, "ok", kind="performance")
    history = add_window(history, late, feedback=FeedbackOfTime(rows=7, clicks=3), only=["auc"])
    (known,) = judged_windows(history, model_version=VERSION)
    assert known.feedback == FeedbackOfTime(rows=7, clicks=3)
    assert add_window(history, late, only=["other"]).equals(history)


def test_a_history_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    path = tmp_path / "history.parquet"
    pq.write_table(history_of("ok", "drift").drop_columns(list(ADDED_LATER)), path)
    history = read_history(path)
    assert [known.feedback_due for known in judged_windows(history, model_version=VERSION)] == [None, None]
    assert alarmed(add_window(history, window(2, "drift")), 2) == [("item_ctr", True)]


def test_a_damaged_history_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "history.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="move it away"):
        read_history(tmp_path / "history.parquet")


def test_the_usual_value_is_the_median_of_earlier_unflagged_windows() -> None:
    history = HISTORY.empty_table()
    for index, (status, value) in enumerate([("ok", 0.1), ("ok", 0.2), ("drift", 9.0), ("ok", 0.3), ("ok", 7.0)]):
        history = add_window(history, window(index, status, statistic=value))  # type: ignore[arg-type]
    found = usual_value(history, "item_ctr", model_version=VERSION, before=end_of(4), windows=28)
    assert found == pytest.approx(0.2)
    assert usual_value(history, "item_ctr", model_version=VERSION, before=end_of(0), windows=28) is None


def flagged_windows(shares: list[float]) -> list[bool]:
    """Which windows of six hours a fall of more than a half against the usual value flags."""
    history, flags = HISTORY.empty_table(), []
    for index, share in enumerate(shares):
        usual = usual_value(history, "item_ctr", model_version=VERSION, before=end_of(index), windows=28)
        flags.append(share == 0 or (usual is not None and 1 - share / usual > 0.5))
        history = add_window(history, window(index, "drift" if flags[-1] else "ok", statistic=share))
    return flags


def test_a_lasting_fall_is_flagged_for_a_week_and_then_usual() -> None:
    week = 7 * 4
    flags = flagged_windows([0.9] * 40 + [0.3] * 2 * week + [0.1] * week)
    assert flags == [False] * 40 + [True] * week + [False] + [False] * (week - 1) + [True] * week


def test_a_fall_that_is_mended_within_the_week_does_not_become_usual() -> None:
    assert flagged_windows([0.9] * 20 + [0.3] * 20 + [0.9] + [0.3] * 20) == (
        [False] * 20 + [True] * 20 + [False] + [True] * 20
    )


def test_no_feedback_at_all_never_becomes_usual() -> None:
    assert flagged_windows([0.9] * 20 + [0.0] * 60 + [0.3] * 4) == [False] * 20 + [True] * 64
