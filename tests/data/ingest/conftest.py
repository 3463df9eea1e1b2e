"""Ingestion into a fresh table, of files that the test writes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedrank import delta
from feedrank.config.ingest import IngestConfig
from feedrank.data.ingest import IngestSummary, ingest
from feedrank.data.ingest.quarantine import place
from feedrank.tables import read_partitioned

Ingest = Callable[..., IngestSummary]
PLAIN = """
columns:
  user_id: {from: user}
  item_id: {from: item}
  timestamp: {from: ts}
  click: {from: click}
defaults: {like: 0, share: 0, dwell_time: 0.0, device: mobile}
"""
"""A mapping for files of user, item, ts (with a zone) and click."""


def quarantined(table: Path) -> list[dict[str, Any]]:
    """The rows that could not be cast, as far as they are in a quarantine."""
    return delta.open_table(place(table)).read(columns=["file", "row", "reason", "record"]).to_pylist()


class Table:
    """A table in a folder of its own, and what is ingested into it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "table"
        self.files = 0

    def ingest(
        self, content: str | bytes | pa.Table, ending: str = "csv", *, mapping: str = PLAIN, **config: Any
    ) -> IngestSummary:
        """Writes a file and ingests it; the sums must add up."""
        self.files += 1
        file = self.folder / f"file-{self.files}.{ending}"
        if isinstance(content, pa.Table):
            pq.write_table(content, file)
        else:
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        return self.ingest_files(file, mapping=mapping, **config)

    def ingest_files(self, *files: Path, mapping: str = PLAIN, **config: Any) -> IngestSummary:
        """Ingests files; the sums must add up."""
        (self.folder / "mapping.yaml").write_text(mapping, encoding="utf-8")
        summary = ingest(
            [str(file) for file in files],
            output=self.path,
            mapping=self.folder / "mapping.yaml",
            config=IngestConfig(**config),
        )
        told = summary.rows_added + summary.rows_updated + summary.rows_known + summary.rows_quarantined
        assert told == summary.rows_read
        return summary

    def column(self, name: str) -> list[Any]:
        """The values of a column, by time."""
        return read_partitioned(self.path, columns=[name])[name].to_pylist()

    def quarantine(self) -> dict[int, str]:
        """The reasons by the rows' numbers."""
        return {row["row"]: row["reason"] for row in quarantined(self.path)}


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)
