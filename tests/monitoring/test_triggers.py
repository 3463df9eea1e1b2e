"""Decisions on retraining."""

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from feedrank.config.monitoring import RetrainingConfig
from feedrank.errors import ConfigError, StorageError
from feedrank.monitoring.triggers import FILE, NOT_STARTED, SUCCEEDED, TRIGGER_ENV, RetrainingLog, given_trigger

NOW = datetime(2024, 3, 1, 4, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def log(tmp_path: Path) -> RetrainingLog:
    return RetrainingLog(tmp_path, config=RetrainingConfig(cool_down_hours=24, lease_hours=6))


def test_a_reason_starts_a_retraining_and_both_are_recorded(log: RetrainingLog) -> None:
    decision = log.decide(["item_ctr moved"], now=NOW)
    assert decision.start
    (event,) = log.events()
    assert (event.event, event.reasons, event.at) == ("requested", ["item_ctr moved"], NOW)


def test_without_a_reason_nothing_starts_and_nothing_is_recorded(log: RetrainingLog) -> None:
    assert not log.decide([], now=NOW).start
    assert not log.events()


def test_only_one_retraining_runs_at_a_time_and_the_refusal_is_recorded(log: RetrainingLog) -> None:
    first = log.decide(["a"], now=NOW)
    second = log.decide(["b"], now=NOW + 5 * HOUR)
    assert not second.start
    assert first.request_id in second.refused_because
    assert [event.event for event in log.events()] == ["requested", "refused"]


def test_after_its_end_the_cool_down_counts_from_its_start(log: RetrainingLog) -> None:
    first = log.decide(["a"], now=NOW)
    log.finish(first.request_id, outcome="succeeded", now=NOW + HOUR)
    assert "cool-down" in log.decide(["b"], now=NOW + 23 * HOUR).refused_because
    assert log.decide(["b"], now=NOW + 24 * HOUR).start


def test_after_an_alarm_a_retraining_follows_each_cool_down_for_a_week_and_then_none(log: RetrainingLog) -> None:
    alarm, started = log.decide(["the scores drifted"], now=NOW, cause="alarm"), []
    log.finish(alarm.request_id, outcome="succeeded", now=NOW + HOUR)
    for hour in range(3, 12 * 24, 3):
        decision = log.follow_up(now=NOW + hour * HOUR)
        if decision.start:
            started.append(hour)
            assert decision.reasons == ["newer rows since the alarm of 2024-03-01 04:00 UTC: the scores drifted"]
            log.finish(decision.request_id, outcome="succeeded", now=NOW + (hour + 1) * HOUR)
    assert started == [24 * day for day in range(1, 7)]
    assert {event.event for event in log.events()} == {"requested", "finished"}, "what is not due is not recorded"


def test_an_alarm_does_not_wait_for_what_follows_an_earlier_one(log: RetrainingLog) -> None:
    first = log.decide(["the scores drifted"], now=NOW, cause="alarm")
    log.finish(first.request_id, outcome="succeeded", now=NOW + HOUR)
    following = log.follow_up(now=NOW + 36 * HOUR)
    log.finish(following.request_id, outcome="succeeded", now=NOW + 37 * HOUR)
    assert following.start
    assert log.decide(["fewer clicks than promised"], now=NOW + 48 * HOUR, cause="alarm").start


def test_with_nightly_feedback_one_follows_each_delivery_whenever_the_alarm_was(tmp_path: Path) -> None:
    log = RetrainingLog(tmp_path, config=RetrainingConfig())
    midnight = datetime(2024, 3, 1, tzinfo=UTC)

    started = []
    for hour in range(0, 4 * 24, 3):
        now = midnight + hour * HOUR
        known = (now - 2 * HOUR).replace(hour=0)
        if hour < 12:
            decision = log.decide(["the scores drifted"], now=now, cause="alarm", feedback_until=known)
        else:
            decision = log.follow_up(now=now, feedback_until=known)
        if decision.start:
            started.append(hour)
            log.finish(decision.request_id, outcome=SUCCEEDED, now=now + HOUR)
    assert started == [0, 12, 27, 51, 75], "the first is on rows of the day before; then three hours after midnight"


def test_a_retraining_is_not_repeated_on_the_feedback_that_it_had_unless_it_failed(tmp_path: Path) -> None:
    log = RetrainingLog(tmp_path, config=RetrainingConfig(cool_down_hours=1))
    first = log.decide(["a"], now=NOW, cause="alarm", feedback_until=NOW)
    log.finish(first.request_id, outcome="failed: OSError: disk", now=NOW)
    second = log.decide(["a"], now=NOW + HOUR, cause="alarm", feedback_until=NOW)
    log.finish(second.request_id, outcome=SUCCEEDED, now=NOW + HOUR)
    third = log.decide(["a"], now=NOW + 9 * HOUR, cause="alarm", feedback_until=NOW)
    assert second.start
    assert "had all feedback that there is, which reaches to 2024-03-01 04:00 UTC" in third.refused_because
    assert log.decide(["a schedule"], now=NOW + 9 * HOUR).start


def test_nothing_follows_a_retraining_that_was_scheduled_or_asked_for(log: RetrainingLog) -> None:
    log.decide(["it was scheduled"], now=NOW)
    assert not log.follow_up(now=NOW + 24 * HOUR).reasons


def test_a_person_need_not_wait_for_the_cool_down_but_for_the_one_that_runs(log: RetrainingLog) -> None:
    first = log.decide(["a"], now=NOW)
    assert "runs since" in log.decide(["b"], now=NOW + HOUR, force=True).refused_because
    log.finish(first.request_id, outcome="succeeded", now=NOW + HOUR)
    assert "--force" in log.decide(["b"], now=NOW + HOUR).refused_because
    assert log.decide(["b"], now=NOW + HOUR, force=True).start


@pytest.mark.parametrize("text", ["x", "{}", "[]", '{"start": 1}'])
def test_a_trigger_that_is_no_decision_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(TRIGGER_ENV, text)
    with pytest.raises(ConfigError, match="FEEDRANK_TRIGGER: no decision of a monitor"):
        given_trigger()


def test_a_retraining_that_never_ended_counts_as_dead_after_its_lease(tmp_path: Path) -> None:
    log = RetrainingLog(tmp_path, config=RetrainingConfig(cool_down_hours=0, lease_hours=6))
    assert log.decide(["a"], now=NOW).start
    assert not log.decide(["a"], now=NOW + 5 * HOUR).start
    assert log.decide(["a"], now=NOW + 6 * HOUR).start


def test_a_request_that_could_not_be_started_has_no_cool_down(log: RetrainingLog) -> None:
    first = log.decide(["a"], now=NOW)
    log.finish(first.request_id, outcome=NOT_STARTED, now=NOW)
    assert log.decide(["a"], now=NOW + HOUR).start


def test_no_retraining_starts_on_broken_feedback_until_it_is_mended(log: RetrainingLog) -> None:
    log.note_feedback("only 3 % of the requests got feedback", now=NOW)
    decision = log.decide(["it was scheduled"], now=NOW + HOUR)
    assert not decision.start
    for words in ("broken feedback is worse: only 3 %", "seen 2024-03-01 04:00 UTC", "--force --who NAME"):
        assert words in decision.refused_because
    log.note_feedback("", now=NOW + 2 * HOUR)
    assert log.decide(["it was scheduled"], now=NOW + 2 * HOUR).start


def test_a_person_overrides_broken_feedback_by_name_and_force_only(log: RetrainingLog) -> None:
    log.note_feedback("dwell times in milliseconds", now=NOW)
    for options in ({}, {"force": True}, {"who": "ann"}):
        assert "dwell times" in log.decide(["a"], now=NOW, **options).refused_because
    assert log.decide(["a"], now=NOW, force=True, who="ann").start
    assert log.events()[-1].reasons == ["a", "asked for by ann"]
    assert "runs since" in log.decide(["a"], now=NOW, force=True, who="bob").refused_because


def test_the_state_of_the_feedback_is_noted_when_it_changes(log: RetrainingLog) -> None:
    for hours, broken in enumerate(["", "a", "a", "a; b", "", ""]):
        log.note_feedback(broken, now=NOW + hours * HOUR)
    assert [(event.event, event.refused_because) for event in log.events()] == [
        ("feedback_broken", "a"),
        ("feedback_broken", "a; b"),
        ("feedback_mended", ""),
    ]


def test_running_records_the_beginning_and_the_end(log: RetrainingLog) -> None:
    first = log.decide(["a"], now=NOW)
    with (
        pytest.raises(ZeroDivisionError),
        log.running(first.request_id, clock=lambda: NOW),
    ):
        _ = 1 // 0
    assert [event.event for event in log.events()] == ["requested", "began", "finished"]
    assert log.events()[-1].outcome.startswith("failed: ZeroDivisionError")


def test_two_cannot_run_at_once(log: RetrainingLog) -> None:
    with (
        log.running("one", clock=lambda: NOW),
        pytest.raises(StorageError, match="another run"),
        log.running("two", clock=lambda: NOW),
    ):
        pass


KILLED = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from feedrank.config.monitoring import RetrainingConfig
from feedrank.monitoring.triggers import RetrainingLog
log = RetrainingLog(Path(sys.argv[1]), config=RetrainingConfig(cool_down_hours=0))
decision = log.decide(["a"], now=datetime(2024, 3, 1, 4, tzinfo=UTC))
with log.running(decision.request_id, clock=lambda: datetime(2024, 3, 1, 4, tzinfo=UTC)):
    print("running", flush=True)
    time.sleep(60)
"""


def test_a_local_retraining_that_is_killed_frees_the_way_at_once(tmp_path: Path) -> None:
    log = RetrainingLog(tmp_path, config=RetrainingConfig(cool_down_hours=0))
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    assert not log.decide(["b"], now=NOW + HOUR).start
    process.kill()
    process.communicate()
    assert log.decide(["c"], now=NOW + HOUR).start
    assert [event.outcome for event in log.events() if event.event == "finished"] == ["crashed"]


def test_a_line_that_a_crash_cut_off_costs_only_itself(tmp_path: Path, log: RetrainingLog) -> None:
    log.decide(["a"], now=NOW)
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'[]\n\xff\xfe\n{"event": "refu')
    assert not log.decide(["b"], now=NOW + HOUR).start
    assert [event.event for event in log.events()] == ["requested", "refused"]


def test_of_many_that_decide_at_once_one_starts(tmp_path: Path) -> None:
    decisions = []

    def decide() -> None:
        log = RetrainingLog(tmp_path, config=RetrainingConfig())
        decisions.append(log.decide(["a"], now=NOW))

    threads = [threading.Thread(target=decide) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(decision.start for decision in decisions) == 1
