"""Runs on a cluster start in fresh folders, and know the days that the runs before them accepted all the same."""

from datetime import timedelta
from pathlib import Path

import pandas as pd

from benchmarks.validation import clean_frame
from feedrank.data.validation import ValidationSummary
from pipelines.local import run_local


def run(frame: pd.DataFrame, folder: Path, *, claim: str) -> ValidationSummary:
    file = folder / "mine.parquet"
    frame.to_parquet(file)
    overrides = {"pipelines.volume.claim": claim, "pipelines.volume.mount_path": str(folder / "volume")}
    parameters = {"input_paths": [str(file)], "start_training": False, "config_overrides": overrides}
    done = run_local("etl_and_feature_engineering", root=folder / "runs", parameters=parameters)
    return ValidationSummary.model_validate_json((done.artifacts["validated"] / "summary.json").read_text())


def test_a_new_day_unlike_those_that_an_earlier_run_accepted_is_held_and_stops_nothing(tmp_path: Path) -> None:
    frame = clean_frame(1).copy()
    new = frame["timestamp"] >= frame["timestamp"].iloc[-1].floor("D") - timedelta(days=1)
    assert run(frame[~new], tmp_path, claim="feedrank-data").first_import
    frame.loc[new, "device"] = "tablet"
    summary = run(frame, tmp_path, claim="feedrank-data")
    assert len(summary.held_days) == 2 and summary.alarms and summary.clean_rows == (~new).sum()
    assert not run(frame, tmp_path, claim="feedrank-data").alarms


def test_without_a_volume_every_run_is_a_first_import(tmp_path: Path) -> None:
    for _ in range(2):
        assert run(clean_frame(1), tmp_path, claim="").first_import
    assert not (tmp_path / "volume").exists()
