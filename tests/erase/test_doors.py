"""Erased users' rows are refused where they come in."""

from pathlib import Path

import pyarrow as pa
import pytest

from feedrank.erasure.person import People, numbers_of, words_of
from feedrank.erasure.refused import NOBODY, Door
from feedrank.errors import DataError
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


def test_a_list_names_nobody_and_knows_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() as address, bucket_of(address, monkeypatch):
        for place in (tmp_path / "log", "s3://feed/log"):
            door = Door(place)
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
