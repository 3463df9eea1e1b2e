"""A day is judged once, and again only when its rows change; an odd or lost one is held and blocks no night."""

import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from validated_data import check, clean, quarantined

from benchmarks.validation import CONFIG, START, clean_frame
from feedrank import schema
from feedrank.data.validation import ValidationSummary, outcome, run, validate
from feedrank.data.validation.record import DayRecord, load_record, share_record
from feedrank.data.validation.stored import replace_changed_days
from feedrank.delta import is_table, open_table
from feedrank.errors import DataError, ValidationFailedError
from feedrank.tables import write_partitioned

LABELS = ["click", "like", "share", "dwell_time"]
LAST = 34
"""The last of the days of a clean batch, counted from 0."""


def midnight(day: int) -> datetime:
    return datetime.combine(START + timedelta(days=day), datetime.min.time(), tzinfo=UTC)


def of_day(frame: pd.DataFrame, day: int) -> "pd.Series[bool]":
    return frame["timestamp"].dt.floor("D") == pd.Timestamp(midnight(day))


def night(frame: pd.DataFrame, folder: Path, day: int, **arguments: bool) -> ValidationSummary:
    """The validation in the night after a day, of all rows up to then."""
    end = midnight(day + 1)
    return check(frame[frame["timestamp"] < end], folder, now=end, **arguments)


def accepted_until(folder: Path, day: int) -> pd.DataFrame:
    """Accepts a clean batch up to a day; gives all its rows, to damage."""
    assert night(clean_frame(1), folder, day).first_import
    return clean_frame(1).copy()


def held(summary: ValidationSummary) -> list[date]:
    return [day.date for day in summary.held_days]


def missing(summary: ValidationSummary) -> list[date]:
    return [day.date for day in summary.missing_days]


def day_date(day: int) -> date:
    return START + timedelta(days=day)


# What a night judges


def test_only_new_days_are_judged(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST - 2)
    assert night(frame, tmp_path, LAST).judged_days == (day_date(LAST - 1), day_date(LAST))
    again = night(frame.sample(frac=1, random_state=0), tmp_path, LAST)
    assert again.judged_days == () and again.judged_rows == 0
    assert again.clean_rows == len(frame) == len(clean(tmp_path))


def test_an_accepted_day_is_not_judged_by_new_limits(tmp_path: Path) -> None:
    accepted_until(tmp_path, LAST)
    strict = CONFIG.model_copy(update={"max_dwell_without_click_seconds": 0.0})
    summary = check(clean_frame(1), tmp_path, config=strict)
    assert not summary.judged_days and len(clean(tmp_path)) == len(clean_frame(1))


def test_a_late_click_changes_its_day_alone(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST)
    place = frame.index[of_day(frame, LAST - 3) & (frame["click"] == 0)][0]
    frame.loc[place, "click"] = 1
    before = open_table(tmp_path / "out" / "clean")
    summary = night(frame, tmp_path, LAST)
    assert summary.judged_days == (day_date(LAST - 3),) and not summary.alarms
    after = open_table(tmp_path / "out" / "clean")
    assert after.version == before.version + 1
    assert after.changed_days(before.version) == [day_date(LAST - 3)]
    assert clean(tmp_path)["click"].sum() == frame["click"].sum()


def test_a_day_that_is_not_over_is_judged_again(tmp_path: Path) -> None:
    frame = clean_frame(1).copy()
    frame.loc[of_day(frame, LAST), "device"] = "tablet"
    evening = midnight(LAST) + timedelta(hours=20)
    assert check(frame[frame["timestamp"] < evening], tmp_path, now=evening).passed
    assert held(night(frame, tmp_path, LAST)) == [day_date(LAST)]


def test_a_copy_of_a_settled_row_is_the_bad_one(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST - 1)
    copy = frame[of_day(frame, LAST - 1)].iloc[[0]].assign(timestamp=pd.Timestamp(midnight(LAST - 3)))
    copy = copy.assign(time_of_day="night", day_of_week=(frame["day_of_week"].iloc[0] + LAST - 3) % 7)
    frame = pd.concat([frame, copy.astype(frame.dtypes)], ignore_index=True)
    night(frame, tmp_path, LAST)
    assert len(clean(tmp_path)) == len(clean_frame(1))
    (row,) = quarantined(tmp_path).to_dict("records")
    assert (row["reason"], row["day"]) == ("interaction_id_unique", pd.Timestamp(midnight(LAST - 3)))


# Days that are wrong


def test_a_day_of_bad_rows_is_held_for_its_own_share(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST - 1)
    bad = of_day(frame, LAST)
    frame.loc[bad, "device"] = "phone"
    summary = night(frame, tmp_path, LAST)
    assert summary.passed and held(summary) == [day_date(LAST)]
    assert summary.alarms[0].startswith(
        f"held: 2024-04-07 (daily_bad_rows: {bad.sum()} of its {bad.sum()} rows are bad"
    )
    assert len(clean(tmp_path)) == (~bad).sum()
    assert set(quarantined(tmp_path)["reason"]) == {"device_in_set"}


def test_a_few_stray_rows_of_another_time_are_no_bad_day(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST - 1)
    stray = frame.index[of_day(frame, LAST)][:5]
    frame.loc[stray, "timestamp"] += pd.Timedelta(days=700)
    summary = night(frame, tmp_path, LAST)
    assert not summary.alarms
    future = check(frame, tmp_path, now=midnight(LAST + 1))
    assert not future.alarms and future.quarantined_rows == 5


def test_a_day_unlike_those_before_it_is_held_with_all_its_rows(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST - 1)
    odd = of_day(frame, LAST)
    frame.loc[odd, "device"] = "tablet"
    summary = night(frame, tmp_path, LAST)
    assert "daily_tablet_share: 1 instead of about" in summary.held_days[0].reason
    assert summary.alarms and summary.clean_rows == (~odd).sum() == len(clean(tmp_path))
    rows = quarantined(tmp_path)
    assert set(rows["reason"]) == {"day_held"} and len(rows) == odd.sum()


def test_where_drift_is_expected_other_behaviour_is_told_and_not_held(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST - 1)
    frame.loc[of_day(frame, LAST), "device"] = "tablet"
    summary = night(frame, tmp_path, LAST, drift_expected=True)
    assert not summary.alarms and not summary.held_days and len(clean(tmp_path)) == len(frame)
    assert any("daily_tablet_share" in warning for warning in summary.warnings)


def test_of_an_accepted_day_that_went_bad_the_accepted_rows_stay_until_it_is_mended(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST)
    good = frame.copy()
    frame.loc[of_day(frame, LAST - 2), LABELS] = [0, 0, 0, 0.0]
    summary = night(frame, tmp_path, LAST)
    assert "daily_click_rate" in summary.held_days[0].reason
    pd.testing.assert_frame_equal(clean(tmp_path), good)
    mended = night(good, tmp_path, LAST)
    assert not mended.held_days and not mended.alarms and not mended.warnings
    assert quarantined(tmp_path).empty


def test_a_day_that_shrinks_is_held_and_stays_as_it_was(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST)
    shrunk = frame[~of_day(frame, LAST - 2) | (np.random.default_rng(0).random(len(frame)) < 0.2)]
    summary = night(shrunk, tmp_path, LAST)
    assert "daily_rows" in summary.held_days[0].reason
    assert len(clean(tmp_path)) == len(frame)


def test_a_day_exported_three_times_is_held_and_its_rows_are_clean_once(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST - 1)
    day = frame[of_day(frame, LAST)]
    summary = night(pd.concat([frame, day, day]), tmp_path, LAST)
    assert "interaction_id_unique" in summary.held_days[0].reason
    assert len(clean(tmp_path)) == len(frame) - len(day)
    assert not night(frame, tmp_path, LAST).held_days
    pd.testing.assert_frame_equal(clean(tmp_path), frame)


def test_days_of_nan_are_held(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST - 1)
    frame.loc[of_day(frame, LAST), "dwell_time"] = np.nan
    assert "dwell_time_not_null" in night(frame, tmp_path, LAST).held_days[0].reason


@pytest.mark.parametrize("damage", ["type", "empty"])
def test_a_batch_that_is_wrong_in_itself_fails_and_changes_nothing(tmp_path: Path, damage: str) -> None:
    frame = accepted_until(tmp_path, LAST - 1)
    before = load_record(tmp_path / "out").entries
    wrong = frame.astype({"click": str}) if damage == "type" else frame.iloc[:0]
    for _ in range(2):
        with pytest.raises(ValidationFailedError):
            check(wrong, tmp_path)
    assert len(clean(tmp_path)) == (~of_day(frame, LAST)).sum()
    assert load_record(tmp_path / "out").entries == before
    assert night(frame, tmp_path, LAST).judged_days == (day_date(LAST),)


def test_days_older_than_every_accepted_one_are_a_first_import_too(tmp_path: Path) -> None:
    frame = clean_frame(1).copy()
    check(frame[frame["timestamp"] >= midnight(LAST - 9)], tmp_path)
    frame.loc[of_day(frame, LAST - 14), "device"] = "tablet"
    summary = check(frame, tmp_path)
    assert not summary.alarms and not summary.held_days
    assert any(warning.startswith("daily_tablet_share: 2024-03-24") for warning in summary.warnings)


# Nights after it


def nights(frame: pd.DataFrame, folder: Path, days: range, **arguments: bool) -> Iterator[ValidationSummary]:
    for day in days:
        yield night(frame, folder, day, **arguments)


@pytest.mark.parametrize("drift_expected", [False, True])
def test_a_lost_day_is_an_alarm_once_and_blocks_no_night(tmp_path: Path, drift_expected: bool) -> None:
    """Finding 2: with 90 days of history and 50 nights after the loss of one."""
    frame = clean_frame(2, 21_000, 140)
    frame = frame[~of_day(frame, 89)]
    assert night(frame, tmp_path, 88, drift_expected=drift_expected).first_import
    days = range(90, 140) if drift_expected else range(90, 140, 7)
    seen = list(nights(frame, tmp_path, days, drift_expected=drift_expected))
    assert all(summary.passed for summary in seen)
    assert [missing(summary) for summary in seen] == [[day_date(89)]] * len(seen)
    assert [bool(summary.alarms) for summary in seen] == [True] + [False] * (len(seen) - 1)
    assert seen[0].alarms[0].startswith("missing: 2024-06-01 (daily_missing_days: 0 instead of about")
    assert all(summary.warnings[0].startswith("still missing: 2024-06-01") for summary in seen[1:])
    assert len(clean(tmp_path)) == (frame["timestamp"] < midnight(days[-1] + 1)).sum()


def test_a_day_of_which_a_few_rows_are_left_is_held(tmp_path: Path) -> None:
    """The next export brings late clicks of a lost day: fewer rows than any other figure needs."""
    frame = accepted_until(tmp_path, LAST - 2)
    lost = np.flatnonzero(of_day(frame, LAST - 1))[5:]
    frame = frame.drop(index=frame.index[lost])
    summary = night(frame, tmp_path, LAST - 1)
    assert held(summary) == [day_date(LAST - 1)]
    assert "daily_rows: 5 instead of about" in summary.alarms[0]
    assert not night(frame, tmp_path, LAST).alarms


def test_a_day_of_a_week_that_always_has_few_rows_is_not_judged(tmp_path: Path) -> None:
    frame = clean_frame(2, 21_000, LAST + 1)
    sundays = frame["timestamp"].dt.weekday == 6
    frame = frame[~sundays | (np.cumsum(sundays) % 40 == 0)]
    assert night(frame, tmp_path, LAST - 14).first_import
    assert not any(summary.alarms for summary in nights(frame, tmp_path, range(LAST - 13, LAST + 1)))


def test_a_held_day_is_an_alarm_once_even_if_its_rows_change(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST - 2)
    odd = of_day(frame, LAST - 1)
    frame.loc[odd, "device"] = "tablet"
    assert night(frame, tmp_path, LAST - 1).alarms
    frame.loc[frame.index[odd][0], "device"] = "mobile"
    summary = night(frame, tmp_path, LAST)
    assert summary.judged_days == (day_date(LAST - 1), day_date(LAST)) and not summary.alarms
    assert summary.warnings[0].startswith("still held: 2024-04-06")
    assert len(clean(tmp_path)) == (~odd).sum()


def test_a_lasting_change_is_usual_after_half_a_week(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST - 7)
    frame.loc[frame["timestamp"] >= midnight(LAST - 6), "device"] = "tablet"
    seen = list(nights(frame, tmp_path, range(LAST - 6, LAST + 1)))
    assert [bool(summary.alarms) for summary in seen] == [True] * 4 + [False] * 3


def test_an_accepted_day_that_was_lost_is_missing_and_its_rows_stay(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST)
    lost = frame[~of_day(frame, LAST - 1)]
    summary = night(lost, tmp_path, LAST)
    assert missing(summary) == [day_date(LAST - 1)] and "missing: 2024-04-06" in summary.alarms[0]
    assert len(clean(tmp_path)) == len(frame)
    back = night(frame, tmp_path, LAST)
    assert not back.missing_days and not back.alarms


# The record


def write(frame: pd.DataFrame, directory: Path) -> None:
    write_partitioned(pa.Table.from_pandas(frame, schema=schema.INTERACTIONS, preserve_index=False), directory)


def test_the_record_of_another_output_counts_and_can_be_shared(tmp_path: Path) -> None:
    frame, shared = accepted_until(tmp_path, LAST - 1), tmp_path / "shared"
    share_record(tmp_path / "out", shared)
    frame.loc[of_day(frame, LAST), "device"] = "tablet"
    write(frame, tmp_path / "table")
    output = tmp_path / "run-2" / "out"
    arguments = {"config": CONFIG, "now": midnight(LAST + 1)}
    summary = validate(tmp_path / "table", output=output, accepted=shared, **arguments)
    assert held(summary) == [day_date(LAST)] and len(clean(tmp_path / "run-2")) == (~of_day(frame, LAST)).sum()
    share_record(output, shared)
    again = validate(tmp_path / "table", output=tmp_path / "run-3" / "out", accepted=shared, **arguments)
    assert not again.alarms and held(again) == [day_date(LAST)]
    assert validate(tmp_path / "table", output=tmp_path / "x", accepted=tmp_path / "none", **arguments).first_import


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    check(clean_frame(1), tmp_path)
    (tmp_path / "out" / "days.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"days\.parquet: can't be read .* first import again"):
        check(clean_frame(1), tmp_path)


def test_the_accepted_days_of_an_earlier_release_count(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST - 1)
    out = tmp_path / "out"
    record = load_record(out)
    record.figures.drop(columns="bad_share").to_parquet(out / "accepted_days.parquet")
    (out / "days.parquet").unlink()
    frame.loc[of_day(frame, LAST), "device"] = "tablet"
    summary = night(frame, tmp_path, LAST)
    assert not summary.first_import and held(summary) == [day_date(LAST)]
    assert set(record.entries) < set(load_record(out).entries)


def test_the_tables_of_an_earlier_release_are_replaced_by_the_next_validation(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST - 1)
    out = tmp_path / "out"
    old = [out / "clean" / "date=2023-01-01" / "part-0.parquet", out / "quarantine" / "rule=device" / "rows.parquet"]
    for file in old:
        shutil.rmtree(file.parents[1])
        file.parent.mkdir(parents=True)
        frame.to_parquet(file)
    night(frame, tmp_path, LAST)
    assert is_table(out / "clean") and is_table(out / "quarantine")
    assert not any(file.exists() for file in old)
    assert len(clean(tmp_path)) == len(frame)


class KilledError(BaseException):
    """Nothing catches it, as nothing catches a kill."""


def die(*_: object, **__: object) -> None:
    raise KilledError


def unless(table: str, location: Path, *arguments: Any, **named: Any) -> None:
    die() if location.name == table else replace_changed_days(location, *arguments, **named)


@pytest.mark.parametrize("killed_at", ["quarantine", "clean", "reports", "record"])
def test_a_run_that_dies_anywhere_is_made_up_for_by_the_next(
    tmp_path: Path, killed_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = accepted_until(tmp_path, LAST - 2)
    frame.loc[of_day(frame, LAST - 1), "device"] = "phone"
    with monkeypatch.context() as patched:
        if killed_at in ("quarantine", "clean"):
            patched.setattr(outcome, "replace_changed_days", partial(unless, killed_at))
        elif killed_at == "reports":
            patched.setattr(run, "write_text", die)
        else:
            patched.setattr(DayRecord, "save", die)
        with pytest.raises(KilledError):
            night(frame, tmp_path, LAST)
    summary = night(frame, tmp_path, LAST)
    assert held(summary) == [day_date(LAST - 1)] and summary.alarms
    good = ~of_day(frame, LAST - 1)
    assert len(clean(tmp_path)) == good.sum() and len(quarantined(tmp_path)) == (~good).sum()
    assert clean(tmp_path)["interaction_id"].is_unique
