"""Partitioned tables: what is written comes back by day and in time order; what can't be read is named."""

import re
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedrank import schema
from feedrank.errors import DataError
from feedrank.tables import (
    conformed,
    date_range,
    day_of,
    partition_days,
    read_partitioned,
    sort_by_time,
    timestamps_us,
    write_partitioned,
)

START = datetime(2024, 3, 1, tzinfo=UTC)


def table_at(hours: list[float]) -> pa.Table:
    times = [START + timedelta(hours=hour) for hour in hours]
    return pa.table(
        {schema.ITEM_ID: np.arange(len(hours)), schema.TIMESTAMP: pa.array(times, type=schema.TIMESTAMP_TYPE)}
    )


@given(st.lists(st.integers(0, 72), max_size=30))
@settings(deadline=None)
def test_sorting_by_time_is_stable_and_loses_nothing(hours):
    ordered = sort_by_time(table_at(hours))
    expected = sorted(range(len(hours)), key=lambda place: hours[place])
    assert ordered[schema.ITEM_ID].to_pylist() == expected


def test_a_sorted_table_is_not_copied():
    table = table_at([1, 2, 2, 3])
    assert sort_by_time(table) is table


def test_a_table_comes_back_in_time_order(tmp_path):
    table = table_at([50, 1, 30, 2, 49])
    assert write_partitioned(table, tmp_path) == 5
    assert read_partitioned(tmp_path).equals(sort_by_time(table))


def test_rows_lie_in_the_folder_of_their_utc_day(tmp_path):
    write_partitioned(table_at([0, 23.999, 24, 49]), tmp_path)
    rows = {
        day.isoformat(): pq.ParquetFile(f / "part-0.parquet").metadata.num_rows for day, f in partition_days(tmp_path)
    }
    assert rows == {"2024-03-01": 2, "2024-03-02": 1, "2024-03-03": 1}


def test_several_tables_of_one_day_are_merged(tmp_path):
    assert write_partitioned(iter([table_at([5, 30]), table_at([1, 2])]), tmp_path) == 4
    hours = (timestamps_us(read_partitioned(tmp_path)) - START.timestamp() * 1e6) / 3.6e9
    assert hours.tolist() == [1, 2, 5, 30]


def test_a_range_of_days_includes_both_ends(tmp_path):
    write_partitioned(table_at([0, 24, 48, 72]), tmp_path)
    chosen = read_partitioned(tmp_path, start=date(2024, 3, 2), end=date(2024, 3, 3))
    assert date_range(chosen) == (date(2024, 3, 2), date(2024, 3, 3))
    assert chosen.num_rows == 2


def test_only_the_wanted_columns_are_read_though_time_orders_them(tmp_path):
    write_partitioned(iter([table_at([5]), table_at([1])]), tmp_path)
    table = read_partitioned(tmp_path, columns=[schema.ITEM_ID])
    assert table.column_names == [schema.ITEM_ID]


def test_an_empty_table_writes_no_file(tmp_path):
    assert write_partitioned(table_at([]), tmp_path) == 0
    with pytest.raises(DataError, match=f"{tmp_path}: no date="):
        read_partitioned(tmp_path)


def test_a_range_without_a_day_is_refused(tmp_path):
    write_partitioned(table_at([0]), tmp_path)
    with pytest.raises(DataError, match="in the wanted range"):
        read_partitioned(tmp_path, start=date(2025, 1, 1))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=str(tmp_path / "none")):
        read_partitioned(tmp_path / "none")


def test_a_missing_column_is_named_with_its_file(tmp_path):
    write_partitioned(table_at([0]), tmp_path)
    with pytest.raises(DataError, match=r"part-0\.parquet: column click is missing"):
        read_partitioned(tmp_path, columns=[schema.CLICK])


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all"])
def test_a_damaged_file_is_named(tmp_path, content):
    write_partitioned(table_at([0, 24]), tmp_path)
    damaged = tmp_path / "date=2024-03-02" / "part-0.parquet"
    damaged.write_bytes(content)
    with pytest.raises(DataError, match=r"date=2024-03-02/part-0\.parquet: can't be read as Parquet"):
        read_partitioned(tmp_path)


def test_a_truncated_file_is_named(tmp_path):
    write_partitioned(table_at(list(np.arange(0, 24, 0.01))), tmp_path)
    damaged = tmp_path / "date=2024-03-01" / "part-0.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"part-0\.parquet: can't be read as Parquet"):
        read_partitioned(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "date=tomorrow", "date=2024-11-15.bak", "date=20241115", "date=2024-W46-5", "date=", "date=2024-02-30",
        "date=__HIVE_DEFAULT_PARTITION__",
    ],
)  # fmt: skip
def test_a_folder_that_is_no_day_is_named(tmp_path, name):
    write_partitioned(table_at([0]), tmp_path)
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=f"{re.escape(name)}: expected a folder date=YYYY-MM-DD; rename or remove it"):
        read_partitioned(tmp_path)


def test_a_file_in_the_place_of_a_day_is_named(tmp_path):
    write_partitioned(table_at([0]), tmp_path)
    (tmp_path / "date=2024-11-15").write_bytes(b"")
    with pytest.raises(DataError, match="date=2024-11-15: expected a folder"):
        read_partitioned(tmp_path)


def test_what_does_not_look_like_a_part_of_the_table_is_left_alone(tmp_path):
    write_partitioned(table_at([0, 1]), tmp_path)
    day = tmp_path / "date=2024-03-01"
    for name in (".DS_Store", "_SUCCESS", "._part-0.parquet", "_metadata.parquet", ".part-1.parquet.crc", "notes.txt"):
        (day / name).write_bytes(b"no parquet")
    (day / "folder.parquet").mkdir()
    for name in ("lost+found", ".snapshots", "backup", "Date=2024-03-02"):
        (tmp_path / name).mkdir()
    assert read_partitioned(tmp_path).num_rows == 2
    assert [day.isoformat() for day, _ in partition_days(tmp_path)] == ["2024-03-01"]


def test_a_table_takes_the_promised_form_or_names_what_is_missing():
    wanted = pa.schema(
        [pa.field("id", pa.int64(), nullable=False), pa.field("f", pa.struct([("a", pa.int32()), ("b", pa.int8())]))]
    )
    table = pa.table({"more": [0], "f": [{"a": 1, "b": 2}], "id": pa.array([3], pa.int32())})
    assert conformed(table, wanted, file="x").to_pylist() == [{"id": 3, "f": {"a": 1, "b": 2}}]
    older = pa.table({"id": [3], "f": [{"b": 2}]})
    assert conformed(older, wanted, file="x").to_pylist() == [{"id": 3, "f": {"a": None, "b": 2}}]
    with pytest.raises(DataError, match=r"^x: id is missing"):
        conformed(pa.table({"f": [{"a": 1}]}), wanted, file="x")
    for odd in ("text", 2**40):
        with pytest.raises(DataError, match="x: not of the promised schema"):
            conformed(table.set_column(1, "f", [[{"a": odd, "b": 2}]]), wanted, file="x")


@given(st.dates(), st.sampled_from(["date={}", "date={}.bak", "Date={}", "{}", " date={}", "date={} "]))
def test_only_the_name_that_the_writer_gives_stands_for_a_day(day, form):
    assert day_of(form.format(day.isoformat())) == (day if form == "date={}" else None)


def test_a_table_from_before_an_optional_column_reads_as_null(tmp_path):
    write_partitioned(table_at([0.0]), tmp_path)
    later = table_at([30.0])
    write_partitioned(later.append_column(schema.ACTION_TIME, later[schema.TIMESTAMP]), tmp_path)
    expected = [None, START + timedelta(hours=30)]
    assert read_partitioned(tmp_path, columns=[schema.ACTION_TIME])[schema.ACTION_TIME].to_pylist() == expected
    assert read_partitioned(tmp_path)[schema.ACTION_TIME].to_pylist() == expected
