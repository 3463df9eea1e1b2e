"""Facts of an ingestion stand in the log of the table."""

from pathlib import Path

import pytest

from feedrank import delta
from feedrank.data.ingest_facts import KEY, NO_FACTS, FileRead, IngestFacts, facts_of, read_facts
from feedrank.errors import DataError
from feedrank.interactions import LAYOUT

A_FILE = FileRead(bytes=10, modified="1", reading="r", rows=3)


@pytest.fixture
def table(tmp_path: Path) -> delta.Table:
    return delta.create_table(tmp_path / "table", layout=LAYOUT)


def test_facts_are_read_as_they_were_written_however_many_commits_follow(table: delta.Table) -> None:
    facts = NO_FACTS.after({"click", "user_id"}, {"a.csv": A_FILE})
    written = table.commit([], note=facts.note(transaction=1))
    for _ in range(25):
        written = written.commit([])
    assert facts_of(written) == read_facts(table.location) == facts
    assert facts.from_files("click") and not facts.from_files("device")


def test_facts_gather_over_ingestions() -> None:
    facts = NO_FACTS.after({"user_id", "device"}, {"a.csv": A_FILE})
    newer = A_FILE.model_copy(update={"rows": 4})
    assert facts.after({"click"}, {"a.csv": newer, "b.csv": A_FILE}) == IngestFacts(
        columns_from_files=("click", "device", "user_id"), files={"a.csv": newer, "b.csv": A_FILE}
    )


def test_a_table_that_was_not_ingested_has_none(table: delta.Table, tmp_path: Path) -> None:
    assert read_facts(table.location) is None
    assert read_facts(tmp_path / "nothing") is None
    table.commit([], note=NO_FACTS.note())
    assert read_facts(table.location) is None


@pytest.mark.parametrize("content", ["{", "[]", '{"columns_from_files": 5}'])
def test_a_foreign_record_is_named(table: delta.Table, content: str) -> None:
    table.commit([], note=delta.Note({KEY: content}))
    with pytest.raises(DataError, match=r"feedrank\.ingest in its log can't be read"):
        read_facts(table.location)
