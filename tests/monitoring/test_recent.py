"""Reading damaged logs."""

import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from monitored_data import START, feature_rows, interactions, prediction_log

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.monitoring.recent import ARRIVAL, Source, future_rows
from feedrank.monitoring.rows import KEYS
from feedrank.tables import write_partitioned

END = START + timedelta(days=2)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    write_partitioned(prediction_log(feature_rows(100, day=0)), tmp_path)
    write_partitioned(prediction_log(feature_rows(100, day=1)), tmp_path)
    return tmp_path


LOG = Feed().log


@dataclass(frozen=True)
class Recent:
    rows: pa.Table
    warnings: list[str]


def read(log: Path, *, wanted: pa.Schema = LOG, start: datetime = START, end: datetime = END) -> Recent:
    by = ARRIVAL if ARRIVAL in wanted.names else schema.TIMESTAMP
    source = Source.open(log, wanted=wanted, by=by, start=start, end=end, expected_from=start)
    rows = pa.concat_tables([wanted.empty_table(), *source.batches(keys=KEYS)])
    return Recent(rows, source.warnings)


def file_of(log: Path, day: int) -> Path:
    return log / f"date=2024-01-0{day + 1}" / "part-0.parquet"


def test_only_rows_of_the_range_are_read(log: Path) -> None:
    start, end = START + timedelta(hours=6), START + timedelta(hours=30)
    recent = read(log, start=start, end=end)
    expected = [time for time in read(log).rows[schema.TIMESTAMP].to_pylist() if start <= time < end]
    assert sorted(recent.rows[schema.TIMESTAMP].to_pylist()) == sorted(expected)
    assert not recent.warnings


def test_row_groups_outside_of_the_range_are_not_read(log: Path) -> None:
    table = pq.ParquetFile(file_of(log, 1)).read()
    pq.write_table(table, file_of(log, 1), row_group_size=10)
    end = START + timedelta(hours=30)
    source = Source.open(log, wanted=Feed().log, by=ARRIVAL, start=START, end=end, expected_from=START)
    inside = sum(time < end for time in table[schema.TIMESTAMP].to_pylist())
    assert 100 + inside <= source.rows < 100 + inside + 10


def test_a_truncated_file_is_skipped_with_a_warning(log: Path) -> None:
    file = file_of(log, 1)
    file.write_bytes(file.read_bytes()[:-200])
    recent = read(log)
    assert 90 < recent.rows.num_rows <= 101
    assert any(str(file) in warning and "skipped" in warning for warning in recent.warnings)


def test_an_empty_file_is_skipped_with_a_warning(log: Path) -> None:
    file_of(log, 1).write_bytes(b"")
    assert any("skipped" in warning for warning in read(log).warnings)


@pytest.mark.parametrize("change", ["column gone", "type changed", "feature is text"])
def test_a_file_of_another_schema_is_skipped_with_a_warning(log: Path, change: str) -> None:
    table = pq.ParquetFile(file_of(log, 1)).read()
    place = table.schema.get_field_index(schema.FEATURES_STRUCT)
    struct = table[schema.FEATURES_STRUCT].combine_chunks()
    parts = dict(zip(Feed().names, struct.flatten(), strict=True))
    if change == "column gone":
        table = table.drop_columns([schema.SCORE])
    elif change == "type changed":
        table = table.set_column(table.schema.get_field_index(schema.USER_ID), schema.USER_ID, [["x"] * len(table)])
    else:
        parts["item_ctr"] = pa.array(["much"] * len(table))
        table = table.set_column(place, schema.FEATURES_STRUCT, pa.StructArray.from_arrays(parts.values(), list(parts)))
    pq.write_table(table, file_of(log, 1))
    recent = read(log)
    assert 90 < recent.rows.num_rows <= 101
    assert any("skipped" in warning for warning in recent.warnings)


def test_rows_of_a_model_that_lacked_a_feature_have_no_value_in_it(log: Path) -> None:
    table = pq.ParquetFile(file_of(log, 1)).read()
    place, struct = table.schema.get_field_index(schema.FEATURES_STRUCT), table[schema.FEATURES_STRUCT]
    parts = dict(zip(Feed().names, struct.combine_chunks().flatten(), strict=True))
    del parts["item_ctr"]
    table = table.set_column(place, schema.FEATURES_STRUCT, pa.StructArray.from_arrays(parts.values(), list(parts)))
    pq.write_table(table, file_of(log, 1))
    recent = read(log)
    assert recent.warnings == []
    features = recent.rows[schema.FEATURES_STRUCT].combine_chunks()
    assert features.field("item_ctr").null_count == table.num_rows
    assert features.field("item_popularity").null_count == 0


def test_additional_columns_do_no_harm(log: Path) -> None:
    table = pq.ParquetFile(file_of(log, 1)).read()
    pq.write_table(table.append_column("more", [[1] * len(table)]), file_of(log, 1))
    assert not read(log).warnings


def test_a_missing_day_is_named(log: Path) -> None:
    file_of(log, 1).unlink()
    assert any("no data of 2024-01-02" in warning for warning in read(log).warnings)


def test_an_absent_log_is_an_empty_one_with_warnings(tmp_path: Path) -> None:
    recent = read(tmp_path / "nothing")
    assert recent.rows.num_rows == 0
    assert len(recent.warnings) == 2


def test_a_file_that_is_being_written_is_left_alone(log: Path) -> None:
    file_of(log, 1).with_name(".part-1.parquet.new").write_bytes(b"PAR1")
    file_of(log, 1).with_name(".part-2.parquet").write_bytes(b"PAR1")
    assert not read(log).warnings


def test_rows_without_user_item_or_time_are_left_out_and_counted(log: Path) -> None:
    table = pq.ParquetFile(file_of(log, 1)).read()
    times = table[schema.TIMESTAMP].to_pylist()
    times[0] = None
    broken = pa.array(times, schema.TIMESTAMP_TYPE)
    table = table.set_column(table.schema.get_field_index(schema.TIMESTAMP), schema.TIMESTAMP, broken)
    pq.write_table(table, file_of(log, 1))
    message = "1 rows without user_id, item_id, timestamp, received_at left out"
    assert any(message in warning for warning in read(log).warnings)


def test_feedback_is_read_alike(tmp_path: Path) -> None:
    write_partitioned(interactions(feature_rows(100, day=0)), tmp_path)
    recent = read(tmp_path, wanted=schema.INTERACTIONS)
    assert recent.rows.num_rows == 100
    assert recent.warnings == [f"{tmp_path}: no data of 2024-01-02; is its writer running?"]


def ahead(log: Path, now: datetime, skew_seconds: float = 0) -> int:
    found = future_rows(log, now=now, skew_seconds=skew_seconds)
    return found.rows if found else 0


def test_rows_from_the_future_are_counted_with_the_latest(log: Path) -> None:
    times = read(log).rows[schema.TIMESTAMP].to_pylist()
    assert ahead(log, END) == 0
    for now in (START - timedelta(days=1), START + timedelta(hours=3), START + timedelta(hours=30)):
        assert ahead(log, now) == sum(time > now for time in times)
        assert ahead(log, now, skew_seconds=3600) == sum(time > now + timedelta(hours=1) for time in times)
    latest = future_rows(log, now=START, skew_seconds=0)
    assert latest is not None
    assert latest.latest == times[-1]


def test_rows_from_the_future_are_found_in_any_later_day_and_in_any_zone(log: Path, tmp_path: Path) -> None:
    write_partitioned(prediction_log(feature_rows(7, day=3_650)), log)
    assert ahead(log, END) == 7
    assert ahead(log, END.astimezone(timezone(timedelta(hours=14)))) == 7
    assert ahead(tmp_path / "nothing", END) == 0


def test_foreign_folders_and_files_are_no_rows_from_the_future(log: Path) -> None:
    later = log / "date=2024-03-01"
    later.mkdir()
    (later / "notes.txt").write_text("x")
    (later / "broken.parquet").write_bytes(b"PAR1")
    pq.write_table(pa.table({"other": [1]}), later / "other.parquet")
    for name in ("date=2024-11-15.bak", "date=20241115", "date=", "lost+found"):
        shutil.copytree(log / "date=2024-01-02", log / name)
    (log / "date=2024-03-02").write_text("a file")
    assert ahead(log, END) == 0
    assert not read(log).warnings


def test_days_after_those_that_are_expected_are_no_warning(tmp_path: Path) -> None:
    write_partitioned(interactions(feature_rows(100, day=0)), tmp_path)

    def warnings(until: datetime) -> list[str]:
        source = Source.open(
            tmp_path, wanted=schema.INTERACTIONS, by=schema.TIMESTAMP, start=START, end=END, expected_from=START,
            expected_until=until,
        )  # fmt: skip
        return source.warnings

    assert warnings(START + timedelta(days=1)) == []
    assert warnings(START - timedelta(days=9)) == []
    assert len(warnings(START + timedelta(hours=30))) == len(warnings(END + timedelta(days=9))) == 1
