"""Files are read once: again when they, or how they are read, have changed."""

import os
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from feedrank import delta
from feedrank.config.ingest import IngestConfig
from feedrank.data.ingest import IngestSummary, ingest, run
from feedrank.data.ingest_facts import KEY, facts_of
from feedrank.errors import DataError, StorageError
from feedrank.tables import read_partitioned
from tests.data.ingest.conftest import PLAIN, Table
from tests.data.ingest.test_versions import OWN_IDS, export
from tests.s3_server import bucket_of, s3_server

OLD_S = 1_600_000_000
"""A time of change that is long over."""


class Exports:
    """A folder of nightly exports, and the table that they are ingested into."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.table = folder / "exports", Table(folder)
        self.folder.mkdir()

    def write(self, name: str, rows: list[tuple[int, int, int]], *, day: int = 1, changed: int = OLD_S) -> None:
        (self.folder / name).write_text(export(rows, day=day))
        os.utime(self.folder / name, (changed, changed))

    def ingest(self, *, mapping: str = OWN_IDS) -> IngestSummary:
        return self.table.ingest_files(self.folder, mapping=mapping)

    def clicks(self) -> dict[int, int]:
        number = {(i % 7, i % 11): i for i in range(77)}
        rows = read_partitioned(self.table.path).to_pylist()
        return {number[row["user_id"], row["item_id"]]: row["click"] for row in rows}


@pytest.fixture
def exports(tmp_path: Path) -> Exports:
    return Exports(tmp_path)


def test_what_was_read_is_not_opened_again(exports: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    for night in (1, 2, 3):
        exports.write(f"{night}.csv", [(i, i, 0) for i in range(10 * night, 10 * night + 10)], day=night)
    first = exports.ingest()
    assert (first.files, first.files_unchanged, first.rows_added) == (3, 0, 30)
    version = delta.open_table(exports.table.path).version
    exports.write("4.csv", [(41, 0, 1)], day=4)
    opened = []
    read = run.read_pieces
    monkeypatch.setattr(run, "read_pieces", lambda file, **kwargs: opened.append(file.name) or read(file, **kwargs))
    summary = exports.ingest()
    assert (summary.files, summary.files_unchanged, summary.rows_read, summary.rows_added) == (4, 3, 1, 1)
    assert [Path(name).name for name in opened] == ["4.csv"]
    again = exports.ingest()
    assert (again.files_unchanged, again.rows_read, again.rows_in_table) == (4, 0, 31)
    assert "0 rows of 0 files read, 4 files unchanged" in again.sentence
    assert delta.open_table(exports.table.path).version == version + 1, "nothing new, no commit"


def test_a_rerun_without_anything_new_costs_next_to_nothing(exports: Exports) -> None:
    exports.write("1.csv", [(i, i % 60, 0) for i in range(50_000)])
    started = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    exports.ingest()
    first = resource.getrusage(resource.RUSAGE_SELF).ru_utime - started
    exports.ingest()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - started - first < first / 3


def test_the_log_of_the_table_says_what_was_read(exports: Exports) -> None:
    exports.write("1.csv", [(1, 0, 0), (2, 0, 0)])
    exports.ingest()
    exports.write("2.csv", [(3, 0, 0)])
    exports.ingest()
    delta.open_table(exports.table.path).compact()
    facts = facts_of(delta.open_table(exports.table.path))
    assert facts is not None and facts.columns_from_files == (
        "click",
        "interaction_id",
        "item_id",
        "timestamp",
        "user_id",
    )
    (first, second) = facts.files.values()
    assert (first.rows, second.rows) == (2, 1) and first.bytes == (exports.folder / "1.csv").stat().st_size
    assert first.modified == str(float(OLD_S)) and first.reading == second.reading
    assert [Path(name).name for name in facts.files] == ["1.csv", "2.csv"]


def test_a_changed_file_and_another_mapping_are_read_again(exports: Exports) -> None:
    exports.write("1.csv", [(1, 0, 0), (2, 0, 0)])
    exports.write("2.csv", [(3, 0, 0)])
    exports.ingest()
    exports.write("2.csv", [(3, 0, 1), (4, 0, 0)], changed=OLD_S + 60)
    summary = exports.ingest()
    assert (summary.rows_read, summary.rows_added, summary.rows_updated) == (2, 1, 1)
    summary = exports.ingest(mapping=OWN_IDS.replace("mobile", "desktop"))
    assert (summary.files_unchanged, summary.rows_updated) == (0, 4)
    assert set(exports.table.column("device")) == {"desktop"}


def test_a_file_of_this_very_second_is_read_once_more(exports: Exports) -> None:
    exports.write("1.csv", [(1, 0, 0)], changed=int(time.time()))
    assert exports.ingest().files_unchanged == 0
    exports.write("1.csv", [(1, 0, 1)], changed=int(time.time()))
    assert exports.ingest().rows_updated == 1


def test_an_early_export_that_is_written_anew_does_not_take_back_later_clicks(exports: Exports) -> None:
    exports.write("1.csv", [(i, 0, 0) for i in range(5)])
    exports.write("2.csv", [(i, 0, 1) for i in range(3)])
    exports.write("3.csv", [(9, 0, 0)], day=3)
    exports.ingest()
    exports.write("1.csv", [(i, 0, 0) for i in range(6)], changed=OLD_S + 60)
    summary = exports.ingest()
    assert (summary.rows_added, summary.rows_updated, summary.files_unchanged) == (1, 0, 0)
    assert exports.clicks() == {0: 1, 1: 1, 2: 1, 3: 0, 4: 0, 5: 0, 9: 0}


def test_a_late_file_of_new_rows_makes_no_other_be_read(exports: Exports) -> None:
    exports.write("1.csv", [(1, 0, 0)])
    exports.write("3.csv", [(3, 0, 1)], day=3)
    exports.ingest()
    exports.write("2.csv", [(2, 0, 0)], day=2)
    summary = exports.ingest()
    assert (summary.files_unchanged, summary.rows_read, summary.rows_added) == (2, 1, 1)


def test_an_export_that_shrinks_is_told_and_takes_nothing_away(exports: Exports) -> None:
    exports.write("1.csv", [(i, 0, 0) for i in range(10)])
    exports.ingest()
    exports.write("1.csv", [(i, 0, 0) for i in range(4)], changed=OLD_S + 60)
    summary = exports.ingest()
    assert (summary.rows_read, summary.rows_known, summary.rows_in_table) == (4, 4, 10)
    (warning,) = summary.warnings
    assert "1.csv: has 4 rows, 10 when it was read before" in warning


def test_a_day_that_is_exported_three_times_counts_once(exports: Exports) -> None:
    for name in ("1.csv", "1-again.csv", "1-final.csv"):
        exports.write(name, [(i, 0, int(name == "1.csv")) for i in range(20)])
    summary = exports.ingest()
    assert (summary.rows_read, summary.rows_added, summary.rows_known) == (60, 20, 40)
    assert sum(exports.clicks().values()) == 20, "1.csv is the last by name"


def test_an_empty_file_beside_read_ones_stays_a_warning(exports: Exports) -> None:
    exports.write("1.csv", [(1, 0, 0)])
    exports.ingest()
    (exports.folder / "2.csv").write_text("")
    for _ in range(2):
        summary = exports.ingest()
        assert (summary.rows_read, len(summary.warnings), summary.rows_in_table) == (0, 1, 1)


def test_what_was_generated_or_removed_is_read_again(exports: Exports) -> None:
    exports.write("1.csv", [(1, 0, 0)])
    exports.ingest()
    table = delta.open_table(exports.table.path)
    table.delete("true", note=delta.Note({KEY: "{}"}))
    assert exports.ingest().rows_added == 1


def test_bad_rows_are_in_the_quarantine_once(exports: Exports) -> None:
    text = export([(i, 0, 0) for i in range(30)]) + "\n77,x,1,2024-01-01T10:00:00Z,0"
    (exports.folder / "1.csv").write_text(text)
    assert exports.ingest().rows_quarantined == 1
    (exports.folder / "1.csv").write_text(text + "\n78,y,1,2024-01-01T10:00:00Z,0")
    assert exports.ingest().rows_quarantined == 2
    assert exports.table.quarantine().keys() == {31, 32}
    delta.open_table(exports.table.path).vacuum(keep_hours=0)
    assert exports.table.quarantine().keys() == {31, 32}


def test_a_foreign_record_of_what_was_read_is_refused(exports: Exports) -> None:
    exports.write("1.csv", [(1, 0, 0)])
    exports.ingest()
    table = delta.open_table(exports.table.path)
    table.commit([], note=delta.Note({KEY: "[1, 2]"}))
    with pytest.raises(DataError, match=r"table: feedrank\.ingest in its log can't be read"):
        exports.ingest()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


def test_a_table_in_an_object_store_is_ingested_into(exports: Exports, server, monkeypatch) -> None:
    mapping = exports.table.folder / "mapping.yaml"
    mapping.write_text(OWN_IDS)

    def nightly() -> IngestSummary:
        return ingest([str(exports.folder)], output="s3://feed/interactions", mapping=mapping, config=IngestConfig())

    with bucket_of(server, monkeypatch):
        exports.write("1.csv", [(i, 0, 0) for i in range(20)])
        assert nightly().rows_added == 20
        exports.write("2.csv", [(i, 0, 1) for i in range(5)])
        exports.write("3.csv", [(7, 0, 1)], day=2)
        summary = nightly()
        assert (summary.rows_read, summary.rows_updated, summary.files_unchanged) == (6, 6, 1)
        assert nightly().files_unchanged == 3
        rows = read_partitioned("s3://feed/interactions")
        assert (rows.num_rows, sum(rows["click"].to_pylist())) == (20, 6)
        monkeypatch.setitem(delta.store.STORE_OPTIONS, "retry_timeout", "2s")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(StorageError, match=r"s3://feed/interactions: .*check the store, then try again"):
            nightly()
        monkeypatch.setenv("AWS_ENDPOINT_URL", server)


def test_of_two_ingestions_at_once_into_an_object_store_none_counts_twice(exports, server, monkeypatch) -> None:
    mapping = exports.table.folder / "mapping.yaml"
    mapping.write_text(OWN_IDS)
    exports.write("1.csv", [(i, i % 60, 0) for i in range(500)])

    def nightly() -> int:
        try:
            inputs = [str(exports.folder)]
            return ingest(inputs, output="s3://feed/interactions", mapping=mapping, config=IngestConfig()).rows_added
        except StorageError as error:
            assert "another run wrote the same rows meanwhile; try again" in str(error)
            return -1

    with bucket_of(server, monkeypatch):
        with ThreadPoolExecutor() as pool:
            added = list(pool.map(lambda _: nightly(), range(3)))
        assert sorted(added)[-1] == 500 and sum(count == 500 for count in added) == 1, added
        assert read_partitioned("s3://feed/interactions").num_rows == 500


def test_without_ids_the_order_of_the_files_is_kept_too(exports: Exports) -> None:
    exports.write("1.csv", [(1, 0, 0)])
    exports.write("2.csv", [(1, 0, 1)])
    exports.ingest(mapping=PLAIN)
    exports.write("1.csv", [(1, 0, 0), (2, 1, 0)], changed=OLD_S + 60)
    exports.ingest(mapping=PLAIN)
    assert exports.clicks() == {1: 1, 2: 0}
