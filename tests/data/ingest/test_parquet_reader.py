"""Parquet as other writers write it."""

import datetime as dt
import decimal
import io
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedrank.errors import DataError
from tests.data.ingest.conftest import PLAIN, Table

TEN_OCLOCK = dt.datetime(2024, 1, 1, 10, tzinfo=dt.UTC)
TIMES = pa.array([TEN_OCLOCK + dt.timedelta(minutes=n) for n in range(3)], pa.timestamp("us", tz="UTC"))


def rows(**columns: Any) -> pa.Table:
    plain = {"user": pa.array([11, 12, 13]), "item": pa.array([1, 2, 3]), "ts": TIMES, "click": pa.array([1, 0, 1])}
    return pa.table(plain | columns)


NUMBERS = {
    "decimal": pa.array([decimal.Decimal("11"), decimal.Decimal("12"), decimal.Decimal("13")], pa.decimal128(20, 0)),
    "decimal with places": pa.array(
        [decimal.Decimal("11.00"), decimal.Decimal("12"), decimal.Decimal("13")], pa.decimal128(22, 2)
    ),
    "wide decimal": pa.array(
        [decimal.Decimal("11"), decimal.Decimal("12"), decimal.Decimal("13")], pa.decimal256(40, 0)
    ),
    "uint64": pa.array([11, 12, 13], pa.uint64()),
    "uint8": pa.array([11, 12, 13], pa.uint8()),
    "binary": pa.array([b"11", b"12", b"13"], pa.binary()),
    "large binary": pa.array([b"11", b"12", b"13"], pa.large_binary()),
    "large text": pa.array(["11", "12", "13"], pa.large_string()),
    "dictionary": pa.array(["11", "12", "13"]).dictionary_encode(),
    "double": pa.array([11.0, 12.0, 13.0]),
    "half": pa.array([11, 12, 13], pa.float16()),
    "fixed width": pa.array([b"11", b"12", b"13"], pa.binary(2)),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_number_of_any_type_is_one(table: Table, kind: str) -> None:
    table.ingest(rows(user=NUMBERS[kind]), "parquet")
    assert table.column("user_id") == [11, 12, 13]


def test_a_number_that_does_not_fit_costs_its_row(table: Table) -> None:
    table.ingest(rows(user=pa.array([1, 2**63 + 5, 2], pa.uint64())), "parquet")
    assert table.column("user_id") == [1, 2]
    assert table.quarantine()[2].startswith(f"user_id '{2**63 + 5}' is not a whole number of 64 bits")
    table.ingest(rows(user=pa.array([2.0**53 + 2, 1.0, 2.0])), "parquet")
    assert "9007199254740994" in table.quarantine()[1], "whether the writer rounded it, nobody knows"


@pytest.mark.parametrize("kind", ["us", "ns", "ms", "naive", "int96", "date32"])
def test_a_time_of_any_type_is_one(table: Table, kind: str) -> None:
    content = rows()
    if kind in ("us", "ns", "ms"):
        content = rows(ts=TIMES.cast(pa.timestamp(kind, tz="Europe/Berlin")))
    elif kind == "naive":
        content = rows(ts=TIMES.cast(pa.timestamp("us")))
    elif kind == "date32":
        content = rows(ts=pa.array([dt.date(2024, 1, 1)] * 3))
    buffer = io.BytesIO()
    pq.write_table(content, buffer, use_deprecated_int96_timestamps=kind == "int96")
    mapping = PLAIN if kind != "ms" else PLAIN.replace("{from: ts}", "{from: ts, unit: s}")  # for the CSV beside it
    table.ingest(buffer.getvalue(), "parquet", mapping=mapping)
    midnight = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    expected = [midnight] * 3 if kind == "date32" else [midnight + dt.timedelta(hours=10, minutes=m) for m in range(3)]
    assert table.column("timestamp") == expected


@pytest.mark.parametrize(
    "column",
    [
        pa.array([["a"], ["b"], None]),
        pa.array([{"a": 1}] * 3),
        pa.array([dt.time(10)] * 3),
        pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int64())),
    ],
)
def test_a_column_without_single_values_is_refused_in_a_sentence(table: Table, column: pa.Array) -> None:
    assert table.ingest(rows(other=column), "parquet").rows_added == 3
    with pytest.raises(DataError, match=r"column 'user' holds .*, and a single number, text or time is wanted"):
        table.ingest(rows(user=column), "parquet")


def test_a_column_that_is_there_twice_is_named(table: Table) -> None:
    columns = [*rows().columns, rows()["user"]]
    with pytest.raises(DataError, match=r"file-1.parquet: column 'user' \(for user_id\) is there 2 times"):
        table.ingest(pa.Table.from_arrays(columns, names=["user", "item", "ts", "click", "user"]), "parquet")


def test_a_uuid_of_sixteen_bytes_is_an_interaction_id(table: Table) -> None:
    ids = [uuid.UUID(int=n) for n in range(3)]
    mapping = PLAIN.replace("columns:", "columns:\n  interaction_id: {from: id}")
    table.ingest(rows(id=pa.array([i.bytes for i in ids], pa.binary(16))), "parquet", mapping=mapping)
    assert table.column("interaction_id") == [str(i) for i in ids]


def test_empty_parts_hold_no_row(table: Table) -> None:
    for name, content in (("a", rows()), ("b", rows().slice(0, 0))):
        pq.write_table(content, table.folder / f"{name}.parquet")
    (table.folder / "c.parquet").write_bytes(b"")
    files = [table.folder / f"{name}.parquet" for name in "abc"]
    assert table.ingest_files(*files).rows_added == 3


def test_rows_are_numbered_through_all_pieces(table: Table, tmp_path: Path) -> None:
    many = pa.concat_tables([rows()] * 10)
    many = many.set_column(0, "user", pa.array(["x" if n == 25 else str(n) for n in range(30)]))
    table.ingest(many, "parquet", chunk_rows=7)
    assert list(table.quarantine()) == [26]
