"""`feedrank accept-day`: a person takes a held or missing day into the history, with a reason."""

from datetime import timedelta
from pathlib import Path

import pytest
from test_validation_days import LAST, accepted_until, day_date, held, midnight, missing, night, of_day
from validated_data import clean, quarantined

from feedrank.data.validation.accept import accept_days
from feedrank.data.validation.record import load_record
from feedrank.errors import ConfigError, DataError

NOW = midnight(LAST + 1) + timedelta(hours=9)


def accept(folder: Path, *days: int, why: str = "a sale") -> None:
    accept_days(folder / "out", [day_date(day) for day in days], why=why, who="ann", now=NOW)


def test_an_accepted_day_is_history_and_the_report_names_who_when_and_why(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST - 2)
    frame.loc[of_day(frame, LAST - 1), "device"] = "tablet"
    assert held(night(frame, tmp_path, LAST - 1)) == [day_date(LAST - 1)]
    accept(tmp_path, LAST - 1)
    accept(tmp_path, LAST - 1, why="again")
    summary = night(frame, tmp_path, LAST)
    assert summary.judged_days == (day_date(LAST),) and not summary.warnings
    assert [(d.date, d.who, d.at, d.why) for d in summary.accepted_days] == [(day_date(LAST - 1), "ann", NOW, "a sale")]
    assert len(clean(tmp_path)) == len(frame) and quarantined(tmp_path).empty
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Accepted by a person" in page and "a sale" in page and "2024-04-08T09:00:00" in page.replace(" ", "T")


def test_a_day_like_an_accepted_one_is_not_held(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST - 2)
    frame.loc[of_day(frame, LAST - 1) | of_day(frame, LAST), "device"] = "tablet"
    night(frame, tmp_path, LAST - 1)
    accept(tmp_path, LAST - 1)
    assert not night(frame, tmp_path, LAST).held_days


def test_an_accepted_day_of_bad_rows_keeps_them_in_the_quarantine_and_may_change_a_little(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST - 2)
    bad = frame.index[of_day(frame, LAST - 1)][::2]
    frame.loc[bad, "device"] = "phone"
    night(frame, tmp_path, LAST - 1)
    accept(tmp_path, LAST - 1)
    assert not night(frame, tmp_path, LAST).held_days
    assert len(clean(tmp_path)) == len(frame) - len(bad)
    assert set(quarantined(tmp_path)["reason"]) == {"device_in_set"}
    place = frame.index[of_day(frame, LAST - 1) & (frame["device"] != "phone") & (frame["click"] == 0)][0]
    frame.loc[place, "click"] = 1
    assert not night(frame, tmp_path, LAST).held_days


def test_late_clicks_between_the_acceptance_and_the_next_night_hold_the_day_no_more(tmp_path: Path) -> None:
    """The next export always has some: without this a person accepts each odd day twice."""
    frame = accepted_until(tmp_path, LAST - 2)
    frame.loc[of_day(frame, LAST - 1), "device"] = "tablet"
    assert held(night(frame, tmp_path, LAST - 1)) == [day_date(LAST - 1)]
    accept(tmp_path, LAST - 1)
    late = frame.index[of_day(frame, LAST - 1) & (frame["click"] == 0)][:3]
    frame.loc[late, "click"] = 1
    summary = night(frame, tmp_path, LAST)
    assert not summary.held_days and not summary.alarms
    assert len(clean(tmp_path)) == len(frame)
    assert [day.who for day in summary.accepted_days] == ["ann"]


def test_a_held_day_that_changes_is_not_taken_for_an_accepted_one(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST - 2)
    frame.loc[of_day(frame, LAST - 1), "device"] = "tablet"
    night(frame, tmp_path, LAST - 1)
    frame.loc[frame.index[of_day(frame, LAST - 1) & (frame["click"] == 0)][:3], "click"] = 1
    assert held(night(frame, tmp_path, LAST)) == [day_date(LAST - 1)]


def test_an_accepted_loss_is_no_longer_told(tmp_path: Path) -> None:
    frame = accepted_until(tmp_path, LAST - 2)
    frame = frame[~of_day(frame, LAST - 1)]
    assert missing(night(frame, tmp_path, LAST)) == [day_date(LAST - 1)]
    accept(tmp_path, LAST - 1)
    summary = night(frame, tmp_path, LAST)
    assert not summary.warnings and not summary.missing_days and summary.accepted_days


def test_what_cannot_be_accepted_is_named_and_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no day was judged yet; run `feedrank validate` first"):
        accept(tmp_path, LAST)
    frame = accepted_until(tmp_path, LAST - 2)
    frame.loc[of_day(frame, LAST - 1), "device"] = "tablet"
    night(frame, tmp_path, LAST - 1)
    before = load_record(tmp_path / "out").entries
    with pytest.raises(DataError, match=r"2024-04-05 is accepted, .* held or missing are 2024-04-06"):
        accept(tmp_path, LAST - 1, LAST - 2)
    with pytest.raises(DataError, match="2024-02-23: no validation has seen this day; held or missing are 2024-04-06"):
        accept(tmp_path, -10)
    with pytest.raises(DataError, match="2024-04-08 is not over"):
        accept(tmp_path, LAST + 1)
    with pytest.raises(ConfigError, match="--why: a reason is missing"):
        accept(tmp_path, LAST - 1, why=" ")
    assert load_record(tmp_path / "out").entries == before
