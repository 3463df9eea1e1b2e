"""Alerts about days of interactions that the validation holds back, or misses."""

from datetime import datetime
from pathlib import Path

from feedrank import delta
from feedrank.data.validation.record import WAITING, day_text, load_record
from feedrank.errors import DataError
from feedrank.monitoring.alerts import Alert

VALIDATED = "validated"
"""Folder of the nightly validation, beside the interactions."""


def day_alerts(interactions: delta.Location, *, since: datetime) -> list[Alert]:
    """One for each day that is held or missing since then; none where interactions lie in an object store."""
    if not delta.is_local(interactions):
        return []
    try:
        record = load_record(Path(interactions).with_name(VALIDATED))
    except DataError as error:
        return [Alert(key="days", text=str(error))]
    return [
        Alert(
            key=f"day:{day_text(day)}:{entry.status}",
            text=f"interactions of {day_text(day)} are {entry.status} ({entry.reason}); the other days go on. Mend the "
            "source and ingest again, or: feedrank accept-day",
        )
        for day, entry in sorted(record.entries.items())
        if entry.status in WAITING and datetime.fromisoformat(entry.since) >= since
    ]
