"""Validation: every kind of damage is caught, clean data passes, outputs are whole and say why."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from validated_data import check, clean, quarantined, status

from benchmarks.data_issues import ISSUES, Damage, Issue, null_label, write_damaged
from benchmarks.validation import CONFIG, HEADLINE_SHARE, bounds, clean_frame, try_issue
from feedrank.config.ingest import IngestConfig
from feedrank.config.validation import ValidationConfig
from feedrank.data.ingest import ingest
from feedrank.data.validation import ValidationSummary, validate
from feedrank.errors import DataError, StorageError, ValidationFailedError
from feedrank.storage import exclusive

ROOT = Path(__file__).parents[2]


def damaged(issue_function: object, share: float) -> pd.DataFrame:
    issue = next(i for i in ISSUES if i.apply is issue_function)
    return issue.apply(Damage(clean_frame(1).copy(), share, np.random.default_rng(0)))


def test_clean_data_passes_every_rule_and_stays_as_it_is(tmp_path: Path) -> None:
    summary = check(clean_frame(1), tmp_path)
    assert summary.passed
    assert set(status(summary).values()) == {"passed"}
    pd.testing.assert_frame_equal(clean(tmp_path), clean_frame(1))
    assert ValidationSummary.model_validate_json((tmp_path / "out" / "summary.json").read_text()) == summary


def test_there_are_at_least_thirty_kinds_of_damage() -> None:
    assert len({issue.name for issue in ISSUES}) >= 30


@pytest.mark.parametrize("issue", ISSUES, ids=lambda issue: issue.name)
def test_damage_is_caught(issue: Issue) -> None:
    share = 2 * HEADLINE_SHARE if issue.graded else None
    assert try_issue(issue, share, seed=0).caught


def test_few_bad_rows_are_quarantined_with_their_reasons_and_the_batch_passes(tmp_path: Path) -> None:
    frame = clean_frame(1).copy()
    frame.loc[10, ["click", "like"]] = [0, 1]
    frame.loc[20, "device"] = "Mobile"
    frame.loc[30, "dwell_time"] = -3.0
    frame.loc[30, "device"] = "fridge"
    summary = check(frame, tmp_path)
    assert (summary.passed, summary.quarantined_rows, summary.clean_rows) == (True, 3, len(frame) - 3)
    rows = quarantined(tmp_path)
    reasons = dict(zip(rows["interaction_id"], rows["reason"], strict=True))
    assert "like_needs_click" in reasons[frame.loc[10, "interaction_id"]]
    assert reasons[frame.loc[20, "interaction_id"]] == "device_in_set"
    assert reasons[frame.loc[30, "interaction_id"]] == "dwell_time_in_range; device_in_set"
    assert not set(clean(tmp_path)["interaction_id"]) & set(reasons)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "fridge" in page
    assert "<svg" in page


def test_too_many_bad_rows_fail_with_a_report_and_leave_the_earlier_clean_table(tmp_path: Path) -> None:
    check(clean_frame(1), tmp_path)
    with pytest.raises(ValidationFailedError, match=r"35 of 35 days .* 5\.00% .*click_not_null.*report\.html"):
        check(damaged(null_label, 0.05), tmp_path)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["passed"] is False
    assert "failed" in (tmp_path / "out" / "report.html").read_text()
    assert len(clean(tmp_path)) == len(clean_frame(1))


def test_an_empty_table_fails_the_row_count(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailedError, match="row_count: 0, expected at least 1 rows"):
        check(clean_frame(1).iloc[:0], tmp_path)


def test_a_wrong_type_is_named_with_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailedError, match="schema: click is string, expected int8"):
        check(clean_frame(1).astype({"click": str}), tmp_path)


def test_missing_tables_and_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such table"):
        validate(tmp_path / "nothing", output=tmp_path / "out", config=CONFIG)
    broken = tmp_path / "table" / "date=2024-01-01" / "part-0.parquet"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"PAR1 broken")
    with pytest.raises(DataError, match=r"part-0\.parquet: can't be read as Parquet"):
        validate(tmp_path / "table", output=tmp_path / "out", config=CONFIG)
    assert not (tmp_path / "out").exists()


def test_rules_about_days_say_when_they_have_too_little_history(tmp_path: Path) -> None:
    frame = clean_frame(1)
    week = frame[frame["timestamp"] < frame["timestamp"].iloc[0].floor("D") + pd.Timedelta(days=6)]
    outcome = status(check(week, tmp_path, config=ValidationConfig()))
    daily = {name: result for name, result in outcome.items() if name.startswith("daily_")}
    assert daily.pop("daily_bad_rows") == "passed", "a day's own share needs no history"
    assert set(daily.values()) == {"not_evaluated"}
    assert outcome["freshness"] == "not_evaluated"


def test_a_day_that_is_not_over_is_not_judged_by_its_volume(tmp_path: Path) -> None:
    frame = clean_frame(1)
    now = frame["timestamp"].iloc[-1].floor("D") + pd.Timedelta(hours=9)
    assert check(frame[frame["timestamp"] < now], tmp_path, now=now.to_pydatetime()).passed


def test_the_open_bandit_sample_passes_with_default_settings(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("obp")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("install requirements/samples.txt with --no-deps")
    data = Path(spec.submodule_search_locations[0]) / "dataset" / "obd"
    ingest(
        [f"{data}/*/all/all.csv", f"{data}/*/men/men.csv", f"{data}/*/women/women.csv"],
        output=tmp_path / "table",
        mapping=ROOT / "config" / "mappings" / "open_bandit.yaml",
        config=IngestConfig(),
    )
    summary = validate(tmp_path / "table", output=tmp_path / "out", config=ValidationConfig())
    assert (summary.rows, summary.quarantined_rows) == (60_000, 0)
    assert set(status(summary).values()) <= {"passed", "not_evaluated"}


def test_a_ratings_file_passes_with_default_settings(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = 20_000
    frame = pd.DataFrame({"user": rng.zipf(1.2, rows) % 900, "item": rng.zipf(1.3, rows) % 1_500})
    frame["rating"] = rng.choice([1, 2, 3, 4, 5], rows, p=[0.06, 0.11, 0.27, 0.35, 0.21])
    frame["timestamp"] = 874_700_000 + np.sort(rng.integers(0, 60 * 86_400, rows))
    frame.drop_duplicates(["user", "item", "timestamp"]).to_csv(tmp_path / "ratings.csv", index=False)
    ingest(
        [str(tmp_path / "ratings.csv")],
        output=tmp_path / "table",
        mapping=ROOT / "config" / "mappings" / "ratings.yaml",
        config=IngestConfig(),
    )
    summary = validate(tmp_path / "table", output=tmp_path / "out", config=ValidationConfig())
    assert summary.quarantined_rows == 0
    assert set(status(summary).values()) <= {"passed", "not_evaluated"}


def test_a_second_run_beside_the_first_is_refused(tmp_path: Path) -> None:
    write_damaged(clean_frame(1), tmp_path / "table")
    with exclusive(tmp_path / "out"), pytest.raises(StorageError, match="another run is writing it"):
        validate(tmp_path / "table", output=tmp_path / "out", config=CONFIG)


def answers(frame: pd.DataFrame, *, count: int, items: int, user: int) -> pd.DataFrame:
    """So many answers within a minute, one a second quarter, whose impressions share their time."""
    rows = pd.concat([frame.iloc[[0]]] * (count * items), ignore_index=True)
    moments = pd.to_timedelta(np.repeat(np.arange(count) * 0.25, items), unit="s").floor("us")
    rows["timestamp"] = rows["timestamp"].dt.floor("min") + moments
    rows["interaction_id"] = [f"00000000-0000-4000-8000-{n:012d}" for n in range(len(rows))]
    rows["user_id"], rows["item_id"] = user, np.tile(np.arange(items), count)
    return pd.concat([frame, rows], ignore_index=True)


def test_answers_of_a_hundred_impressions_within_a_minute_are_no_flood(tmp_path: Path) -> None:
    frame = answers(clean_frame(1), count=3, items=100, user=5)
    assert status(check(frame, tmp_path))["user_event_rate"] == "passed"


def test_an_id_that_many_share_is_told_with_what_to_do(tmp_path: Path) -> None:
    summary = check(answers(clean_frame(1), count=150, items=1, user=0), tmp_path)
    (rule,) = (rule for rule in summary.rules if rule.name == "user_event_rate")
    assert rule.bad_rows >= 150 and "one id for everybody who isn't signed in" in rule.message


def test_bounds_are_those_of_clopper_and_pearson() -> None:
    # No failure in 59 trials: the lower one-sided 95 % bound is 0.95; two-sided at 90 % it is the same number.
    low, high = bounds(59, 59)
    assert low == pytest.approx(0.025 ** (1 / 59))
    assert high == 1.0
    assert bounds(0, 20) == pytest.approx((0.0, 1 - 0.025 ** (1 / 20)))
