"""JSON Lines as people have them: absent keys, mixed types, whole numbers of any size, arrays."""

import json
from typing import Any

import pyarrow as pa
import pytest

from feedrank.errors import DataError
from tests.data.ingest.conftest import PLAIN, Table

FILLED = PLAIN.replace(
    "defaults:", "  dwell_time: {from: dwell, fill: 0}\n  device: {from: dev, fill: desktop}\ndefaults:"
)


def row(second: int = 0, **changes: Any) -> dict[str, Any]:
    return {"user": 1, "item": 2, "ts": f"2024-01-01T10:00:{second:02}Z", "click": 1} | changes


def json_lines(*rows: dict[str, Any] | str) -> str:
    return "\n".join(r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in rows) + "\n"


def test_whole_numbers_are_exact_at_any_size(table: Table) -> None:
    users = [2**53 + 1, 12.0, 2**63 - 1, 2**63, 10**30, -3, "7", 1.5, "9" * 5000]
    rows = [row(second, user=user) for second, user in enumerate(users)]
    assert table.ingest(json_lines(*rows), "jsonl").rows_quarantined == 4
    assert table.column("user_id") == [2**53 + 1, 12, 2**63 - 1, -3, 7]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_no_sign_but_a_line_feed_ends_a_row(table: Table, separator: str) -> None:
    title = f"a{separator}b"
    content = json_lines(row(title=title), row(1, user="2", title=title)) if ord(separator) > 31 else json_lines(row())
    assert table.ingest(content, "jsonl").rows_quarantined == 0


@pytest.mark.parametrize("dwell", [{}, {"dwell": None}, {"dwell": float("nan")}])
def test_what_is_absent_takes_its_fill(table: Table, dwell: dict[str, Any]) -> None:
    table.ingest(json_lines(row(**dwell), row(1, **dwell)), "jsonl", mapping=FILLED)
    table.ingest(json_lines(row(2, **dwell), row(3, dwell=2.5, dev="mobile")), "jsonl", mapping=FILLED)
    assert table.column("dwell_time") == [0.0, 0.0, 0.0, 2.5]
    assert table.column("device") == ["desktop"] * 3 + ["mobile"]


def test_a_key_that_is_in_no_row_is_named(table: Table) -> None:
    with pytest.raises(DataError, match=r"column 'click' \(for click\) is missing; the file has "):
        table.ingest(json_lines({"user": 1, "item": 2, "ts": "2024-01-01T10:00:00Z"}), "jsonl")


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_of_objects_is_read(table: Table, indent: int | None) -> None:
    content = json.dumps([row(second, user=second) for second in range(3)], indent=indent)
    assert table.ingest(content, "json").rows_added == 3


def test_one_odd_line_or_cell_costs_one_row(table: Table) -> None:
    rows = [row(s, user=s) for s in range(20)]
    odd = ['{"user": 1,', "[1, 2]", "plain text", json.dumps(row(30, user=[1])), json.dumps(row(31, user={"id": 1}))]
    bad_text = '{"user": "\\ud800", "item": 2, "ts": "2024-01-01T10:00:40Z", "click": 1}'
    summary = table.ingest(json_lines(*rows, *odd, bad_text), "jsonl")
    assert (summary.rows_read, summary.rows_added, summary.rows_quarantined) == (26, 20, 6)


def test_a_name_is_the_same_user_in_every_format(table: Table) -> None:
    mapping = PLAIN.replace("{from: user}", "{from: user, hash: true}")
    users = ["anna", "NA", "null", "None", "nan", "2024-01-01", "007", "1.0", "true"]
    rows = [row(second, user=user) for second, user in enumerate(users)]
    table.ingest(json_lines(*rows), "jsonl", mapping=mapping)
    first = table.column("user_id")
    csv = "\n".join(["user,item,ts,click", *(f"{r['user']},{r['item']},{r['ts']},{r['click']}" for r in rows)])
    assert table.ingest(csv, "csv", mapping=mapping).rows_known == len(users)
    assert table.ingest(pa.Table.from_pylist(rows), "parquet", mapping=mapping).rows_known == len(users)
    assert table.column("user_id") == first


def test_bytes_that_are_no_text_cost_a_row_only_where_they_are_read(table: Table) -> None:
    content = json_lines(row(title="x"), row(1, user="y")).encode()
    content = content.replace(b'"x"', b'"\xe9"').replace(b'"y"', b'"\xe9"')
    summary = table.ingest(content, "jsonl")
    assert (summary.rows_added, summary.rows_quarantined) == (1, 1)


def test_a_number_with_an_exponent_is_the_same_alone_and_beside_text(table: Table) -> None:
    line = '{"user": 1e3, "item": 2.0, "ts": "2024-01-01T10:00:00Z", "click": 1.0}'
    table.ingest(line, "jsonl")
    assert table.ingest(json_lines(line, row(user="x")), "jsonl").rows_known == 1
    assert table.column("user_id") == [1000]


def test_a_row_with_a_key_twice_or_nested_beyond_measure_costs_itself(table: Table) -> None:
    twice = '{"user": 1, "user": 2, "item": 2, "ts": "2024-01-01T10:00:00Z", "click": 1}'
    deep = json.dumps(row(extra=0)).replace(": 0}", ": " + "[" * 100_000 + "]" * 100_000 + "}")
    summary = table.ingest(json_lines(row(user=7), twice, deep), "jsonl")
    assert (summary.rows_added, summary.rows_quarantined) == (1, 2)
    assert table.quarantine()[2] == "line can't be parsed: a key is in it twice"


@pytest.mark.parametrize("content", ["[]", "[[1, 2]]", "user,item\n1,2\n"])
def test_a_file_without_an_object_is_refused_in_a_sentence(table: Table, content: str) -> None:
    with pytest.raises(DataError, match=r"file-1\.json: no JSON object in it"):
        table.ingest(content, "json")
