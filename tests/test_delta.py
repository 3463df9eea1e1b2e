"""Tables that live long, on a volume and in an object store alike."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from feedrank import delta
from feedrank.errors import DataError, StorageError
from tests.s3_server import bucket_of, s3_server

LAYOUT = delta.Layout(
    pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("value", pa.int64()),
            pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        ]
    ),
    day_of="time",
)
DAYS = [date(2024, 1, day) for day in (1, 2, 3)]


def rows(keys: range, *, value: int | None = 0, day: int = 1) -> pa.Table:
    time_of_day = datetime(2024, 1, day, 23, 59, 59, 999_999, tzinfo=UTC)
    return pa.table(
        {"key": [f"k{key}" for key in keys], "value": [value] * len(keys), "time": [time_of_day] * len(keys)},
        schema=LAYOUT.columns,
    )


def values(table: delta.Table) -> dict[str, int | None]:
    read = table.read(columns=["key", "value"])
    assert len(set(read["key"].to_pylist())) == read.num_rows, "a key stands once"
    return dict(zip(read["key"].to_pylist(), read["value"].to_pylist(), strict=True))


def test_old_commits_go_where_their_layout_says_so_and_transactions_stay_known(tmp_path):
    layout = replace(LAYOUT, history_days=0)
    table = delta.create_table(tmp_path / "table", layout=layout)
    for number in range(210):  # a checkpoint is made, and old commits removed, every hundred
        table = table.append(rows(range(number, number + 1)), layout=layout, note=delta.Note(transaction=("a", number)))

    again = table.append(rows(range(1)), layout=layout, note=delta.Note(transaction=("a", 209)))

    assert len(list((tmp_path / "table" / "_delta_log").glob("*.json"))) < 100
    assert again.rows == 210


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(params=["volume", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "volume":
        yield str(tmp_path / "table")
    else:
        with bucket_of(request.getfixturevalue("server"), monkeypatch):
            yield "s3://feed/tables/mine"


@pytest.fixture
def table(tmp_path: Path) -> delta.Table:
    return delta.create_table(tmp_path / "table", layout=LAYOUT)


def test_what_is_written_is_read_as_it_was(location):
    assert not delta.is_table(location)
    with pytest.raises(DataError, match="there is no table; run the step that writes it"):
        delta.open_table(location)
    table = delta.create_table(location, layout=LAYOUT)
    assert delta.is_table(location) and table.version == 0 and table.rows == 0 and table.days() == {}
    assert table.read().schema == LAYOUT.columns
    assert delta.create_table(location, layout=LAYOUT).version == 0, "it is there"
    pieces = [rows(range(3)), rows(range(3, 5), value=None, day=2)]
    written = table.append(iter(pieces), layout=LAYOUT, note=delta.Note({"from": "a test"}))
    assert table.rows == 0, "a snapshot stays what it is"
    assert written.version == 1 and written.read().equals(pa.concat_tables(pieces))
    assert {day: found.rows for day, found in written.days().items()} == {DAYS[0]: 3, DAYS[1]: 2}
    assert written.bytes == sum(found.bytes for found in written.days().values()) > 0
    assert written.read(start=DAYS[1]).num_rows == 2 and written.read(end=DAYS[0]).num_rows == 3
    assert written.read(columns=["value"], where=delta.text("key") == "k1").to_pylist() == [{"value": 0}]
    assert [commit.metadata for commit in written.history(limit=1)] == [{"from": "a test"}]
    with pytest.raises(DataError, match="column colour is missing; it has"):
        written.read(columns=["colour"])


def test_a_merge_adds_what_is_new_and_replaces_what_changed(location):
    table = delta.create_table(location, layout=LAYOUT).append(rows(range(10)), layout=LAYOUT)
    newer = pa.concat_tables([rows(range(8, 10)), rows(range(2), value=None), rows(range(10, 13))])
    table, merged = table.merge(newer, key="key", layout=LAYOUT)
    assert (merged.added, merged.updated) == (3, 2), "two stand there already"
    assert values(table) == {f"k{key}": None if key < 2 else 0 for key in range(13)}
    table, merged = table.merge(newer, key="key", layout=LAYOUT)
    assert (merged.added, merged.updated) == (0, 0)
    table, merged = table.merge(rows(range(2), day=3), key="key", layout=LAYOUT, days=DAYS[:1])
    assert (merged.added, merged.updated) == (0, 2)
    assert {day: found.rows for day, found in table.days().items()} == {DAYS[0]: 11, DAYS[2]: 2}
    assert table.read(columns=["key"], where=delta.text("key") == "k3").num_rows == 1


def test_days_are_replaced_and_rows_deleted(location):
    table = delta.create_table(location, layout=LAYOUT).append(
        [rows(range(4)), rows(range(4, 9), day=2)], layout=LAYOUT
    )
    replaced = table.replace_days(rows(range(20, 22)), days=DAYS[:1], layout=LAYOUT)
    assert set(values(replaced)) == {"k20", "k21", "k4", "k5", "k6", "k7", "k8"}
    assert replaced.replace_days(rows(range(0)), days=DAYS[:1], layout=LAYOUT).days().keys() == {DAYS[1]}
    table, deleted = table.delete("key IN ('k4', 'k8')")
    assert deleted == 2 and set(values(table)) == {"k5", "k6", "k7"}
    table, deleted = table.delete(delta.in_days(DAYS[1:2]))
    assert deleted == 3 and table.rows == 0


def test_changed_days_are_those_whose_rows_changed(location):
    table = delta.create_table(location, layout=LAYOUT)
    for day in (1, 2, 3):
        table = table.append(rows(range(10 * day, 10 * day + day), day=day), layout=LAYOUT)
    table = table.append(rows(range(3), day=2), layout=LAYOUT)
    assert table.changed_days(0) == DAYS and table.changed_days(3) == DAYS[1:2] and table.changed_days(4) == []
    compacted = table.compact()
    assert compacted.days()[DAYS[1]].files == 1 < table.days()[DAYS[1]].files
    assert compacted.changed_days(table.version) == [] and values(compacted) == values(table)
    table, _ = compacted.merge(rows(range(10, 11), value=5), key="key", layout=LAYOUT)
    assert table.changed_days(compacted.version) == DAYS[:1]


def test_earlier_versions_are_read_until_they_are_vacuumed(location):
    table = delta.create_table(location, layout=LAYOUT).append(rows(range(3)), layout=LAYOUT)
    for value in (1, 2):
        table, _ = table.merge(rows(range(3), value=value), key="key", layout=LAYOUT)
    assert values(delta.open_table(location, version=1)) == {"k0": 0, "k1": 0, "k2": 0}
    assert len(table.vacuum(keep_hours=0, keep_versions=[1])) == 1
    assert values(table.refreshed()) == {"k0": 2, "k1": 2, "k2": 2}
    assert set(values(delta.open_table(location, version=1)).values()) == {0}, "it was to be kept"
    with pytest.raises(DataError, match="version 2, can't be read"):
        delta.open_table(location, version=2).read()
    with pytest.raises(DataError, match="there is no version 99 of the table"):
        delta.open_table(location, version=99)


def test_a_transaction_is_committed_once(location):
    table = delta.create_table(location, layout=LAYOUT)
    note = delta.Note({}, ("compactor", 7))
    table = table.append(rows(range(3)), layout=LAYOUT, note=note)
    assert table.transaction("compactor") == 7 and table.transaction("another") is None
    again = table.append(rows(range(3)), layout=LAYOUT, note=note)
    assert (again.version, again.rows) == (table.version, 3)


def test_an_error_among_the_rows_writes_nothing_and_is_raised_as_it_was(table):
    def pieces() -> Iterator[pa.Table]:
        yield rows(range(5))
        raise DataError("row 6 is no row")

    with pytest.raises(DataError, match=r"^row 6 is no row$"):
        table.append(pieces(), layout=LAYOUT)
    assert table.refreshed().version == 0


def test_a_new_column_is_empty_in_the_rows_of_before(table):
    table = table.append(rows(range(2)), layout=LAYOUT)
    wider = delta.Layout(LAYOUT.columns.append(pa.field("colour", pa.string())), "time")
    assert table.widened(LAYOUT) is table
    table = table.widened(wider)
    assert table.read()["colour"].to_pylist() == [None, None]
    red = rows(range(1, 3)).append_column("colour", pa.array(["red"] * 2))
    table, merged = table.merge(red, key="key", layout=wider)
    assert (merged.added, merged.updated) == (1, 1)
    assert sorted(table.read()["colour"].to_pylist(), key=str) == [None, "red", "red"]


def old_folder(folder: Path) -> Path:
    for day in (1, 2):
        (folder / f"date=2024-01-0{day}").mkdir(parents=True)
        pq.write_table(rows(range(10 * day, 10 * day + 3), day=day), folder / f"date=2024-01-0{day}" / "part-0.parquet")
    return folder


def test_a_folder_of_days_becomes_a_table_where_it_lies(tmp_path):
    folder = old_folder(tmp_path / "old")
    files = {file: file.stat().st_ino for file in folder.rglob("*.parquet")}
    wider = delta.Layout(LAYOUT.columns.append(pa.field("colour", pa.string())), "time")
    table = delta.convert(folder, layout=wider, note=delta.Note({"from": "a folder"}))
    assert {day: found.rows for day, found in table.days().items()} == {DAYS[0]: 3, DAYS[1]: 3}
    assert {file: file.stat().st_ino for file in folder.rglob("*.parquet")} == files
    assert table.read(start=DAYS[1])["key"].to_pylist() == ["k20", "k21", "k22"]
    assert set(table.read()["colour"].to_pylist()) == {None}
    assert delta.convert(folder, layout=wider).version == table.version
    table, merged = table.merge(rows(range(20, 25), day=2), key="key", layout=LAYOUT)
    assert (merged.added, merged.updated) == (2, 0)


@pytest.mark.parametrize(
    "protocol",
    [
        {"minReaderVersion": 9, "minWriterVersion": 9},
        {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": ["hoverBoard"],
            "writerFeatures": ["hoverBoard"],
        },
        {
            "minReaderVersion": 3,
            "minWriterVersion": 7,
            "readerFeatures": ["deletionVectors"],
            "writerFeatures": ["deletionVectors"],
        },
    ],
)
def test_a_table_of_a_newer_format_is_refused(table, protocol):
    log = Path(table.location) / "_delta_log" / f"{1:020}.json"
    log.write_text(json.dumps({"protocol": protocol}) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="the table needs a newer release"):
        delta.open_table(table.location)


def test_a_table_that_only_a_newer_release_may_write_is_read_and_not_written(table):
    log = Path(table.location) / "_delta_log" / f"{1:020}.json"
    protocol = {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["hoverBoard"]}
    log.write_text(json.dumps({"protocol": protocol}) + "\n", encoding="utf-8")
    assert table.refreshed().read().num_rows == 0
    with pytest.raises(DataError, match=r"the table needs a newer release .*hoverBoard"):
        table.append(rows(range(1)), layout=LAYOUT)


def test_a_damaged_file_is_named(table):
    table = table.append(rows(range(3)), layout=LAYOUT)
    next(Path(table.location).rglob("*.parquet")).write_bytes(b"PAR1 no more PAR1")
    with pytest.raises(DataError, match=r"table, version 1, can't be read .*a file of it is damaged or gone"):
        table.read()


def writes(location: str, writer: int) -> None:
    """Appends three times, and merges into a day of all writers."""
    for turn in range(3):
        table = delta.open_table(location)
        table = table.append(rows(range(100 * writer + 10 * turn, 100 * writer + 10 * turn + 10)), layout=LAYOUT)
        table.merge(rows(range(writer, writer + 1), value=turn, day=2), key="key", layout=LAYOUT)


def test_several_writers_lose_nothing(location):
    delta.create_table(location, layout=LAYOUT)
    with ThreadPoolExecutor() as pool:
        for written in [pool.submit(writes, location, writer) for writer in (1, 2, 3)]:
            written.result()
    table = delta.open_table(location)
    assert table.days()[DAYS[0]].rows == 90
    latest = table.read(start=DAYS[1])
    assert sorted(latest["key"].to_pylist()) == ["k1", "k2", "k3"] and set(latest["value"].to_pylist()) == {2}


def test_of_two_writers_of_one_day_or_transaction_one_is_told(table):
    table = table.append(rows(range(3)), layout=LAYOUT)
    other = table.refreshed()
    table.replace_days(rows(range(5)), days=DAYS[:1], layout=LAYOUT)
    with pytest.raises(StorageError, match="another run wrote the same rows meanwhile; try again"):
        other.replace_days(rows(range(7)), days=DAYS[:1], layout=LAYOUT)
    assert table.refreshed().rows == 5
    table = table.refreshed()
    table.append(rows(range(9, 10)), layout=LAYOUT)
    with pytest.raises(StorageError, match="another run wrote the same rows meanwhile"):
        table.replace_days(rows(range(7)), days=DAYS[:1], layout=LAYOUT)
    with pytest.raises(StorageError, match="another run wrote the same rows meanwhile"):
        table.commit([], note=delta.Note({}, ("app", 1))).commit([], note=delta.Note({}, ("app", 1)))
    replaced = table.refreshed().replace(rows(range(2), day=3), layout=LAYOUT)
    assert replaced.days().keys() == {DAYS[2]}


def test_a_reader_sees_a_whole_version_during_compaction_and_writes(table):
    for turn in range(20):
        table = table.append(rows(range(turn, turn + 1)), layout=LAYOUT)
    done = threading.Event()
    counts: set[int] = set()

    def read() -> None:
        while not done.is_set():
            counts.add(delta.open_table(table.location).read(columns=["key"]).num_rows)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        table.compact().merge(rows(range(20), value=1), key="key", layout=LAYOUT)
    finally:
        done.set()
        reader.join()
    assert counts == {20}
    assert values(table.refreshed()) == {f"k{key}": 1 for key in range(20)}
    assert table.read().num_rows == 20, "a snapshot outlives the compaction of its files"


KILLED = """
import sys, time
import pyarrow as pa
from feedrank import delta

table = delta.open_table(sys.argv[1])
layout = delta.Layout(table.read().schema, day_of="time")

def pieces():
    for piece in range(1000):
        print(piece, flush=True)
        yield pa.concat_tables([table.read()] * 300)
        time.sleep(0.002)

table.append(pieces(), layout=layout)
"""


def test_a_killed_writer_leaves_the_table_as_it_was(table):
    table = table.append(rows(range(3)), layout=LAYOUT)
    command = [sys.executable, "-c", KILLED, str(table.location)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "20":
            pass
        process.kill()
    table = table.refreshed()
    assert table.version == 1 and table.rows == 3
    assert table.append(rows(range(3, 5)), layout=LAYOUT).rows == 5
    table.vacuum(keep_hours=0)
    assert {file.name for file in Path(table.location).rglob("*.parquet")} == {
        Path(file).name for file in table.refreshed()._files["path"].to_pylist()
    }


def test_a_store_that_is_down_is_an_error_with_a_remedy(server, monkeypatch):
    with bucket_of(server, monkeypatch), monkeypatch.context() as down:
        table = delta.create_table("s3://feed/mine", layout=LAYOUT)
        down.setitem(delta.store.STORE_OPTIONS, "retry_timeout", "2s")
        down.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        for use in (
            lambda: delta.is_table("s3://feed/mine"),
            table.refreshed,
            lambda: table.append(rows(range(1)), layout=LAYOUT),
        ):
            with pytest.raises(StorageError, match=r"s3://feed/mine: .*check.* then try again"):
                use()


def test_a_store_that_does_not_answer_is_no_hang(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    for name, value in {"timeout": "1s", "retry_timeout": "2s", "max_retries": "1"}.items():
        monkeypatch.setitem(delta.store.STORE_OPTIONS, name, value)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(StorageError, match="s3://feed/mine: "):
            delta.open_table("s3://feed/mine")
        assert time.monotonic() - start < 20


def test_the_process_of_the_predictor_never_loads_the_table_library():
    code = "import sys, serving.__main__; print('deltalake' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "False"


def test_nothing_of_a_table_is_counted_by_reading_it(table):
    table = table.append(rows(range(1000)), layout=LAYOUT)
    for file in Path(table.location).rglob("*.parquet"):
        file.unlink()
    assert table.refreshed().days()[DAYS[0]].rows == table.refreshed().rows == 1000
    assert pc.sum(table._files["num_records"]).as_py() == 1000
