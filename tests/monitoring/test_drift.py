"""Verdicts on features and scores."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitored_data import (
    CONFIG,
    FIRST_SERVED_DAY,
    START,
    START_US,
    feature_rows,
    make_reference,
    scores_of,
    with_column,
)  # fmt: skip

from feedrank import schema
from feedrank.config.monitoring import DriftConfig
from feedrank.monitoring.drift import corrected_limits, cramers_v, distance_from_band, feature_drift, score_drift
from feedrank.monitoring.engines import ScipyEngine
from feedrank.monitoring.reference import Reference
from feedrank.monitoring.results import Signal
from feedrank.tables import US_PER_DAY, timestamps_us

FLOAT_FEATURES = ("user_avg_dwell_time", "item_popularity", "recency_score")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return make_reference(tmp_path_factory.mktemp("reference"))


def judge(window: pa.Table, reference: Reference) -> dict[str, Signal]:
    signals = feature_drift(window, reference=reference, engine=ScipyEngine(), config=CONFIG)
    return {signal.name: signal for signal in signals}


def flagged(window: pa.Table, reference: Reference) -> set[str]:
    return {name for name, signal in judge(window, reference).items() if signal.flagged}


@pytest.mark.parametrize("rows", [400, 1_000, 5_000])
def test_clean_windows_of_any_size_and_weekday_have_no_drift(reference: Reference, rows: int) -> None:
    for day in range(7):
        assert not flagged(feature_rows(rows, day=FIRST_SERVED_DAY + day, seed=10 + day), reference)


def test_growing_histories_are_no_drift_even_two_months_later(reference: Reference) -> None:
    assert not flagged(feature_rows(2_000, day=FIRST_SERVED_DAY + 60, seed=3), reference)


def as_old_as(window: pa.Table, days: float) -> pa.Table:
    """The window with items of one age."""
    return with_column(window, "item_age_days", np.full(window.num_rows, int(days)))


def test_items_that_only_got_older_are_no_drift_and_new_or_impossibly_old_ones_are(reference: Reference) -> None:
    spike = replace(reference, features=as_old_as(reference.features, 25))
    window = feature_rows(1_000, day=FIRST_SERVED_DAY + 10)
    for days, drifted in ((25, False), (35, False), (0, True), (80, True)):
        assert ("item_age_days" in flagged(as_old_as(window, days), spike)) == drifted, days


def test_click_rates_may_move_with_the_clicks_of_a_new_ranker_by_the_growth_of_the_history_only(
    reference: Reference,
) -> None:
    window = feature_rows(2_000, day=FIRST_SERVED_DAY + 7)
    rates = window["item_ctr"].to_numpy()
    assert not flagged(with_column(window, "item_ctr", rates * 1.2), reference)
    assert flagged(with_column(window, "item_ctr", rates * 2), reference) == {"item_ctr"}


def test_a_slow_drift_that_had_begun_within_a_reference_of_a_long_history_is_found(reference: Reference) -> None:
    def drifting(rows: pa.Table, by_day: float) -> pa.Table:
        days = (timestamps_us(rows) - START_US) / US_PER_DAY
        values = rows["item_popularity"].to_numpy() + by_day * (days - FIRST_SERVED_DAY)
        return with_column(rows, "item_popularity", values)

    old = reference.info.model_copy(update={"history_start": START - timedelta(days=300)})
    begun = Reference(old, drifting(reference.features, 0.05), reference.scores)
    window = drifting(feature_rows(2_000, day=FIRST_SERVED_DAY + 3), 0.05)
    assert "item_popularity" in flagged(window, begun)


def test_two_samples_of_one_band_have_no_distance_from_it_and_what_lies_outside_has() -> None:
    low, high = np.arange(100.0), np.arange(100.0) + 10
    assert distance_from_band(low, high, low) == distance_from_band(low, high, high) == 0
    assert distance_from_band(low, high, low + 5) == 0
    assert distance_from_band(low, high, high + 100) == 1
    assert distance_from_band(low, high, low - 30) == pytest.approx(0.3)


@pytest.mark.parametrize("feature", FLOAT_FEATURES)
def test_a_shift_by_half_a_standard_deviation_is_drift_of_that_feature_only(reference: Reference, feature: str) -> None:
    window = feature_rows(1_000, day=FIRST_SERVED_DAY)
    values = window[feature].to_numpy()
    assert flagged(with_column(window, feature, values + 0.5 * values.std()), reference) == {feature}


def test_a_tiny_shift_of_a_huge_sample_is_significant_but_no_drift(reference: Reference) -> None:
    window = feature_rows(100_000, day=FIRST_SERVED_DAY)
    values = window["item_popularity"].to_numpy()
    signal = judge(with_column(window, "item_popularity", values + 0.08), reference)["item_popularity"]
    assert signal.p_value is not None
    assert signal.p_value < 1e-6
    assert signal.status == "ok"


@pytest.mark.parametrize("share", [0.05, 1.0])
def test_missing_values_are_drift_though_the_test_cannot_see_them(reference: Reference, share: float) -> None:
    window = feature_rows(1_000, day=FIRST_SERVED_DAY)
    values = window["item_ctr"].to_numpy().copy()
    values[: int(share * len(values))] = np.nan
    signal = judge(with_column(window, "item_ctr", values), reference)["item_ctr"]
    assert signal.status == "drift"
    assert signal.missing_share == pytest.approx(share)
    assert "missing" in signal.reason


def test_infinite_values_count_as_missing(reference: Reference) -> None:
    window = feature_rows(1_000, day=FIRST_SERVED_DAY)
    infinite = with_column(window, "item_ctr", np.full(1_000, np.inf))
    assert judge(infinite, reference)["item_ctr"].missing_share == 1


def test_a_column_that_became_constant_is_drift(reference: Reference) -> None:
    window = feature_rows(1_000, day=FIRST_SERVED_DAY)
    assert flagged(with_column(window, "recency_score", np.zeros(1_000)), reference) == {"recency_score"}


def test_an_unseen_category_is_drift(reference: Reference) -> None:
    window = feature_rows(1_000, day=FIRST_SERVED_DAY)
    hours = window[schema.HOUR_OF_DAY].to_numpy().copy()
    hours[:300] = 24
    assert flagged(with_column(window, schema.HOUR_OF_DAY, hours), reference) == {schema.HOUR_OF_DAY}


def test_a_clock_in_another_time_zone_is_drift_of_the_calendar_features(reference: Reference) -> None:
    window = feature_rows(3_000, day=FIRST_SERVED_DAY)
    other_day = (window[schema.DAY_OF_WEEK].to_numpy() + 1) % 7
    assert flagged(with_column(window, schema.DAY_OF_WEEK, other_day), reference) == {schema.DAY_OF_WEEK}


def day_from(rows: pa.Table, first: float, last: float) -> pa.Table:
    """The rows of some days (since START)."""
    days = (timestamps_us(rows) - START_US) / US_PER_DAY
    return rows.filter(pa.array((days >= first) & (days < last)))


@pytest.mark.parametrize(
    ("first", "lost", "why"),
    [
        (FIRST_SERVED_DAY - 14, FIRST_SERVED_DAY - 7, "a lost day that the window begins on"),
        (FIRST_SERVED_DAY - 10, None, "ten days: some days of the week count twice"),
        (FIRST_SERVED_DAY - 6, None, "six days: the window's first half is of a day that they lack"),
        (FIRST_SERVED_DAY - 14, FIRST_SERVED_DAY - 3, "a lost day of other hours"),
    ],
)
def test_days_that_the_reference_lacks_are_no_drift_of_the_hours(
    reference: Reference, first: int, lost: int | None, why: str
) -> None:
    features = day_from(reference.features, first, FIRST_SERVED_DAY)
    if lost is not None:
        features = pa.concat_tables([day_from(features, first, lost), day_from(features, lost + 1, FIRST_SERVED_DAY)])
    known = replace(reference, features=features)
    for start in np.arange(0, 7, 0.25):
        window = feature_rows(2_000, day=FIRST_SERVED_DAY + start, seed=4)
        drifted = flagged(window, known) & {schema.HOUR_OF_DAY, schema.DAY_OF_WEEK}
        assert not drifted, f"{why}, {start} days later"


def test_a_difference_of_categories_has_to_be_more_than_tolerance_and_chance(reference: Reference) -> None:
    few, many = (judge(feature_rows(rows, day=FIRST_SERVED_DAY), reference) for rows in (400, 50_000))
    assert few[schema.HOUR_OF_DAY].threshold > few["device_mobile"].threshold > CONFIG.drift.cramers_v_threshold
    assert many["device_mobile"].threshold == CONFIG.drift.cramers_v_threshold


@pytest.mark.parametrize("rows", [0, 1, 150])
def test_few_rows_are_not_enough_data_and_no_drift(reference: Reference, rows: int) -> None:
    window = feature_rows(rows, day=FIRST_SERVED_DAY)
    shifted = with_column(window, "item_popularity", window["item_popularity"].to_numpy() + 5)
    assert {signal.status for signal in judge(shifted, reference).values()} == {"not_enough_data"}


def test_the_threshold_of_a_single_feature_can_be_raised(reference: Reference) -> None:
    window = feature_rows(1_000, day=FIRST_SERVED_DAY)
    window = with_column(window, "item_popularity", window["item_popularity"].to_numpy() + 0.5)
    drift = CONFIG.drift.model_copy(update={"thresholds": {"item_popularity": 0.9}})
    config = CONFIG.model_copy(update={"drift": drift})
    signals = feature_drift(window, reference=reference, engine=ScipyEngine(), config=config)
    assert not any(signal.flagged for signal in signals)


def test_scores_of_the_same_model_have_not_moved_and_shifted_ones_have(reference: Reference) -> None:
    scores = scores_of(feature_rows(1_000, day=FIRST_SERVED_DAY))
    assert score_drift(scores, reference=reference, config=CONFIG).status == "ok"
    assert score_drift(scores * 2, reference=reference, config=CONFIG).status == "drift"


def test_scores_that_are_not_finite_are_drift(reference: Reference) -> None:
    scores = np.full(1_000, np.nan)
    assert "not finite" in score_drift(scores, reference=reference, config=CONFIG).reason


def test_cramers_v_does_not_depend_on_the_ratio_of_the_sample_sizes() -> None:
    window = np.repeat([0.0, 1.0], [3_500, 1_500])
    small, large = (np.repeat([0.0, 1.0], [half, half]) for half in (2_500, 50_000))
    # Balanced textbook value: shares 0.7 against 0.5 give a mean of 0.6, so V = 0.1 / sqrt(0.6 · 0.4).
    assert cramers_v(small, window) == pytest.approx(0.1 / np.sqrt(0.24), abs=0.003)
    assert cramers_v(large, window) == pytest.approx(0.1 / np.sqrt(0.24), abs=0.003)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0.001, 0.5))
def test_false_discovery_control_accepts_what_bonferroni_accepts(p_values: list[float], p_value: float) -> None:
    named = {str(index): value for index, value in enumerate(p_values)}
    fdr = corrected_limits(named, config=DriftConfig(p_value=p_value, correction="fdr"))
    bonferroni = corrected_limits(named, config=DriftConfig(p_value=p_value))
    assert all(value < fdr[name] for name, value in named.items() if value < bonferroni[name])


def test_false_discovery_limit_is_that_of_benjamini_and_hochberg() -> None:
    # The example of their paper (J. R. Stat. Soc. B 57, 1995, section 3.2): four of 15 hypotheses are rejected.
    p_values = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
                0.7590, 1.0]  # fmt: skip
    named = {str(index): value for index, value in enumerate(p_values)}
    limits = corrected_limits(named, config=DriftConfig(p_value=0.05, correction="fdr"))
    assert sum(value < limits[name] for name, value in named.items()) == 4


def test_a_test_that_gives_no_number_is_an_error_not_silence(reference: Reference) -> None:
    class Broken(ScipyEngine):
        def kolmogorov_smirnov(self, reference, window):  # type: ignore[no-untyped-def]
            found = super().kolmogorov_smirnov(reference, window)
            return type(found)(statistic=found.statistic, p_value=float("nan"))

    signals = feature_drift(
        feature_rows(1_000, day=FIRST_SERVED_DAY), reference=reference, engine=Broken(), config=CONFIG
    )
    assert {s.status for s in signals if s.test == "ks"} == {"error"}
