"""Makes tables of the folders that an earlier release left; no row is copied, and what is a table stays as it is."""

from pathlib import Path

import pyarrow.parquet as pq
from pydantic import ValidationError

from feedrank import delta, interactions
from feedrank.data.ingest import quarantine
from feedrank.data.ingest_facts import NO_FACTS, IngestFacts
from feedrank.errors import DataError
from feedrank.storage import exclusive
from feedrank.tables import partition_days

OLD_FACTS = "_ingest.json"
OLD_QUARANTINE = "rows.parquet"


def migrate_interactions(folder: Path) -> delta.Table | None:
    """The interactions of a release's folder as a table, with its quarantine and facts; None where there are none.

    Killed at any point and run again, it ends what was begun: the old files go last.

    Raises:
        DataError: a file of the folder can't be read.
        StorageError: another run is writing there.
    """
    if not folder.is_dir():
        return None
    if delta.is_table(folder) and not any(old.exists() for old in (folder / OLD_FACTS, _old_quarantine(folder))):
        return delta.open_table(folder).widened(interactions.LAYOUT)  # without the lock: an ingestion may be running
    with exclusive(folder):
        if not delta.is_table(folder):
            if not partition_days(folder):
                return None
            delta.convert(folder, layout=interactions.LAYOUT, note=_facts(folder / OLD_FACTS).note())
        table = delta.open_table(folder).widened(interactions.LAYOUT)
        _migrate_quarantine(folder)
        (folder / OLD_FACTS).unlink(missing_ok=True)
    return table


def _facts(file: Path) -> IngestFacts:
    try:
        return IngestFacts.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return NO_FACTS
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise DataError(f"{file}: can't be read ({error}); remove it, then migrate again") from error


def _old_quarantine(folder: Path) -> Path:
    return folder / quarantine.FOLDER / OLD_QUARANTINE


def _migrate_quarantine(folder: Path) -> None:
    old = _old_quarantine(folder)
    if old.exists():
        quarantine.add(pq.read_table(old).cast(quarantine.SCHEMA), folder)
        old.unlink()
