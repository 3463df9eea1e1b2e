"""Ingestion: mapping, casts, derived columns, idempotence, quarantine, bad input."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedrank import delta
from feedrank.config.data import GeneratorConfig
from feedrank.config.ingest import IngestConfig
from feedrank.data.generator import generate
from feedrank.data.ingest import IngestSummary, ingest, load_mapping
from feedrank.data.ingest.identity import hashed_ids
from feedrank.errors import ConfigError, DataError, StorageError
from feedrank.storage import exclusive
from feedrank.tables import read_partitioned, write_partitioned
from tests.data.ingest.conftest import quarantined

MAPPINGS = Path(__file__).parents[3] / "config" / "mappings"
TOLERANT = IngestConfig(max_unreadable_share=1.0)
Ingest = Callable[..., IngestSummary]


@pytest.fixture
def run(tmp_path: Path) -> Ingest:
    def call(*inputs: Path | str, mapping: Path | None = None, config: IngestConfig | None = None) -> IngestSummary:
        return ingest(
            [str(i) for i in inputs],
            output=tmp_path / "table",
            mapping=mapping,
            config=config or IngestConfig(),
        )

    return call


@pytest.fixture(scope="module")
def own_rows() -> pa.Table:
    config = GeneratorConfig(num_users=50, num_items=80, num_interactions=400, end_date="2024-01-04")
    return pa.concat_tables(generate(config))


def ratings_file(folder: Path, rows: int = 300) -> Path:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "user": rng.integers(1, 40, rows),
            "item": rng.integers(1, 90, rows),
            "rating": rng.integers(1, 6, rows),
            "timestamp": 1_500_000_000 + np.sort(rng.integers(0, 20 * 86_400, rows)),
        }
    )
    frame.to_csv(folder / "ratings.csv", index=False)
    return folder / "ratings.csv"


def write_lines(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_mapping(folder: Path, text: str) -> Path:
    return write_lines(folder / "mapping.yaml", text)


def test_own_rows_come_back_unchanged_and_a_second_run_adds_nothing(
    tmp_path: Path, run: Ingest, own_rows: pa.Table
) -> None:
    write_partitioned(own_rows, tmp_path / "raw")
    first, second = run(tmp_path / "raw"), run(tmp_path / "raw")
    assert (first.rows_added, first.rows_known) == (400, 0)
    assert (second.files_unchanged, second.rows_read, second.rows_in_table) == (second.files, 0, 400)
    assert read_partitioned(tmp_path / "table").equals(own_rows.combine_chunks())


def test_new_rows_join_the_existing_ones(tmp_path: Path, run: Ingest, own_rows: pa.Table) -> None:
    pq.write_table(own_rows.slice(0, 250), tmp_path / "first.parquet")
    pq.write_table(own_rows.slice(200), tmp_path / "second.parquet")
    run(tmp_path / "first.parquet")
    summary = run(tmp_path / "second.parquet")
    assert (summary.rows_added, summary.rows_known, summary.rows_in_table) == (150, 50, 400)
    assert read_partitioned(tmp_path / "table").equals(own_rows.combine_chunks())


def test_overlapping_files_of_one_run_count_once(tmp_path: Path, run: Ingest, own_rows: pa.Table) -> None:
    pq.write_table(own_rows.slice(0, 250), tmp_path / "a.parquet")
    pq.write_table(own_rows.slice(200), tmp_path / "b.parquet")
    summary = run(f"{tmp_path}/*.parquet", tmp_path / "a.parquet", config=IngestConfig(chunk_rows=90))
    assert (summary.files, summary.rows_added, summary.rows_known) == (2, 400, 50)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "jsonl", "parquet"])
def test_every_format_gives_the_same_table(tmp_path: Path, run: Ingest, own_rows: pa.Table, kind: str) -> None:
    frame, path = own_rows.to_pandas(), tmp_path / f"rows.{kind}"
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "jsonl":
        frame.assign(timestamp=frame["timestamp"].map(pd.Timestamp.isoformat)).to_json(
            path, orient="records", lines=True, double_precision=15
        )
    else:
        frame.to_csv(path, index=False)
    run(path)
    assert read_partitioned(tmp_path / "table").equals(own_rows.combine_chunks())


def test_a_remote_address_is_read_through_fsspec(tmp_path: Path, run: Ingest, own_rows: pa.Table) -> None:
    with fsspec.open("memory://feed/day/rows.csv", "w") as file:
        own_rows.to_pandas().to_csv(file, index=False)
    assert run("memory://feed").rows_added == 400


def test_ratings_become_clicks_and_missing_columns_take_their_defaults(tmp_path: Path, run: Ingest) -> None:
    source = ratings_file(tmp_path)
    summary = run(source, mapping=MAPPINGS / "ratings.yaml")
    ratings, table = pd.read_csv(source), read_partitioned(tmp_path / "table").to_pandas()
    assert summary.defaulted_columns == ("device", "dwell_time", "like", "share")
    assert table["click"].tolist() == (ratings["rating"] >= 4).astype(int).tolist()
    assert table["timestamp"].tolist() == pd.to_datetime(ratings["timestamp"], unit="s", utc=True).tolist()
    assert (table["device"] == "desktop").all()
    assert table["day_of_week"].tolist() == table["timestamp"].dt.dayofweek.tolist()
    morning = table["timestamp"].dt.hour.between(6, 11)
    assert ((table["time_of_day"] == "morning") == morning).all()
    assert run(source, mapping=MAPPINGS / "ratings.yaml").rows_added == 0


def test_equal_rows_of_one_file_stay_two(tmp_path: Path, run: Ingest) -> None:
    source = write_lines(tmp_path / "r.csv", "user,item,rating,timestamp", *["1,2,5,1500000000"] * 2)
    assert run(source, mapping=MAPPINGS / "ratings.yaml").rows_added == 2
    assert run(source, mapping=MAPPINGS / "ratings.yaml").rows_added == 0
    assert read_partitioned(tmp_path / "table")["interaction_id"].to_pandas().is_unique


def test_units_renamed_values_fills_and_constants(tmp_path: Path, run: Ingest) -> None:
    source = write_lines(
        tmp_path / "events.tsv",
        "uid\tsku\tt\tdwell\tplatform",
        "anna\tA-1\t1500000000123\t2500\tphone",
        "bob\tA-2\t1500000000456\t\tpc",
    )
    mapping = write_mapping(
        tmp_path,
        """
columns:
  user_id: {from: uid, hash: true}
  item_id: {from: sku, hash: true}
  timestamp: {from: t, unit: ms}
  dwell_time: {from: dwell, unit: ms, fill: "0"}
  device: {from: platform, values: {phone: mobile, pc: desktop}}
  click: {constant: 1}
""",
    )
    run(source, mapping=mapping)
    table = read_partitioned(tmp_path / "table").to_pandas()
    assert table["dwell_time"].tolist() == [2.5, 0.0]
    assert table["device"].tolist() == ["mobile", "desktop"]
    assert table["timestamp"].iloc[0].isoformat() == "2017-07-14T02:40:00.123000+00:00"
    assert table["click"].tolist() == [1, 1]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=30))
def test_hashed_ids_depend_on_the_text_alone(texts: list[str]) -> None:
    ids = hashed_ids([pa.chunked_array([pa.array(texts, pa.string())])]).to_pylist()
    alone = [hashed_ids([pa.chunked_array([pa.array([text], pa.string())])])[0].as_py() for text in texts]
    assert ids == alone
    assert min(ids) >= 0
    assert len(set(ids)) == len(set(texts))


def test_hashed_ids_never_change() -> None:
    column = pa.chunked_array([["anna", "bob"]])
    assert hashed_ids([column]).to_pylist() == [8894313598895519752, 5729371134164487996]


def test_the_open_bandit_sample_is_ingested(tmp_path: Path, run: Ingest) -> None:
    spec = importlib.util.find_spec("obp")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("install requirements/samples.txt with --no-deps")
    data = Path(spec.submodule_search_locations[0]) / "dataset" / "obd"
    files = [data / b / c / f"{c}.csv" for b in ("bts", "random") for c in ("all", "men", "women")]
    summary = run(*files, mapping=MAPPINGS / "open_bandit.yaml")
    table = read_partitioned(tmp_path / "table")
    assert (summary.rows_added, summary.rows_quarantined, table.num_rows) == (60_000, 0, 60_000)
    assert 0.004 < np.mean(table["click"].to_numpy()) < 0.006
    assert run(*files, mapping=MAPPINGS / "open_bandit.yaml").rows_added == 0


# Bad input


def test_cells_that_cant_be_cast_go_to_quarantine_with_place_and_reason(tmp_path: Path, run: Ingest) -> None:
    source = write_lines(
        tmp_path / "r.csv",
        "user,item,rating,timestamp",
        "1,2,5,1500000000",
        "abc,2,5,1500000000",
        "1,2,,1500000000",
        "1,2,5,yesterday",
        "1,2.5,5,1500000000",
        "99999999999999999999,2,5,1500000000",
        "1,2,5,1500000000,surplus",
    )
    summary = run(source, mapping=MAPPINGS / "ratings.yaml", config=TOLERANT)
    assert (summary.rows_read, summary.rows_added, summary.rows_quarantined) == (7, 1, 6)
    rows = quarantined(tmp_path / "table")
    reasons = {row["row"]: row["reason"] for row in rows}
    assert reasons[2].startswith("user_id 'abc' is not a whole number")
    assert reasons[3] == "click is missing"
    assert reasons[4].startswith("timestamp 'yesterday' is not")
    assert reasons[5].startswith("item_id '2.5' is not a whole number")
    assert reasons[6].startswith("user_id '99999999999999999999' is not")
    assert reasons[7] == "line can't be parsed: 5 cells instead of 4"
    assert json.loads(next(row["record"] for row in rows if row["row"] == 2))["user"] == "abc"
    run(source, mapping=MAPPINGS / "ratings.yaml", config=TOLERANT)
    assert len(quarantined(tmp_path / "table")) == 6


def test_broken_json_lines_go_to_quarantine(tmp_path: Path, run: Ingest) -> None:
    good = {"user": 1, "item": 2, "rating": 5, "timestamp": 1_500_000_000}
    source = write_lines(tmp_path / "r.jsonl", json.dumps(good), '{"user": 1,', json.dumps(good | {"item": "3"}))
    summary = run(source, mapping=MAPPINGS / "ratings.yaml", config=TOLERANT)
    assert (summary.rows_added, summary.rows_quarantined) == (2, 1)


def test_too_many_unreadable_rows_fail_and_leave_the_table_whole(
    tmp_path: Path, run: Ingest, own_rows: pa.Table
) -> None:
    pq.write_table(own_rows, tmp_path / "good.parquet")
    run(tmp_path / "good.parquet")
    texts = own_rows.to_pandas().astype({"click": float})
    texts.loc[::2, "click"] = np.nan
    texts.to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(DataError, match=r"200 of 400 rows \(50.0%\).*row 1: click is missing"):
        run(tmp_path / "bad.parquet")
    assert read_partitioned(tmp_path / "table").equals(own_rows.combine_chunks())


def test_text_ids_without_hash_say_what_to_do(tmp_path: Path, run: Ingest, own_rows: pa.Table) -> None:
    own_rows.to_pandas().assign(user_id="u-1").to_parquet(tmp_path / "r.parquet")
    with pytest.raises(DataError, match=r"user_id 'u-1' is not a whole number .*hash: true"):
        run(tmp_path / "r.parquet")


def test_a_missing_column_is_named_with_the_file_and_those_present(
    tmp_path: Path, run: Ingest, own_rows: pa.Table
) -> None:
    pq.write_table(own_rows.drop_columns(["device"]), tmp_path / "r.parquet")
    with pytest.raises(DataError, match=r"r.parquet: column 'device' .* is missing; the file has interaction_id,"):
        run(tmp_path / "r.parquet")
    source = write_lines(tmp_path / "r.csv", "user,item,score,timestamp", "1,2,5,1500000000")
    with pytest.raises(DataError, match=r"column 'rating' \(for click\) is missing; the file has user, item, score"):
        run(source, mapping=MAPPINGS / "ratings.yaml")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nothing.parquet", None, "no such file"),
        ("rows.parquet", b"PAR1 no parquet", "can't be read as parquet"),
        ("rows.csv", b"", "the file is empty"),
        ("rows.csv", b"user,item,rating,timestamp\n", "no rows in it"),
        ("rows.csv", b"user,item,rating,timestamp\n1,2,\xff\xfe,3\n", "row 1: rating is no UTF-8 text"),
        ("rows.csv.gz", b"no gzip", "can't be read as csv"),
        ("rows.jsonl", b"", "the file is empty"),
        ("rows.xlsx", b"x", "the name's ending tells no format"),
    ],
)
def test_unusable_files_are_refused_in_one_sentence(
    tmp_path: Path, run: Ingest, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        run(tmp_path / name, mapping=MAPPINGS / "ratings.yaml")
    assert name in str(error.value)
    assert not (tmp_path / "table").exists()


def test_unknown_address_scheme_and_empty_folder_are_refused(tmp_path: Path, run: Ingest) -> None:
    with pytest.raises(DataError, match="can't be opened"):
        run("nowhere://bucket/rows.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no data file below it"):
        run(tmp_path / "empty")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("columns: {user: {from: a}}", "'user' is no column of ours"),
        ("columns: {click: {from: a, atleast: 4}}", "columns.click.atleast: Extra inputs"),
        ("columns: {user_id: {from: [a, b]}}", "only with 'hash: true'"),
        ("columns: {click: {}}", "give either 'from'"),
        ("columns: {device: {from: a, unit: s}}", "'unit' is for timestamp, action_time, dwell_time only"),
        ("columns: [", "not valid YAML"),
    ],
)
def test_a_wrong_mapping_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        load_mapping(write_mapping(tmp_path, text))
    assert "mapping.yaml" in str(error.value)


def test_example_mappings_are_valid() -> None:
    assert {path.stem for path in MAPPINGS.glob("*.yaml")} >= {"open_bandit", "ratings"}
    for path in MAPPINGS.glob("*.yaml"):
        assert set(load_mapping(path).columns) >= {"user_id", "item_id", "timestamp", "click"}


def test_a_second_run_beside_the_first_is_refused(tmp_path: Path, run: Ingest) -> None:
    source = ratings_file(tmp_path)
    with exclusive(tmp_path / "table"), pytest.raises(StorageError, match="another run is writing it"):
        run(source, mapping=MAPPINGS / "ratings.yaml")
    assert run(source, mapping=MAPPINGS / "ratings.yaml").rows_added == 300


KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from feedrank import delta
from feedrank.config.ingest import IngestConfig
from feedrank.data.ingest import ingest, quarantine, versions

def killed(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def killed_after(function):
    def call(*args, **kwargs):
        function(*args, **kwargs)
        killed()
    return call

if sys.argv[4] == "while rows are written":
    write = delta.write_files
    delta.write_files = lambda *args, **kwargs: (next(write(*args, **kwargs)), killed())
elif sys.argv[4] == "in the middle of the merge":
    versions.Versions._leave_last_versions = killed_after(versions.Versions._leave_last_versions)
elif sys.argv[4] == "before the commit":
    versions.Versions.commit = killed
else:
    versions.Versions.commit = killed_after(versions.Versions.commit)
ingest([sys.argv[1]], output=Path(sys.argv[2]), mapping=Path(sys.argv[3]), config=IngestConfig())
"""


@pytest.mark.parametrize(
    "moment", ["while rows are written", "in the middle of the merge", "before the commit", "after the commit"]
)
def test_a_kill_leaves_the_earlier_table_or_the_new_one_whole_and_a_rerun_works(
    tmp_path: Path, run: Ingest, moment: str
) -> None:
    source, mapping, table = ratings_file(tmp_path), MAPPINGS / "ratings.yaml", tmp_path / "table"
    run(source, mapping=mapping)
    before = read_partitioned(table)
    frame = pd.read_csv(source)
    later = pd.concat([frame.assign(rating=6 - frame["rating"]), frame.assign(movieId=99)])
    later.iloc[:0].to_csv(tmp_path / "later.csv")
    later.to_csv(tmp_path / "later.csv", index=False)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_RUN, str(tmp_path / "later.csv"), str(table), str(mapping), moment],
        env=os.environ | {"PYTHONPATH": str(MAPPINGS.parents[1])},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    if moment != "after the commit":
        assert read_partitioned(table).equals(before)
    summary = run(tmp_path / "later.csv", mapping=mapping)
    assert summary.files_unchanged == (moment == "after the commit") and summary.rows_in_table == 600
    expected = [int(rating <= 2) for rating in frame["rating"]] + [int(rating >= 4) for rating in frame["rating"]]
    assert sum(read_partitioned(table)["click"].to_pylist()) == sum(expected)
    delta.open_table(table).vacuum(keep_hours=0)
    assert len(list(table.glob("date=*/*.parquet"))) == len(delta.open_table(table).days())


def test_a_full_disk_is_not_swallowed(tmp_path: Path, run: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    source = ratings_file(tmp_path)
    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space left") as error:
        run(source, mapping=MAPPINGS / "ratings.yaml")
    assert error.value.errno == 28
    assert not (tmp_path / "table").exists()
