"""What an earlier release left becomes tables, and nothing is lost."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedrank import delta, schema
from feedrank.config.data import GeneratorConfig
from feedrank.config.feed import Feed
from feedrank.config.ingest import IngestConfig
from feedrank.data.generator import generate
from feedrank.data.ingest import ingest
from feedrank.data.ingest.quarantine import SCHEMA, place
from feedrank.data.ingest_facts import facts_of
from feedrank.errors import DataError
from feedrank.interactions import open_interactions
from feedrank.migrate import migrate_interactions
from feedrank.prediction_log.migrate import migrate_log
from feedrank.prediction_log.reader import read_log
from feedrank.storage import exclusive
from feedrank.tables import read_partitioned, write_partitioned
from tests.s3_server import bucket_of, s3_server


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


def test_a_table_is_opened_while_an_ingestion_writes(folder: Path, rows: pa.Table) -> None:
    migrate_interactions(folder)
    with exclusive(folder):
        assert migrate_interactions(folder) is not None and is_whole(folder, rows)


def old_log(location: str, *, file: int = 0) -> list[str]:
    """Three days of a log as the release before wrote it: no `received_at`, small files; returns the ids."""
    ids = []
    files = delta.file_system(location)
    for day in (1, 2, 3):
        names = [f"boot-{file}-{day}-{row}" for row in range(5)]
        time = datetime(2024, 11, day, 12, file, tzinfo=UTC)
        row = dict.fromkeys(Feed().log.names, 1) | {
            schema.TIMESTAMP: time,
            schema.MODEL_VERSION: "v1.0.0",
            schema.FEATURES_STRUCT: dict.fromkeys(Feed().names, 1),
        }
        table = pa.Table.from_pylist([row | {schema.PREDICTION_ID: name} for name in names], Feed().log)
        if delta.is_local(location):
            files.create_dir(f"date=2024-11-0{day}", recursive=True)
        with files.open_output_stream(f"date=2024-11-0{day}/part-boot-{file:08d}.parquet") as stream:
            pq.write_table(table.drop_columns([schema.RECEIVED_AT]), stream)
        ids += names
    return ids


def assert_log(location: str, ids: list[str]) -> None:
    read = read_log(location)
    assert sorted(read[schema.PREDICTION_ID].to_pylist()) == sorted(ids)
    assert read[schema.RECEIVED_AT].equals(read[schema.TIMESTAMP])
    names = {file.path.lstrip("/").partition("/")[2] for file in delta.data_files(delta.file_system(location))}
    assert not {name for name in names if name.startswith("part-boot-")}, "the old files are gone"
    assert not (Path(location) / "_migration.json").exists()


@pytest.fixture(params=["volume", "s3"])
def log(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "volume":
        yield str(tmp_path / "log")
        return
    with s3_server() as server, bucket_of(server, monkeypatch):
        yield "s3://feed/log"


def test_an_old_prediction_log_becomes_a_table_and_what_comes_later_follows(log: str) -> None:
    assert migrate_log(log) is None
    ids = old_log(log) + old_log(log, file=1)
    table = migrate_log(log)
    assert table is not None and table.rows == 30 and list(table.days()) == [date(2024, 11, day) for day in (1, 2, 3)]
    assert_log(log, ids)
    again = migrate_log(log)
    assert again is not None and again.version == table.version
    ids += old_log(log, file=2)  # by a pod of the earlier release that had not ended
    migrate_log(log)
    assert_log(log, ids)


def test_a_damaged_file_of_the_log_is_named_before_anything_is_changed(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    ids = old_log(log)
    bad = tmp_path / "log" / "date=2024-11-02" / "part-boot-00000009.parquet"
    bad.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"part-boot-00000009\.parquet: can't be read .* move it away"):
        migrate_log(log)
    assert not delta.is_table(log)
    bad.unlink()
    migrate_log(log)
    assert_log(log, ids)


KILLED_LOG = """
import os, signal, sys
from feedrank import delta
from feedrank.prediction_log import migrate

def killed(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def after(calls, original):
    left = iter(range(calls))
    return lambda *args, **kwargs: original(*args, **kwargs) if next(left, None) is not None else killed()

migrate.ROWS_AT_ONCE = 5
if sys.argv[2] == "files are written":
    migrate._opened = after(8, migrate._opened)
elif sys.argv[2] == "the table is made":
    delta.Table.commit = killed
elif sys.argv[2] == "it is committed":
    migrate._end = killed
else:
    migrate._remove = after(2, migrate._remove)
migrate.migrate_log(sys.argv[1])
"""


@pytest.mark.parametrize("moment", ["files are written", "the table is made", "it is committed", "old files go"])
def test_a_kill_loses_and_repeats_no_prediction(tmp_path: Path, moment: str) -> None:
    log = str(tmp_path / "log")
    ids = old_log(log) + old_log(log, file=1)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", KILLED_LOG, log, moment], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    migrate_log(log)
    assert_log(log, ids)
