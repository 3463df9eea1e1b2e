"""The later version of an interaction wins, and every row that is read is accounted for."""

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedrank import delta
from feedrank.errors import DataError
from feedrank.tables import read_partitioned, write_partitioned
from tests.data.ingest.conftest import PLAIN, Table

OWN_IDS = PLAIN.replace("columns:", "columns:\n  interaction_id: {from: id, hash: true}")


def export(rows: list[tuple[int, int, int]], *, day: int = 1) -> str:
    """A CSV file of (id, second, click)."""
    lines = [f"{i},{i % 7},{i % 11},2024-01-{day:02}T10:00:{second:02}Z,{click}" for i, second, click in rows]
    return "\n".join(["id,user,item,ts,click", *lines])


@pytest.mark.parametrize("mapping", [OWN_IDS, PLAIN])
def test_a_click_that_comes_with_a_later_export_counts(table: Table, mapping: str) -> None:
    rows = [(i, i % 60, 0) for i in range(100)]
    assert table.ingest(export(rows), mapping=mapping).rows_added == 100
    later = [(i, second, int(i < 10)) for i, second, _ in rows]
    summary = table.ingest(export(later), mapping=mapping)
    assert (summary.rows_added, summary.rows_updated, summary.rows_known, summary.rows_in_table) == (0, 10, 90, 100)
    assert sum(table.column("click")) == 10
    again = table.ingest(export(later), mapping=mapping)
    assert (again.rows_added, again.rows_updated, again.rows_known) == (0, 0, 100)


def test_an_interaction_that_moves_to_another_day_leaves_the_first(table: Table) -> None:
    table.ingest(export([(1, 0, 0)]), mapping=OWN_IDS)
    assert table.ingest(export([(1, 0, 1)], day=2), mapping=OWN_IDS).rows_updated == 1
    assert list(delta.open_table(table.path).days()) == [date(2024, 1, 2)]


def test_the_last_of_several_versions_in_one_run_stands(table: Table) -> None:
    folder = table.folder
    for name, click in (("1", 0), ("2", 1), ("3", 0), ("4", 1)):
        (folder / f"{name}.csv").write_text(export([(1, 0, click), (int(name) + 1, 1, 0)]))
    files = [folder / f"{n}.csv" for n in range(1, 5)]
    summary = table.ingest_files(*files, mapping=OWN_IDS, chunk_rows=1)
    assert (summary.rows_added, summary.rows_updated, summary.rows_known) == (5, 0, 3)
    assert sum(table.column("click")) == 1
    again = table.ingest_files(*files, mapping=OWN_IDS, chunk_rows=1)
    assert (again.files_unchanged, again.rows_read, again.rows_in_table) == (4, 0, 5)


def test_another_default_makes_no_row_new(table: Table) -> None:
    content = export([(i, i, 0) for i in range(20)])
    table.ingest(content)
    summary = table.ingest(content, mapping=PLAIN.replace("device: mobile", "device: desktop"))
    assert (summary.rows_added, summary.rows_updated) == (0, 20)
    assert set(table.column("device")) == {"desktop"}


def test_equal_rows_stay_several_through_all_pieces_of_a_file(table: Table) -> None:
    row = {"user": 1, "item": 2, "ts": "2024-01-01T10:00:00Z", "click": 0}
    content = pa.Table.from_pylist([row] * 5)
    assert table.ingest(content, "parquet", chunk_rows=2).rows_added == 5
    assert table.ingest(content, "parquet", chunk_rows=3).rows_known == 5


def test_a_namesake_that_counts_otherwise_can_be_ignored(table: Table) -> None:
    content = "user,item,ts,click,day_of_week\n1,2,2024-01-01T10:00:00Z,1,2\n"
    table.ingest(content, mapping=PLAIN + "ignore: [day_of_week]\n")
    assert table.column("day_of_week") == [0]


ROW = st.tuples(st.integers(0, 6), st.integers(0, 59), st.integers(0, 1), st.integers(1, 3))
RUNS = st.lists(st.lists(st.lists(ROW, min_size=1, max_size=6), min_size=1, max_size=4), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(RUNS, st.integers(1, 8))
def test_any_order_of_files_and_runs_leaves_the_last_versions(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[list[tuple[int, int, int, int]]]], chunk_rows: int
) -> None:
    table = Table(tmp_path_factory.mktemp("versions"))
    expected: dict[int, tuple[int, int, int]] = {}
    for number, files in enumerate(runs):
        before, paths = dict(expected), []
        for place, rows in enumerate(files):
            expected |= {i: (day, second, click) for i, second, click, day in rows}
            lines = [f"{i},{i},{i},2024-01-{day:02}T10:00:{second:02}Z,{click}" for i, second, click, day in rows]
            paths.append(table.folder / f"{number}-{place}.csv")
            paths[-1].write_text("\n".join(["id,user,item,ts,click", *lines]))
        summary = table.ingest_files(*paths, mapping=OWN_IDS, chunk_rows=chunk_rows)
        assert summary.rows_added == len(expected.keys() - before.keys())
        assert summary.rows_updated == sum(before[i] != expected[i] for i in before)
        assert summary.rows_in_table == len(expected)
    assert stands(table.path) == expected


def stands(path: Path) -> dict[int, tuple[int, int, int]]:
    rows = read_partitioned(path).to_pylist()
    assert len({row["interaction_id"] for row in rows}) == len(rows)
    return {r["user_id"]: (r["timestamp"].day, r["timestamp"].second, r["click"]) for r in rows}


def test_a_folder_of_an_earlier_release_is_left_alone_until_it_is_migrated(table: Table) -> None:
    table.ingest(export([(i, i, 0) for i in range(20)]), mapping=OWN_IDS)
    rows = read_partitioned(table.path)
    old = Table(table.folder / "old")
    write_partitioned(rows, old.path)
    with pytest.raises(DataError, match=r"old/table: a folder of an earlier release; run `feedrank migrate`"):
        old.ingest(export([(0, 0, 1)]), mapping=OWN_IDS)
    assert read_partitioned(old.path).equals(rows)
