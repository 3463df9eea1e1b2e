"""The first task of a scheduled retraining on KFP asks the same record as the CronJob and a person."""

from datetime import UTC, datetime
from pathlib import Path

from components.check_trigger import check_trigger
from feedrank.config.monitoring import RetrainingConfig
from feedrank.monitoring.triggers import RetrainingLog


def check(directory: Path) -> tuple[bool, dict[str, object]]:
    return check_trigger.python_func(trigger={}, monitoring_directory=str(directory), config_overrides={})


def test_a_scheduled_retraining_on_kfp_waits_for_mended_feedback(tmp_path):
    record = RetrainingLog(tmp_path, config=RetrainingConfig())
    record.note_feedback("only 3 % of the requests got feedback", now=datetime.now(UTC))
    start, trigger = check(tmp_path)
    assert not start
    assert "broken feedback is worse: only 3 %" in str(trigger["refused_because"])
    record.note_feedback("", now=datetime.now(UTC))
    start, trigger = check(tmp_path)
    assert start
    assert trigger["reasons"] == ["it was scheduled"]


def test_a_decision_of_the_monitor_is_taken_over(tmp_path):
    record = RetrainingLog(tmp_path, config=RetrainingConfig())
    given = record.decide(["drift"], now=datetime.now(UTC)).model_dump(mode="json")
    start, trigger = check_trigger.python_func(trigger=given, monitoring_directory=str(tmp_path), config_overrides={})
    assert start
    assert trigger == given
