"""The upkeep of a whole run folder."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from feedrank import delta
from feedrank.cli import app
from feedrank.config import load_config
from feedrank.config.data import GeneratorConfig
from feedrank.config.upkeep import TableUpkeepConfig
from feedrank.data.ingest import quarantine
from feedrank.data.validation.record import DayEntry, DayRecord, day_number
from feedrank.data.validation.stored import DAY, QUARANTINE_LAYOUT, REASON
from feedrank.features.snapshot import TableVersion
from feedrank.model.bundle import ModelMetadata
from feedrank.registered_model import RegisteredModel
from feedrank.stages import generate_interactions
from feedrank.upkeep import run_upkeep
from feedrank.upkeep.run import learned_versions
from feedrank.upkeep.tables import keep_table

NOW = datetime.now(UTC)
HELD = (NOW - timedelta(days=200)).date()
BAD = (NOW - timedelta(days=100)).date()
RECENT = (NOW - timedelta(days=10)).date()


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Old interactions, the rows that their ingestion rejected, and a quarantine with a held day."""
    monkeypatch.setenv("FEEDRANK_CONFIG_DIR", str(Path("config").resolve()))
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "small"
    generate_interactions(
        run / "interactions", config=GeneratorConfig(num_users=20, num_items=20, num_interactions=300)
    )
    rejected = [{"file": "a.csv", "row": 1, "reason": "bad", "record": "{}"}]
    quarantine.add(pa.Table.from_pylist(rejected, schema=quarantine.SCHEMA), run / "interactions")
    rows = [{DAY: pd.Timestamp(day, tz="UTC"), REASON: "day_held"} for day in (HELD, BAD, RECENT)]
    held_back = delta.create_table(run / "validated" / "quarantine", layout=QUARANTINE_LAYOUT)
    held_back.append(pa.Table.from_pylist(rows, schema=QUARANTINE_LAYOUT.columns), layout=QUARANTINE_LAYOUT)
    DayRecord({day_number(HELD): DayEntry("held", "?")}, pd.DataFrame()).save(run / "validated")
    return run


def test_old_bad_rows_go_and_held_days_stay(run_dir: Path) -> None:
    report = run_upkeep(run_dir, config=load_config(), now=NOW)
    assert not report.warnings
    assert set(delta.open_table(run_dir / "validated" / "quarantine").days()) == {HELD, RECENT}


def test_a_table_below_another_and_files_being_written_outlive_its_vacuum(run_dir: Path) -> None:
    table = delta.open_table(run_dir / "interactions")
    half_written, orphan = (run_dir / "interactions" / f"date=2020-01-01/{name}.parquet" for name in ("new", "old"))
    half_written.parent.mkdir(exist_ok=True)
    for file in (half_written, orphan):
        file.write_bytes(b"x")
    year_ago = time.time() - 365 * 86_400
    for file in (orphan, *(run_dir / "interactions" / quarantine.FOLDER).rglob("*.parquet")):
        os.utime(file, (year_ago, year_ago))
    run_upkeep(run_dir, config=load_config(), now=NOW)
    assert half_written.exists() and not orphan.exists()
    assert delta.open_table(quarantine.place(run_dir / "interactions")).read().num_rows == 1
    assert delta.open_table(run_dir / "interactions").read().num_rows == table.rows


def test_versions_that_registered_models_learned_from_outlive_the_vacuum(run_dir: Path) -> None:
    place = run_dir / "validated" / "quarantine"
    learned_from = delta.open_table(place)
    rows = learned_from.read()
    models = [
        RegisteredModel(1, "v1.0.0", "", True, (), ModelMetadata.model_construct(trained_on=source))
        for source in (
            TableVersion(location="runs/small/validated/quarantine", version=learned_from.version),
            TableVersion(location="runs/small/interactions", version=7),
            None,
        )
    ]
    kept = learned_versions(place, models)
    assert kept == [learned_from.version]
    config = TableUpkeepConfig.model_construct(keep_days=1, vacuum_hours=0)
    keep_table(place, name="table", config=config, today=NOW.date(), versions=[*kept, 99])
    assert not delta.open_table(place).rows
    assert delta.open_table(place, version=learned_from.version).read().equals(rows)


def test_the_command_says_what_it_did_and_fails_when_a_step_does(run_dir: Path) -> None:
    done = CliRunner().invoke(app, ["upkeep", "--run-dir", str(run_dir)])
    assert done.exit_code == 0, done.output
    assert "dropped 1 rows of 1 days" in done.output
    assert {freed["name"] for freed in json.loads((run_dir / "upkeep.json").read_text())["freed"]} >= {"interactions"}
    (run_dir / "validated" / "days.parquet").write_text("damaged")
    damaged = CliRunner().invoke(app, ["upkeep", "--run-dir", str(run_dir)])
    assert damaged.exit_code == 1 and "days.parquet: can't be read" in damaged.output
    assert not damaged.exception or isinstance(damaged.exception, SystemExit)
