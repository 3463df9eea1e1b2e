"""Erased users' rows are refused where they come in."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from feedrank import delta, schema
from feedrank.erasure.person import People, numbers_of, words_of
from feedrank.erasure.refused import NOBODY, Door
from feedrank.errors import DataError
from feedrank.prediction_log.table import LAYOUT, create_log
from tests.s3_server import bucket_of, s3_server


def test_an_id_is_known_as_the_number_that_clients_send_and_by_the_text_that_is_hashed() -> None:
    (hashed,) = numbers_of("user-abc")
    assert numbers_of(str(hashed))[0] == hashed
    assert numbers_of("12")[0] == 12 and len(numbers_of("12")) == 2
    assert len(numbers_of("9" * 30)) == 1, "no number of 64 bits, so a text"


def test_a_record_names_whoever_is_a_value_of_it() -> None:
    assert words_of('{"person": "user abc", "item": 7}') == {"user abc", "7"}
    assert words_of('12,7,"2024-01-01') >= {"12", "7"}
    records = pa.table({"record": ['{"person": "user abc"}', '{"person": "user abcd"}', None, "user abc, 7"]})
    assert People.of(["user abc"]).rows(records).tolist() == [True, False, False, False]


@pytest.mark.parametrize("place", ["folder", "s3://feed/log"])
def test_a_list_names_nobody_and_knows_everybody(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as address, bucket_of(address, monkeypatch):
        door = Door(tmp_path / place if place == "folder" else place)
        assert door.read() == NOBODY
        door.refuse([12, -5])
        door.refuse([2**62])
        refused = door.read()
        assert [refused.has(number) for number in (12, -5, 2**62, 13)] == [True, True, True, False]
        assert refused.rows(pa.chunked_array([[12, 13, None], [-5]])).tolist() == [True, False, False, True]
        assert {len(user) for user in refused.users} == {32}, "hashes"


def test_a_damaged_list_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "_erased.json").write_text("{")
    with pytest.raises(DataError, match=r"_erased.json: the list of erased users can't be read"):
        Door(tmp_path).read()


def test_rows_leave_a_log_on_s3_and_all_its_earlier_files(monkeypatch: pytest.MonkeyPatch) -> None:
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    with s3_server() as address, bucket_of(address, monkeypatch) as bucket:
        log, rows = create_log("s3://feed/log"), delta.Rows((schema.USER_ID,), People.of(["7"]).rows)
        for _ in range(2):
            columns = {schema.USER_ID: [7, 8], schema.RECEIVED_AT: [noon] * 2, schema.PREDICTION_ID: ["a", "b"]}
            filled = [
                pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(2, field.type)
                for field in schema.PREDICTION_LOG
            ]
            log = log.append(pa.table(filled, schema=schema.PREDICTION_LOG), layout=LAYOUT)
        log.compact()
        Door("s3://feed/log").refuse([7])
        purged = delta.erase_rows("s3://feed/log", rows)
        assert (purged.rows, purged.files, purged.waiting) == (2, 2, [])
        assert delta.open_table("s3://feed/log").read()[schema.USER_ID].to_pylist() == [8, 8]
        assert delta.files_with("s3://feed/log", rows) == {}
        assert [item.key for item in bucket.objects.all() if item.key.endswith("_erased.json")], "the vacuum leaves it"
