"""What a model is compared with: at first only with what no ranker changes, then with its own first days."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from monitored_data import (
    CONFIG,
    FIRST_SERVED_DAY,
    START,
    START_US,
    VERSION,
    feature_rows,
    interactions,
    make_reference,
    prediction_log,
    with_column,
)  # fmt: skip

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.monitoring.engines import ScipyEngine
from feedrank.monitoring.own_days import own_reference, policy_free
from feedrank.monitoring.reference import Reference
from feedrank.monitoring.results import Signal
from feedrank.monitoring.rows import Sources, by_arrival, read_window
from feedrank.monitoring.window import evaluate_window
from feedrank.tables import US_PER_DAY, timestamps_us, write_partitioned

FIRST = START + timedelta(days=FIRST_SERVED_DAY)
DAYS = 4


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return make_reference(tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Days under a ranker that shows other items than the earlier one did: more popular, with more clicks."""
    directory = tmp_path_factory.mktemp("served")
    sources = Sources(directory / "predictions", directory / "interactions")
    tables = []
    for day in range(DAYS):
        rows = feature_rows(1_600, day=FIRST_SERVED_DAY + day, seed=50 + day)
        rows = with_column(rows, "item_popularity", rows["item_popularity"].to_numpy() + 2)
        tables.append(rows)
    before = prediction_log(feature_rows(500, day=FIRST_SERVED_DAY - 1, seed=9), version="v0.9.0")
    write_partitioned([before, *map(prediction_log, tables)], sources.predictions)
    write_partitioned(map(interactions, tables), sources.feedback)
    return sources


def own(
    trained: Reference, sources: Sources, directory: Path, *, day: float, feedback_in: bool = True
) -> Reference | None:
    window = read_window(FIRST + timedelta(days=day), sources=sources, feed=Feed(), config=CONFIG)
    return own_reference(
        trained, window=window, feedback_in=feedback_in, sources=sources, directory=directory, config=CONFIG
    )


def judged(trained: Reference, sources: Sources, directory: Path, *, day: float) -> dict[str, Signal]:
    end = FIRST + timedelta(days=day)
    result = evaluate_window(
        end, reference=trained, engine=ScipyEngine(), sources=sources, own_days=directory, usual_feedback_share=None,
        feedback_until=end, config=CONFIG, now=end,
    ).result  # fmt: skip
    return {signal.name: signal for signal in result.signals}


def test_before_its_own_first_day_is_over_a_model_is_judged_by_what_no_ranker_changes(
    trained: Reference, sources: Sources, tmp_path: Path
) -> None:
    signals = judged(trained, sources, tmp_path, day=1)
    collecting = {name for name, signal in signals.items() if signal.status == "collecting"}
    assert collecting == {*Feed().names, schema.SCORE, "auc"} - set(policy_free(Feed()))
    assert not any(signal.flagged for signal in signals.values())
    assert signals["calibration"].status == "ok"


def test_another_choice_of_items_is_no_drift_and_a_change_after_the_first_day_is(
    trained: Reference, sources: Sources, tmp_path: Path
) -> None:
    assert not [signal for signal in judged(trained, sources, tmp_path, day=3).values() if signal.flagged]
    moved = Sources(tmp_path / "predictions", sources.feedback)
    for day, shift in enumerate((2, 2, 0)):
        rows = feature_rows(1_600, day=FIRST_SERVED_DAY + day, seed=50 + day)
        popularity = rows["item_popularity"].to_numpy() + shift
        write_partitioned(prediction_log(with_column(rows, "item_popularity", popularity)), moved.predictions)
    signals = judged(trained, moved, tmp_path / "own", day=3)
    assert [name for name, signal in signals.items() if signal.flagged] == ["item_popularity"]


def test_a_drift_of_the_context_is_found_on_the_first_day(trained: Reference, sources: Sources, tmp_path: Path) -> None:
    rows = feature_rows(1_600, day=FIRST_SERVED_DAY, seed=50)
    desktop = np.ones(rows.num_rows)
    rows = with_column(rows, "device_desktop", desktop)
    rows = with_column(with_column(rows, "device_mobile", 0 * desktop), "device_tablet", 0 * desktop)
    moved = Sources(tmp_path / "predictions", sources.feedback)
    write_partitioned(prediction_log(rows), moved.predictions)
    assert judged(trained, moved, tmp_path, day=1)["device_desktop"].status == "drift"


def test_rows_are_compared_by_the_hour_of_their_arrival_whatever_the_clients_clocks_say(
    trained: Reference, sources: Sources, tmp_path: Path
) -> None:
    late = Sources(tmp_path / "predictions", sources.feedback)
    logs = pa.concat_tables(
        prediction_log(feature_rows(1_600, day=FIRST_SERVED_DAY + day, seed=50 + day)) for day in range(2)
    )
    clocks = pa.array(timestamps_us(logs) - 1_800_000_000).cast(schema.TIMESTAMP_TYPE)
    place = logs.schema.get_field_index(schema.TIMESTAMP)
    write_partitioned(logs.set_column(place, logs.schema.field(place), clocks), late.predictions)
    own_days, end = tmp_path / "own", FIRST + timedelta(days=2)
    evaluation = evaluate_window(
        end, reference=trained, engine=ScipyEngine(), sources=late, own_days=own_days, usual_feedback_share=None,
        feedback_until=end, config=CONFIG, now=end,
    )  # fmt: skip
    for rows, first in ((by_arrival(evaluation.sample), 1), (evaluation.reference.features, 0)):
        days = (timestamps_us(rows) - START_US) / US_PER_DAY - FIRST_SERVED_DAY
        assert days.min() > first - 0.001
        assert days.max() < first + 1
    assert timestamps_us(evaluation.sample).min() < timestamps_us(by_arrival(evaluation.sample)).min(), "as predicted"


def test_the_first_days_are_those_before_the_window_and_never_more_than_configured(
    trained: Reference, sources: Sources, tmp_path: Path
) -> None:
    assert own(trained, sources, tmp_path, day=1.75) is None
    one = own(trained, sources, tmp_path, day=2)
    assert one is not None
    assert one.info.end == FIRST + timedelta(days=1)
    reference = CONFIG.reference.model_copy(update={"own_days": 2})
    window = read_window(FIRST + timedelta(days=DAYS), sources=sources, feed=Feed(), config=CONFIG)
    two = own_reference(
        trained, window=window, feedback_in=True, sources=sources, directory=tmp_path,
        config=CONFIG.model_copy(update={"reference": reference}),
    )  # fmt: skip
    assert two is not None
    assert two.info.end == FIRST + timedelta(days=2)
    assert two.features.slice(0, one.features.num_rows).equals(one.features)


def test_they_are_sampled_once_and_alike_whoever_samples_them(
    trained: Reference, sources: Sources, tmp_path: Path
) -> None:
    here, there = (own(trained, sources, tmp_path / name, day=3) for name in ("here", "there"))
    assert here is not None
    assert there is not None
    assert here.info == there.info
    assert here.features.equals(there.features)
    gone = Sources(tmp_path / "gone", sources.feedback)
    again = own_reference(
        trained, window=read_window(FIRST + timedelta(days=3), sources=sources, feed=Feed(), config=CONFIG),
        feedback_in=True, sources=gone, directory=tmp_path / "here", config=CONFIG,
    )  # fmt: skip
    assert again is not None
    assert again.info == here.info


def test_the_auc_waits_for_the_feedback_on_the_first_days(trained: Reference, sources: Sources, tmp_path: Path) -> None:
    without = own(trained, sources, tmp_path, day=2, feedback_in=False)
    assert without is not None
    assert "auc" not in without.info.metrics
    with_feedback = own(trained, sources, tmp_path, day=2)
    assert with_feedback is not None
    assert 0.5 < with_feedback.info.metrics["auc"] < 0.8


def test_too_few_rows_are_no_reference(trained: Reference, sources: Sources, tmp_path: Path) -> None:
    reference = CONFIG.reference.model_copy(update={"min_own_rows": 100_000})
    window = read_window(FIRST + timedelta(days=3), sources=sources, feed=Feed(), config=CONFIG)
    config = CONFIG.model_copy(update={"reference": reference})
    found = own_reference(
        trained, window=window, feedback_in=True, sources=sources, directory=tmp_path, config=config
    )  # fmt: skip
    assert found is None


def test_rows_of_another_version_are_not_among_them(trained: Reference, sources: Sources, tmp_path: Path) -> None:
    found = own(trained, sources, tmp_path, day=2)
    assert found is not None
    assert min(found.features[schema.TIMESTAMP].to_pylist()) >= FIRST - timedelta(seconds=2)
    assert found.info.model_version == VERSION
    assert isinstance(found.features, pa.Table)
