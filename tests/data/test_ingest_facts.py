"""What an ingestion records about a table."""

import pytest

from feedrank.data.ingest_facts import FACTS_FILE, read_facts, write_facts
from feedrank.errors import DataError


def test_what_was_written_is_read(tmp_path):
    written = write_facts(tmp_path, ["user_id", "click"])
    assert read_facts(tmp_path) == written
    assert written.from_files("click")
    assert not written.from_files("device")


def test_a_column_that_any_ingestion_had_stays_one_of_the_files(tmp_path):
    earlier = write_facts(tmp_path, ["user_id", "device"])
    assert write_facts(tmp_path, ["user_id", "click"], earlier=earlier).columns_from_files == (
        "click",
        "device",
        "user_id",
    )


def test_a_table_that_no_ingestion_wrote_has_none(tmp_path):
    assert read_facts(tmp_path) is None
    assert read_facts(tmp_path / "nothing") is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"columns_from_files": 1}', b"{}"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / FACTS_FILE).write_bytes(content)
    with pytest.raises(DataError, match=r"_ingest\.json: can't be read .* ingest again"):
        read_facts(tmp_path)
