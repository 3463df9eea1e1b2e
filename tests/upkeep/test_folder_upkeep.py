"""The upkeep of versions, runs and reports: what may be needed stays."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from feedrank.upkeep.folders import keep_recent

NOW = datetime(2024, 3, 1, tzinfo=UTC)


def aged(folder: Path, days: float) -> None:
    folder.mkdir(parents=True)
    (folder / "file").write_text("x" * 100)
    os.utime(folder, ((NOW - timedelta(days=days)).timestamp(),) * 2)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_recent_folders_and_the_latest_stay(tmp_path: Path) -> None:
    for days in (100, 50, 10):
        aged(tmp_path / "runs" / f"{days}", days)
    freed = keep_recent(tmp_path / "runs", name="runs", now=NOW, days=60)
    assert names(tmp_path / "runs") == {"50", "10"}
    assert freed is not None and (freed.bytes_before, freed.bytes_after) == (300, 200)
    keep_recent(tmp_path / "runs", name="runs", now=NOW, days=1)
    assert names(tmp_path / "runs") == {"10"}
    assert keep_recent(tmp_path / "none", name="none", now=NOW, days=1) is None


def test_what_a_killed_upkeep_left_behind_is_removed_and_links_and_hidden_folders_stay(tmp_path: Path) -> None:
    for name, days in ((".run1.gone", 9), ("run1", 9), (".run2.new", 9), ("run3", 1)):
        aged(tmp_path / name, days)
    (tmp_path / "link").symlink_to("run3")
    keep_recent(tmp_path, name="runs", now=NOW, days=5)
    assert names(tmp_path) == {".run2.new", "run3", "link"}
