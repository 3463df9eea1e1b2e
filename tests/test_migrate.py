"""What an earlier release left becomes tables, and nothing is lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedrank import delta, schema
from feedrank.config.data import GeneratorConfig
from feedrank.config.ingest import IngestConfig
from feedrank.data.generator import generate
from feedrank.data.ingest import ingest
from feedrank.data.ingest.quarantine import SCHEMA, place
from feedrank.data.ingest_facts import facts_of
from feedrank.errors import DataError
from feedrank.interactions import open_interactions
from feedrank.migrate import migrate_interactions
from feedrank.tables import read_partitioned, write_partitioned


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    config = GeneratorConfig(num_users=50, num_items=80, num_interactions=400, end_date="2024-01-04")
    return pa.concat_tables(generate(config))


@pytest.fixture
def folder(tmp_path: Path, rows: pa.Table) -> Path:
    """As the release before left it: without `action_time`, with a quarantine and a file of facts."""
    folder = tmp_path / "interactions"
    write_partitioned(rows.drop_columns([schema.ACTION_TIME]), folder)
    (folder / "_quarantine").mkdir()
    bad = pa.Table.from_pylist([{"file": "a.csv", "row": 3, "reason": "click is missing", "record": "{}"}], SCHEMA)
    pq.write_table(bad, folder / "_quarantine" / "rows.parquet")
    (folder / "_ingest.json").write_text('{"columns_from_files": ["click", "user_id"]}')
    return folder


def is_whole(folder: Path, rows: pa.Table) -> bool:
    table = open_interactions(folder)
    facts = facts_of(table)
    assert facts is not None and facts.columns_from_files == ("click", "user_id")
    assert delta.open_table(place(folder)).read(columns=["file", "row"]).to_pylist() == [{"file": "a.csv", "row": 3}]
    names = [name for name in rows.column_names if name != schema.ACTION_TIME]
    assert set(read_partitioned(folder)[schema.ACTION_TIME].to_pylist()) == {None}
    return read_partitioned(folder).select(names).to_pylist() == rows.select(names).to_pylist()


def test_a_folder_of_interactions_becomes_a_table_with_its_quarantine_and_facts(folder: Path, rows: pa.Table) -> None:
    with pytest.raises(DataError, match=r"interactions: a folder of an earlier release; run `feedrank migrate`"):
        open_interactions(folder)
    files = {file: file.stat().st_ino for file in folder.glob("date=*/*.parquet")}
    table = migrate_interactions(folder)
    assert table is not None and is_whole(folder, rows)
    assert {file: file.stat().st_ino for file in folder.glob("date=*/*.parquet")} == files, "no row is copied"
    again = migrate_interactions(folder)
    assert again is not None and again.version == table.version and is_whole(folder, rows)


def test_a_migrated_table_is_ingested_into(folder: Path, rows: pa.Table, tmp_path: Path) -> None:
    migrate_interactions(folder)
    changed = rows.slice(0, 10).to_pandas().assign(click=1)
    changed.to_parquet(tmp_path / "late.parquet", index=False)
    summary = ingest([str(tmp_path / "late.parquet")], output=folder, mapping=None, config=IngestConfig())
    expected = 10 - sum(rows.slice(0, 10)["click"].to_pylist())
    assert (summary.rows_updated, summary.rows_known, summary.rows_in_table) == (expected, 10 - expected, 400)


KILLED = """
import os, signal, sys
from pathlib import Path
from feedrank import migrate

def killed(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "in the middle":
    migrate._migrate_quarantine = killed
else:
    Path.unlink = killed
migrate.migrate_interactions(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("moment", ["in the middle", "before the old files go"])
def test_a_kill_loses_nothing(folder: Path, rows: pa.Table, moment: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), moment], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    migrate_interactions(folder)
    assert is_whole(folder, rows)


def test_what_is_not_there_or_no_folder_of_days_is_left_alone(tmp_path: Path) -> None:
    assert migrate_interactions(tmp_path / "nothing") is None
    (tmp_path / "empty").mkdir()
    assert migrate_interactions(tmp_path / "empty") is None


def test_damaged_facts_are_named_before_anything_is_changed(folder: Path) -> None:
    (folder / "_ingest.json").write_text("{")
    with pytest.raises(DataError, match=r"_ingest\.json: can't be read"):
        migrate_interactions(folder)
    assert not delta.is_table(folder)
