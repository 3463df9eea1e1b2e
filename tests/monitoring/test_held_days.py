"""The monitor alerts people to days that the validation holds or misses, while they are new."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from feedrank.data.validation.record import DayEntry, DayRecord
from feedrank.monitoring.held_days import day_alerts

NOW = datetime(2024, 4, 8, 3, 10, tzinfo=UTC)


def entry(status: str, *, hours_ago: int) -> DayEntry:
    since = (NOW - timedelta(hours=hours_ago)).isoformat()
    return DayEntry(status, "3-abc", since=since, reason="daily_rows: 3 instead of about 600")


def test_days_held_or_missing_since_yesterday_are_alerts(tmp_path: Path) -> None:
    entries = {
        19820: entry("held", hours_ago=1),
        19819: entry("missing", hours_ago=2),
        19810: entry("held", hours_ago=200),
        19800: DayEntry("accepted", "9-abc", who="ann", at=NOW.isoformat(), why="a sale"),
    }
    (tmp_path / "validated").mkdir()
    DayRecord(entries, pd.DataFrame()).save(tmp_path / "validated")
    alerts = day_alerts(tmp_path / "interactions", since=NOW - timedelta(hours=24))
    assert [alert.key for alert in alerts] == ["day:2024-04-06:missing", "day:2024-04-07:held"]
    assert "interactions of 2024-04-07 are held (daily_rows: 3 instead of about 600)" in alerts[1].text


def test_a_damaged_record_is_an_alert_and_none_is_no_fault(tmp_path: Path) -> None:
    assert day_alerts(tmp_path / "interactions", since=NOW) == []
    assert day_alerts("s3://bucket/interactions", since=NOW) == []
    (tmp_path / "validated").mkdir()
    (tmp_path / "validated" / "days.parquet").write_bytes(b"PAR1")
    (alert,) = day_alerts(tmp_path / "interactions", since=NOW)
    assert "days.parquet: can't be read" in alert.text
