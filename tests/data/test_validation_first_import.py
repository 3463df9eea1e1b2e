"""A first import: what is wrong in itself fails at once, a day unlike the days before it is a warning."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from validated_data import NOW, RATINGS_END, check, clean, status, uneven_ratings

from benchmarks.validation import CONFIG, DAYS, clean_frame
from feedrank import schema
from feedrank.config.data import GeneratorConfig
from feedrank.config.ingest import IngestConfig
from feedrank.config.validation import ValidationConfig
from feedrank.data.generator import generate
from feedrank.data.ingest import ingest
from feedrank.data.ingest_facts import NO_FACTS
from feedrank.data.validation import ValidationSummary, validate
from feedrank.errors import ValidationFailedError
from feedrank.interactions import write_interactions
from feedrank.tables import write_partitioned

ROOT = Path(__file__).parents[2]
DAY = pd.Timedelta(days=1)


def read(
    frame: pd.DataFrame, folder: Path, *, mapping: Path = ROOT / "config" / "mappings" / "ratings.yaml"
) -> ValidationSummary:
    """Ingests a file and validates the table."""
    frame.to_csv(folder / "mine.csv", index=False)
    ingest([str(folder / "mine.csv")], output=folder / "table", mapping=mapping, config=IngestConfig())
    return validate(folder / "table", output=folder / "out", config=ValidationConfig(), now=RATINGS_END)


def mapping_with(folder: Path, device: str) -> Path:
    path = folder / "mapping.yaml"
    text = (ROOT / "config" / "mappings" / "ratings.yaml").read_text()
    path.write_text(text.replace("columns:\n", f"columns:\n  device: {device}\n"))
    return path


def few(rows: int) -> pd.DataFrame:
    return clean_frame(1).head(rows).copy()


# Wrong in itself


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("nulls", [0, 5])
def test_a_label_that_is_always_the_same_fails_even_with_a_few_empty_cells(
    tmp_path: Path, value: int, nulls: int
) -> None:
    frame = clean_frame(1).assign(click=value, like=0, share=0, dwell_time=0.0).astype({"click": "Int64"})
    frame.loc[: nulls - 1, "click"] = pd.NA
    with pytest.raises(ValidationFailedError, match=rf"click_varies: every click is {value}, .*mapping's click"):
        check(frame, tmp_path)


@pytest.mark.parametrize("value", [0, 1])
def test_a_label_that_is_always_the_same_in_a_few_rows_is_a_warning(tmp_path: Path, value: int) -> None:
    frame = few(99).assign(click=value, like=0, share=0, dwell_time=0.0)
    summary = check(frame, tmp_path, config=ValidationConfig())
    assert summary.passed
    assert any(warning.startswith(f"click_varies: every click is {value}") for warning in summary.warnings)


def test_three_rows_of_one_user_pass(tmp_path: Path) -> None:
    frame = few(3).assign(user_id=7, item_id=3, device="mobile", click=[0, 1, 0], like=0, share=0, dwell_time=0.0)
    summary = check(frame, tmp_path, config=ValidationConfig())
    assert summary.passed
    assert not summary.warnings


def test_one_user_for_all_rows_fails_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailedError, match=r"user_id_varies: constant, .*the mapping's user_id"):
        check(clean_frame(1).assign(user_id=7), tmp_path)


@pytest.mark.parametrize("newest", [False, True])
def test_one_user_with_a_third_of_all_rows_fails(tmp_path: Path, newest: bool) -> None:
    frame = clean_frame(1).copy()
    third = frame.index[-(len(frame) // 3) :] if newest else frame.index[::3]
    frame.loc[third, "user_id"] = 7
    with pytest.raises(
        ValidationFailedError, match=r"top_user_share: user 7 has 33\.\d% of all rows, .*max_user_share"
    ):
        check(frame, tmp_path)
    assert check(frame, tmp_path, config=CONFIG.model_copy(update={"max_user_share": 0.5})).passed


def test_three_users_with_a_third_each_do_not_flood(tmp_path: Path) -> None:
    frame = clean_frame(1)
    assert status(check(frame.assign(user_id=np.arange(len(frame)) % 3), tmp_path))["top_user_share"] == "passed"


def test_one_item_with_a_third_of_all_rows_is_a_warning(tmp_path: Path) -> None:
    frame = clean_frame(1).copy()
    frame.loc[::3, "item_id"] = 0
    summary = check(frame, tmp_path)
    assert any(warning.startswith("top_item_share: item 0 has 33.") for warning in summary.warnings)


# One device


def test_one_device_in_all_rows_of_a_table_fails(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailedError, match=r"device_varies: every row says tablet, .*constant"):
        check(clean_frame(1).assign(device="tablet"), tmp_path)


def test_one_device_in_all_rows_of_a_file_fails(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailedError, match="device_varies: every row says mobile"):
        read(uneven_ratings().assign(device="mobile"), tmp_path)


def test_a_device_that_the_mapping_fills_in_is_no_fault(tmp_path: Path) -> None:
    assert status(read(uneven_ratings(), tmp_path))["device_varies"] == "not_evaluated"


@pytest.mark.parametrize("device", ["{constant: mobile}", "{from: device, fill: mobile}"])
def test_one_device_by_the_mapping_where_the_file_says_none_is_no_fault(tmp_path: Path, device: str) -> None:
    frame = uneven_ratings().assign(device=None)
    summary = read(frame, tmp_path, mapping=mapping_with(tmp_path, device))
    assert status(summary)["device_varies"] == "not_evaluated"


def test_what_an_ingestion_recorded_counts(tmp_path: Path) -> None:
    frame = clean_frame(1).assign(device="tablet")
    rows = pa.Table.from_pandas(frame, schema=schema.INTERACTIONS, preserve_index=False)
    facts = NO_FACTS.after(["user_id", "item_id", "timestamp", "click"], {})
    write_interactions(rows, tmp_path / "table", note=facts.note())
    assert validate(tmp_path / "table", output=tmp_path / "out", config=CONFIG, now=NOW).passed


# Odd, and no fault


def warnings_of(frame: pd.DataFrame, folder: Path) -> list[str]:
    summary = check(frame, folder)
    assert summary.passed
    return [warning.split(": ")[0] for warning in summary.warnings]


@pytest.mark.parametrize("label", ["like", "share"])
def test_a_label_on_every_click_is_a_warning(tmp_path: Path, label: str) -> None:
    frame = clean_frame(1)
    assert warnings_of(frame.assign(**{label: frame["click"]}), tmp_path) == [f"{label}_differs_from_click"]


def test_the_same_dwell_on_every_click_is_a_warning(tmp_path: Path) -> None:
    frame = clean_frame(1)
    assert warnings_of(frame.assign(dwell_time=12.5 * frame["click"]), tmp_path) == ["dwell_time_varies"]


def test_dates_without_a_time_are_a_warning(tmp_path: Path) -> None:
    frame = clean_frame(1).assign(time_of_day="night")
    frame["timestamp"] = frame["timestamp"].dt.floor("D")
    frame["user_id"] = np.arange(len(frame)) % 1_999
    assert "hour_of_day_varies" in warnings_of(frame.drop_duplicates(["user_id", "item_id", "timestamp"]), tmp_path)


def test_columns_at_their_documented_defaults_are_no_fault(tmp_path: Path) -> None:
    assert not warnings_of(clean_frame(1).assign(like=0, share=0, dwell_time=0.0), tmp_path)


def test_one_day_alone_passes(tmp_path: Path) -> None:
    frame = clean_frame(1)
    first = frame[frame["timestamp"] < frame["timestamp"].iloc[0].floor("D") + DAY]
    now = first["timestamp"].iloc[-1].ceil("D").to_pydatetime()
    assert not check(first, tmp_path, now=now).warnings


# A history that nobody can change


def test_a_long_uneven_history_passes_with_warnings_that_summary_and_report_show(tmp_path: Path) -> None:
    summary = read(uneven_ratings(), tmp_path)
    assert summary.passed
    assert summary.first_import
    (rows,) = [warning for warning in summary.warnings if warning.startswith("daily_rows: ")]
    assert "instead of about" in rows
    page = (tmp_path / "out" / "report.html").read_text()
    assert "a first import: days unlike those before them are reported, not judged" in page
    assert rows.split(": ", 1)[1].split(";")[0] in page
    assert ValidationSummary.model_validate_json((tmp_path / "out" / "summary.json").read_text()) == summary


def test_an_accepted_history_is_not_judged_again(tmp_path: Path) -> None:
    read(uneven_ratings(), tmp_path)
    summary = validate(tmp_path / "table", output=tmp_path / "out", config=ValidationConfig(), now=RATINGS_END)
    assert not summary.first_import
    assert not summary.judged_days
    assert not summary.warnings


def test_a_day_of_bad_rows_is_held_from_a_first_import_that_passes(tmp_path: Path) -> None:
    frame = clean_frame(1, 30_000, 90).copy()
    day = frame["timestamp"].dt.floor("D") == frame["timestamp"].iloc[0].floor("D") + 79 * DAY
    frame.loc[day, "device"] = "phone"
    summary = check(frame, tmp_path, config=ValidationConfig(), now=NOW + timedelta(days=90 - DAYS))
    assert summary.passed and summary.first_import
    (held,) = summary.held_days
    assert held.date == date(2024, 5, 22)
    assert f"{day.sum()} of its {day.sum()} rows are bad" in held.reason
    assert "device_in_set" in summary.alarms[0]
    assert len(clean(tmp_path)) == (~day).sum() == summary.clean_rows


def generated(rows: int, days: int) -> pd.DataFrame:
    config = GeneratorConfig(
        num_interactions=rows, start_date=date(2024, 1, 1), end_date=date(2024, 1, 1) + timedelta(days=days - 1)
    )
    return pa.concat_tables(generate(config)).to_pandas()


def test_few_rows_a_day_of_the_generator_pass_as_a_first_import_and_afterwards(tmp_path: Path) -> None:
    frame, config = generated(60_000, 320), ValidationConfig(max_bad_share=0)
    ends = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=days) for days in (100, 320)]
    for end in ends:
        batch = frame[frame["timestamp"] < end]
        table = pa.Table.from_pandas(batch, schema=schema.INTERACTIONS, preserve_index=False)
        write_partitioned(table, tmp_path / f"{end:%j}")
        summary = validate(tmp_path / f"{end:%j}", output=tmp_path / "out", config=config, now=end)
        assert summary.passed
        assert not summary.warnings
