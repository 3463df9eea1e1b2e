"""What a person gets wrong at the command line: one sentence and a non-zero exit code, never a traceback."""

import json
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from feedrank.cli import main
from feedrank.config.feed import Feed
from feedrank.prediction_log.table import create_log

WRONG_USAGE = 2
CONFIG = Path(__file__).parents[2] / "config"


class Outcome(NamedTuple):
    """How a command ended. An error that escapes would be the test's own failure."""

    code: int
    output: str
    errors: str


Command = Callable[..., Outcome]


@pytest.fixture
def feedrank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in a new folder, beside the configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEEDRANK_CONFIG_DIR", str(CONFIG))

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["feedrank", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return Outcome(int(end.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def log(tmp_path: Path) -> Path:
    create_log(tmp_path / "log", Feed().log)
    (tmp_path / "file").write_text("a file")
    return tmp_path / "log"


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ("predict --user 1.5 --items 1", "--user"),
        ("predict --user 1 --items a,b", "--items"),
        ("predict --user 1 --items 1 --timestamp 2024-11-15", "--timestamp"),
        ("predict --user 1 --items 1 --timestamp 2024-11-15T10:30:00", "--timestamp"),
        ("predict --items 1", "--user"),
        ("log export o.csv --start yesterday", "--start"),
        ("log export", "output"),
        ("monitor --at 2024-11-15", "--at"),
        ("monitor --run_dir x", "--run_dir"),
        ("rollback --steps 0", "--steps"),
        ("rollback --steps one", "--steps"),
        ("retrain now", "now"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_wrong_option_is_named(feedrank, arguments, option):
    outcome = feedrank(*arguments.split())
    assert outcome.code == WRONG_USAGE
    assert option in outcome.errors


def test_help_is_no_error(feedrank):
    assert feedrank("predict", "--help").code == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--log", "nowhere"], "nowhere: no prediction log"),
        (["--log", "file"], "file: no prediction log"),
        (["--log", "foo://bar"], "foo://bar: no prediction log"),
        (["--log", "runs/[/x]"], "runs/[/x]: no prediction log"),
        (["--log", "[bold]:smile:"], "[bold]:smile:: no prediction log"),
        (["--log", "log", "--start", "2024-01-02", "--end", "2024-01-01"], "--start 2024-01-02 00:00 is not before"),
        (["--log", "log", "--start", "2024-01-02", "--end", "2024-01-02"], "--start 2024-01-02 00:00 is not before"),
    ],
)
def test_what_is_no_log_is_named(feedrank, log, arguments, sentence):
    outcome = feedrank("log", "export", "o.csv", *arguments)
    assert outcome.code == 1
    assert outcome.errors.startswith(f"error: {sentence}")
    assert not Path("o.csv").exists()


@pytest.mark.parametrize(
    ("output", "sentence"),
    [("log", "log: Is a directory"), ("file/o.csv", "file: File exists"), ("/proc/o.csv", "/proc/")],
)
def test_where_no_file_can_be_written_is_named(feedrank, log, output, sentence):
    outcome = feedrank("log", "export", output, "--log", "log")
    assert outcome.code == 1
    assert outcome.errors.startswith(f"error: {sentence}")


def test_foreign_folders_in_the_log_are_no_error(feedrank, log):
    for name in ("date=2024-11-15.bak", "date=tomorrow", "lost+found"):
        (log / name).mkdir()
    outcome = feedrank("log", "export", "[b]/o.csv", "--log", "log")
    assert outcome.code == 0
    assert "[b]/o.csv" in outcome.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--url", "localhost:8080"], "localhost:8080: no HTTP URL"),
        (["--url", "http://::1:8080"], "http://::1:8080: no URL"),
        (["--url", "http://127.0.0.1:9", "--token", "a\nb"], "the token holds characters"),
        (["--device", "phone"], "device: expected one of mobile, desktop, tablet"),
    ],
)
def test_what_can_be_no_request_is_named(feedrank, arguments, sentence):
    outcome = feedrank("predict", "--user", "1", "--items", "1", *arguments)
    assert outcome.code == 1
    assert outcome.errors.startswith(f"error: {sentence}")


@pytest.mark.parametrize("decision", ["x", "{}"])
def test_a_trigger_that_is_no_decision_is_named(feedrank, monkeypatch, decision):
    monkeypatch.setenv("FEEDRANK_TRIGGER", decision)
    outcome = feedrank("retrain")
    assert outcome.code == 1
    assert outcome.errors.startswith("error: FEEDRANK_TRIGGER: no decision")


def test_a_run_folder_that_is_a_file_is_named(feedrank, log):
    outcome = feedrank("retrain", "--run-dir", "file")
    assert outcome.code == 1
    assert outcome.errors.startswith("error: file/promotion: Not a directory")


@pytest.fixture
def retrained(tmp_path: Path) -> Path:
    """A run whose last retraining started an hour ago."""
    at = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    events = [
        {"event": "requested", "request_id": "1", "at": at, "reasons": ["drift"]},
        {"event": "finished", "request_id": "1", "at": at, "outcome": "succeeded"},
    ]
    record = tmp_path / "run" / "monitoring" / "retraining.jsonl"
    record.parent.mkdir(parents=True)
    record.write_text("".join(f"{json.dumps(event)}\n" for event in events))
    return record


def outcomes(record: Path) -> list[str]:
    return [json.loads(line)["event"] for line in record.read_text().splitlines()]


def test_a_retraining_within_the_cool_down_is_refused_with_the_way_out(feedrank, retrained):
    outcome = feedrank("retrain", "--run-dir", "run")
    assert outcome.code == 1
    assert "error: no retraining: cool-down" in outcome.errors
    assert "`feedrank retrain --force` does not wait" in outcome.errors
    assert outcomes(retrained)[2:] == ["refused"]


@pytest.fixture
def broken_feedback(tmp_path: Path) -> Path:
    """A run whose monitor has an alarm of the feedback."""
    event = {"event": "feedback_broken", "request_id": "", "at": "2024-11-15T04:00:00Z", "refused_because": "no clicks"}
    record = tmp_path / "run" / "monitoring" / "retraining.jsonl"
    record.parent.mkdir(parents=True)
    record.write_text(f"{json.dumps(event)}\n")
    return record


@pytest.mark.parametrize("options", ["", "--force", "--who ann"])
def test_a_retraining_on_broken_feedback_is_refused_with_the_way_out(feedrank, broken_feedback, options):
    outcome = feedrank("retrain", "--run-dir", "run", *options.split())
    assert outcome.code == 1
    assert "error: no retraining: a model trained on broken feedback is worse: no clicks" in outcome.errors
    assert "`feedrank retrain --force --who NAME` trains all the same" in outcome.errors
    assert outcomes(broken_feedback)[1:] == ["refused"]


def test_a_schedule_on_broken_feedback_is_no_failure(feedrank, broken_feedback):
    outcome = feedrank("retrain", "--run-dir", "run", "--if-due")
    assert outcome.code == 0
    assert "no clicks" in outcome.output
    assert outcomes(broken_feedback)[1:] == ["refused"]


def test_a_person_retrains_on_broken_feedback_by_name_and_force(feedrank, broken_feedback):
    outcome = feedrank("retrain", "--run-dir", "run", "--force", "--who", "ann")
    assert "run/interactions" in outcome.errors, "it began, and found no data here"
    assert outcomes(broken_feedback)[1:] == ["requested", "began", "finished"]
    assert "asked for by ann" in json.loads(broken_feedback.read_text().splitlines()[1])["reasons"]


def test_a_schedule_within_the_cool_down_is_no_failure(feedrank, retrained):
    outcome = feedrank("retrain", "--run-dir", "run", "--if-due")
    assert outcome.code == 0
    assert "no retraining: cool-down" in outcome.output


@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_person_need_not_wait_for_the_cool_down(feedrank, retrained, monkeypatch, way):
    if way == "environment":
        monkeypatch.setenv("FEEDRANK_RETRAIN_FORCE", "true")
    outcome = feedrank("retrain", "--run-dir", "run", "--if-due", *(["--force"] if way == "option" else []))
    assert outcome.errors.startswith("error: run/interactions: no such table"), "it began"
    assert outcomes(retrained)[2:] == ["requested", "began", "finished"]


def test_a_configuration_that_is_none_is_named(feedrank, tmp_path, monkeypatch):
    for file in CONFIG.glob("*.yaml"):
        shutil.copy(file, tmp_path)
    monkeypatch.setenv("FEEDRANK_CONFIG_DIR", str(tmp_path))
    (tmp_path / "model_config.yaml").write_text("[1, 2]")
    assert "model_config.yaml: expected a mapping" in feedrank("models").errors
    (tmp_path / "model_config.yaml").unlink()
    (tmp_path / "model_config.yaml").mkdir()
    assert "model_config.yaml: Is a directory" in feedrank("models").errors
    monkeypatch.setenv("FEEDRANK_CONFIG_DIR", "nowhere")
    assert "nowhere: no such configuration folder" in feedrank("models").errors


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("input_paths=[1", "--set input_paths: '[1' is no YAML"),
        ("input_paths=abc", "--set input_paths: expected a list: [a, b], got 'abc'"),
        ("start_training=perhaps", "--set start_training: expected true or false, got 'perhaps'"),
        ("data_date=5", "data_date: '5' is no date"),
    ],
)
def test_a_parameter_of_a_pipeline_that_can_not_be_is_one_sentence(feedrank, tmp_path, given, sentence):
    outcome = feedrank("run", "etl_and_feature_engineering", "--run-dir", str(tmp_path), "--set", given)
    assert (outcome.code, sentence in outcome.errors + outcome.output) == (1, True)
