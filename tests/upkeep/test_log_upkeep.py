"""The upkeep of the prediction log: days and bytes keep to their limits, and what is kept is whole."""

import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from feedrank import delta, schema
from feedrank.config.feed import Feed
from feedrank.config.upkeep import LogUpkeepConfig, TableUpkeepConfig
from feedrank.prediction_log import read_log
from feedrank.prediction_log.table import create_log, layout_of
from feedrank.upkeep.report import Freed
from feedrank.upkeep.tables import keep_log, keep_table

TODAY = date(2024, 3, 1)
REQUESTS, ITEMS = 400, 5


def day_of_log(day: date, *, requests: int = REQUESTS) -> pa.Table:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    request = np.repeat(np.arange(requests), ITEMS)
    arrived = [start + timedelta(seconds=int(number)) for number in request]
    columns = {
        schema.PREDICTION_ID: [f"{day:%Y%m%d}00000000-{n:010d}-{i % ITEMS:03d}" for i, n in enumerate(request)],
        schema.TIMESTAMP: arrived,
        schema.RECEIVED_AT: arrived,
        schema.USER_ID: request,
        schema.ITEM_ID: np.tile(np.arange(ITEMS), requests),
        schema.SCORE: np.random.default_rng(day.toordinal()).random(len(request)).astype(np.float32),
        schema.RANK: np.tile(np.arange(1, ITEMS + 1), requests).astype(np.int16),
        schema.MODEL_VERSION: ["v1.0.0"] * len(request),
        schema.LATENCY_MS: np.ones(len(request), dtype=np.float32),
        schema.FEATURES_STRUCT: pa.nulls(len(request), Feed().log.field(schema.FEATURES_STRUCT).type),
    }
    return pa.table(columns, schema=Feed().log)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Ten days, today included; each of two commits."""
    table = create_log(tmp_path / "log", Feed().log)
    for back in range(9, -1, -1):
        rows = day_of_log(TODAY - timedelta(days=back))
        half = rows.num_rows // 2
        for part in (rows.slice(0, half), rows.slice(half)):
            table = table.append(part, layout=layout_of(Feed().log))
    return tmp_path / "log"


def kept(log: Path, **limits: object) -> Freed:
    freed, warnings = keep_log(log, config=LogUpkeepConfig.model_validate(limits), today=TODAY)
    assert freed is not None
    assert not warnings
    return freed


def rows_by_day(log: Path) -> dict[int, int]:
    """Rows by age in days."""
    return {(TODAY - day).days: files.rows for day, files in delta.open_table(log).days().items()}


def test_old_days_become_a_sample_of_whole_requests_and_the_oldest_go(log: Path) -> None:
    kept(log, keep_days=5, sample_share=0.3, sample_days=7)
    rows = rows_by_day(log)
    assert set(rows) == set(range(8))
    assert all(rows[age] == REQUESTS * ITEMS for age in range(6))
    assert all(0.2 < rows[age] / (REQUESTS * ITEMS) < 0.4 for age in (6, 7))
    requests = Counter(id_[:-4] for id_ in read_log(log)[schema.PREDICTION_ID].to_pylist())
    assert set(requests.values()) == {ITEMS}


def test_a_second_upkeep_changes_nothing(log: Path) -> None:
    kept(log, keep_days=5, sample_share=0.3, sample_days=7)
    before = read_log(log)
    assert not kept(log, keep_days=5, sample_share=0.3, sample_days=7).done
    assert read_log(log).equals(before)


def test_bytes_are_a_limit_that_costs_the_oldest_days_first_and_never_today(log: Path) -> None:
    whole = delta.open_table(log).compact().bytes
    kept(log, sample_share=0.1, max_bytes=int(whole * 0.6))
    rows = rows_by_day(log)
    assert delta.open_table(log).bytes <= whole * 0.6
    assert rows[9] < REQUESTS * ITEMS / 2 and rows[0] == rows[1] == REQUESTS * ITEMS
    kept(log, sample_share=0.1, max_bytes=int(whole * 0.15))
    assert delta.open_table(log).bytes <= whole * 0.15
    freed, warnings = keep_log(log, config=LogUpkeepConfig(max_bytes=1), today=TODAY)
    assert freed is not None and rows_by_day(log) == {0: REQUESTS * ITEMS}
    assert "today's predictions alone take" in warnings[0]


def test_a_share_of_the_file_system_is_the_limit_unless_bytes_are_given(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = delta.open_table(log).compact().bytes
    usage = type("Usage", (), {"total": whole})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    kept(log, max_share=0.5)
    assert delta.open_table(log).bytes <= whole * 0.5


def test_files_are_merged_and_what_nothing_needs_is_removed(log: Path) -> None:
    freed = kept(log, keep_days=5, sample_share=0.0, sample_days=7)
    assert all(day.files == 1 for day in delta.open_table(log).days().values())
    assert freed.bytes_after >= delta.open_table(log).bytes
    removed = delta.open_table(log).vacuum(keep_hours=0)
    assert removed and read_log(log).num_rows == 6 * REQUESTS * ITEMS


def test_what_a_cut_leaves_behind_is_gone_with_the_next_upkeep(log: Path) -> None:
    today = delta.open_table(log).compact().days()[TODAY].bytes
    limits = LogUpkeepConfig.model_construct(sample_share=0.1, max_bytes=today, vacuum_hours=0)
    keep_log(log, config=limits, today=TODAY)
    on_disk = sum(file.stat().st_size for file in log.glob("date=*/*"))
    assert on_disk == delta.open_table(log).bytes <= today
    assert LogUpkeepConfig().vacuum_hours < 3, "and the chart runs it every three hours"


KILLED = """
import os, sys
from datetime import date
from feedrank import delta
from feedrank.config.upkeep import LogUpkeepConfig
from feedrank.upkeep.tables import keep_log

commit, count = delta.Table.commit, [0]

def dies(self, *args, **kwargs):
    count[0] += 1
    if count[0] == 2:
        os._exit(9)
    return commit(self, *args, **kwargs)

delta.Table.commit = dies
keep_log(sys.argv[1], config=LogUpkeepConfig(keep_days=5, sample_share=0.3, sample_days=20), today=date(2024, 3, 1))
"""


def test_an_upkeep_that_is_killed_loses_nothing_and_the_next_ends_it(log: Path, tmp_path: Path) -> None:
    process = subprocess.run([sys.executable, "-c", KILLED, str(log)], check=False, timeout=120)
    assert process.returncode == 9
    rows = rows_by_day(log)
    assert rows[9] < REQUESTS * ITEMS and all(rows[age] == REQUESTS * ITEMS for age in range(9))
    kept(log, keep_days=5, sample_share=0.3, sample_days=20)
    assert {age for age, count in rows_by_day(log).items() if count < REQUESTS * ITEMS} == {6, 7, 8, 9}
    assert rows_by_day(log)[9] == rows[9]


def test_a_predictor_writes_and_a_reader_reads_meanwhile(log: Path) -> None:
    done, complete = threading.Event(), list[bool]()

    def write_and_read() -> None:
        while not done.is_set():
            delta.open_table(log).append(day_of_log(TODAY, requests=1), layout=layout_of(Feed().log))
            ids = read_log(log, columns=[schema.PREDICTION_ID])[schema.PREDICTION_ID].to_pylist()
            complete.append(all(count % ITEMS == 0 for count in Counter(id_[:-4] for id_ in ids).values()))

    thread = threading.Thread(target=write_and_read)
    thread.start()
    try:
        kept(log, keep_days=5, sample_share=0.3, sample_days=7)
    finally:
        done.set()
        thread.join()
    assert complete and all(complete)
    assert rows_by_day(log)[0] == (REQUESTS + len(complete)) * ITEMS


def test_other_tables_keep_all_days_unless_told_otherwise(log: Path) -> None:
    config = TableUpkeepConfig()
    assert keep_table(log.parent / "none", name="none", config=config, today=TODAY) is None
    keep_table(log, name="log", config=config, today=TODAY)
    assert set(rows_by_day(log)) == set(range(10))
    keep_table(log, name="log", config=TableUpkeepConfig(keep_days=3), today=TODAY)
    assert set(rows_by_day(log)) == set(range(4))
