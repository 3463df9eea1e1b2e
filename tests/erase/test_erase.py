"""A person is taken out of everything that a run folder holds, and stays out."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from erase_kills import MOMENTS
from erase_world import NOW, OTHER, WHO, config_of, ingest_again, log_predictions, traces
from typer.testing import CliRunner, Result

from feedrank import delta, schema, stages, storage
from feedrank.cli import app
from feedrank.data.validation import validate
from feedrank.data.validation.record import load_record
from feedrank.delta import erasing
from feedrank.erasure.person import People
from feedrank.erasure.refused import Door
from feedrank.erasure.run import JOURNAL, erase, verify_erasure
from feedrank.errors import ConfigError, DataError, StorageError
from feedrank.features.snapshot import load_snapshot
from feedrank.model.bundle import USER_IDS, load_bundle
from feedrank.monitoring.triggers import RetrainingLog
from feedrank.registry import Registry
from feedrank.upkeep import run_upkeep
from tests.s3_server import bucket_of, s3_server

HERE = Path(__file__).parent


def erase_who(run: Path, *users: str) -> list[str]:
    """The places where something was found."""
    report = erase(users or [WHO], run_dir=run, config=config_of(run), who="tester", now=NOW)
    assert report.is_complete, report.left
    return [erased.place for erased in report.erased]


def assert_gone(run: Path) -> None:
    assert traces(run, WHO) == set()
    assert verify_erasure([WHO], run_dir=run, config=config_of(run)) == []
    load_bundle(run / "served" / "current")
    load_bundle(run / "model")
    load_snapshot(run / "online" / "current")


def test_nothing_is_left_anywhere_and_others_stay_as_they_were(run: Path) -> None:
    config = config_of(run)
    before, numbers = load_bundle(run / "served" / "current"), People.of([WHO, OTHER]).numbers
    rows = stages.load_features(run / "features")[3]
    others = rows.filter(pc.invert(pc.is_in(rows[schema.USER_ID], pa.array(numbers[:1]))))
    scores, kept = before.score_table(others), delta.open_table(run / "validated" / "clean").read()
    assert len(traces(run, WHO)) > 40 and len(verify_erasure([WHO], run_dir=run, config=config)) > 40

    checkpoints = [run / ".model.0.checkpoint", run / "retraining" / ".model.checkpoint"]
    for checkpoint in checkpoints:
        checkpoint.write_bytes(b"weights of a training that was cut off")

    report = erase([WHO], run_dir=run, config=config, who="tester", now=NOW)

    assert_gone(run)
    assert not any(checkpoint.exists() for checkpoint in checkpoints)
    found = {Path(erased.place).relative_to(run).parts[0] for erased in report.erased if "MLflow" not in erased.place}
    assert found == {
        *("interactions", "validated", "features", "retraining", "model", "refitted", "monitoring", "online"),
        *("predictions", "served", ".model.0.checkpoint"),
    }
    assert ["MLflow: v1.0.0" in erased.place for erased in report.erased].count(True) == 1
    assert [remark for remark in report.remarks if "v1.0.0 was trained on version 1 of" in remark]
    after = load_bundle(run / "served" / "current")
    assert np.array_equal(after.score_table(others), scores), "nobody else's score changes"
    assert numbers[0] not in after.arrays[USER_IDS] and numbers[1] in after.arrays[USER_IDS]
    rest = kept.filter(pc.not_equal(kept[schema.USER_ID], numbers[0])).sort_by(schema.INTERACTION_ID)
    assert delta.open_table(run / "validated" / "clean").read().sort_by(schema.INTERACTION_ID).equals(rest)
    version = config.model.registry
    downloaded = Registry(version).download(1, run.parent / "downloaded")
    assert numbers[0] not in load_bundle(downloaded).arrays[USER_IDS]
    (line,) = (run / "erasures.jsonl").read_text().splitlines()
    assert json.loads(line)["who"] == "tester"


def test_the_next_nightly_run_brings_nobody_back_and_holds_no_day(run: Path) -> None:
    config = config_of(run)
    before = load_record(run / "validated")
    erase_who(run)
    assert ingest_again(run, config).files_unchanged == 3
    for file in (run.parent / "export").iterdir():
        os.utime(file, (1, 1))  # so it is read once more
    summary = ingest_again(run, config)
    assert (summary.rows_added, summary.rows_updated, summary.rows_quarantined) == (0, 0, 1)
    assert summary.rows_erased > 415
    told = summary.rows_known + summary.rows_quarantined + summary.rows_erased
    assert summary.rows_read == told
    validated = validate(run / "interactions", output=run / "validated", config=config.data.validation, now=NOW)
    assert not validated.alarms
    after = load_record(run / "validated")
    assert {day: entry.status for day, entry in after.entries.items()} == {
        day: entry.status for day, entry in before.entries.items()
    }
    stages.build_features(run / "validated" / "clean", output=run / "features", config=config, now=NOW)
    assert_gone(run)


def test_a_training_on_a_version_that_had_the_person_says_that_it_is_gone(run: Path) -> None:
    erase_who(run)
    with pytest.raises(DataError, match=r"clean, version 1, can't be read .* an erasure those with rows of the erased"):
        stages.build_features(
            run / "validated" / "clean", output=run / "features", config=config_of(run), now=NOW, version=1
        )


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_point_and_run_again_it_ends(run: Path, moment: str) -> None:
    command = [sys.executable, str(HERE / "erase_kills.py"), str(run), moment]
    environment = os.environ | {"PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}"}
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert WHO in (run / JOURNAL).read_text()
    assert [left.place for left in verify_erasure([WHO], run_dir=run, config=config_of(run))][-1].endswith(JOURNAL)
    report = run_upkeep(run, config=config_of(run), now=NOW)  # the night ends it
    assert report.warnings == [] and not (run / JOURNAL).exists()
    assert_gone(run)


def command_line(run: Path, *options: str) -> Result:
    environment = {
        "FEEDRANK__SERVING__LOG__DIRECTORY": str(run / "predictions"),
        "FEEDRANK__SERVING__LOG__SPOOL_DIRECTORY": str(run / "spool"),
        "FEEDRANK__SERVING__RELOAD__CACHE_DIRECTORY": str(run / "model-cache"),
    }
    return CliRunner().invoke(app, ["erase", "--run-dir", str(run), *options], env=environment)


def test_who_is_unknown_is_found_nowhere_and_refused_from_then_on(run: Path) -> None:
    result = command_line(run, "--user", "nobody-at-all")
    assert result.exit_code == 0, result.output
    assert "found nowhere; rows of that id are refused from now on" in result.output
    verified = command_line(run, "--user", "nobody-at-all", "--verify")
    assert verified.exit_code == 0 and "found nowhere" in verified.output


def test_the_verification_fails_with_the_places_also_with_those_that_are_not_ours(run: Path) -> None:
    result = command_line(run, "--user", WHO, "--verify")
    assert result.exit_code == 1
    assert f"still found: {run}/served/versions/v1.0.0" in result.output
    assert "still found: MLflow: v1.0.0" in result.output
    erase_who(run)
    (run / "inbox").mkdir()
    (run / "inbox" / "new.csv").write_text(f"person,item\n{WHO},7\n")
    (left,) = verify_erasure([WHO], run_dir=run, config=config_of(run))
    assert left.place == str(run / "inbox" / "new.csv") and not left.ours
    assert erase_who(run) == [], "what is not ours stays, and is no failure of the erasure"
    assert (run / "inbox" / "new.csv").exists()


@pytest.mark.parametrize("users", [[], [""], ["  ", WHO]])
def test_an_id_that_is_none_is_refused_and_nothing_is_begun(run: Path, users: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"--user: an id is missing; give it as clients send it"):
        erase(users, run_dir=run, config=config_of(run), who="tester", now=NOW)
    assert not (run / JOURNAL).exists()


def test_a_folder_that_is_no_run_is_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: no such run folder; give the one that holds the interactions"):
        erase([WHO], run_dir=run / "nowhere", config=config_of(run), who="tester", now=NOW)


def test_beside_another_writer_it_says_who_is_in_the_way_and_ends_later(run: Path) -> None:
    with storage.exclusive(run / "features"), pytest.raises(StorageError, match=r"features: another run is writing it"):
        erase_who(run)
    assert (run / JOURNAL).exists()
    erase((), run_dir=run, config=config_of(run), who="", now=NOW)
    assert_gone(run)


def test_beside_a_retraining_it_waits_for_its_end(run: Path) -> None:
    config = config_of(run)
    record = RetrainingLog(run / "monitoring", config=config.monitoring.retraining)
    decision = record.decide(["test"], now=NOW)
    with pytest.raises(StorageError, match=r"retraining .* runs since .* The user's rows are refused already"):
        erase_who(run)
    record.finish(decision.request_id, outcome="succeeded", now=NOW)
    erase_who(run)
    assert_gone(run)


def test_appends_and_compactions_beside_it_lose_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = run / "predictions"
    rows, number = delta.open_table(place).rows, People.of([WHO]).numbers[0]
    theirs = sum(delta.files_with(place, delta.Rows((schema.USER_ID,), People.of([WHO]).rows)).values())
    rewritten, calls = erasing._rewritten, 0

    def meanwhile(path: str, wanted: delta.Rows, files: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            log_predictions(run)  # appends to the same day, and replaces the file by a compaction
        return rewritten(path, wanted, files)  # type: ignore[arg-type]

    monkeypatch.setattr(erasing, "_rewritten", meanwhile)
    assert theirs and delta.erase_rows(place, delta.Rows((schema.USER_ID,), People.of([WHO]).rows)).rows
    left = delta.open_table(place).read()
    assert number not in left[schema.USER_ID].to_pylist()
    assert left.num_rows == 2 * rows - 2 * sum(delta_rows(run, number))


def delta_rows(run: Path, number: int) -> list[int]:
    """How many of the logged rows are of a user, as `log_predictions` writes them."""
    users = delta.open_table(run / "interactions").read(columns=[schema.USER_ID]).slice(0, 300)[schema.USER_ID]
    return [pc.sum(pc.equal(users, number)).as_py()]


def test_a_log_on_s3_is_cleaned_and_looked_through_like_any_other(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as address, bucket_of(address, monkeypatch):
        log_predictions(run, location="s3://feed/log")
        config = config_of(run)
        log = config.serving.log.model_copy(update={"directory": "s3://feed/log"})
        config = config.model_copy(update={"serving": config.serving.model_copy(update={"log": log})})
        places = {left.place.partition("/date=")[0] for left in verify_erasure([WHO], run_dir=run, config=config)}
        report = erase([WHO], run_dir=run, config=config, who="tester", now=NOW)
        assert "s3://feed/log" in places and "s3://feed/log" in {erased.place for erased in report.erased}
        assert verify_erasure([WHO], run_dir=run, config=config) == []
        assert Door("s3://feed/log").read().has(People.of([WHO]).numbers[0])
