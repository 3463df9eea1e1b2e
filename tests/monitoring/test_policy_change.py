"""Feeds without any drift, and a real one under a new ranker, judged by the whole of a window's verdicts."""

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest

from benchmarks.monitored_world import ServedWorld, serve
from benchmarks.policy_world import serve_first_ranker
from feedrank import schema
from feedrank.config import MonitoringConfig
from feedrank.config.data import DriftScenario, GeneratorConfig, WorldConfig
from feedrank.monitoring.engines import ScipyEngine
from feedrank.monitoring.reference import load_reference
from feedrank.monitoring.window import evaluate_window

CONFIG = MonitoringConfig.model_validate({"drift": {"engine": "scipy"}, "reference": {"min_own_rows": 400}})
START = date(2024, 3, 3)


def generator(*, history_days: int, served_days: int, world: WorldConfig) -> GeneratorConfig:
    days = history_days + served_days
    return GeneratorConfig(
        num_users=2_500,
        num_items=3_000,
        num_interactions=3_000 * days,
        start_date=START,
        end_date=START + timedelta(days=days - 1),
        seed=7,
        world=world,
    )


def flagged(world: ServedWorld, first: date, *, days: range, directory: Path) -> dict[int, list[str]]:
    """The flagged signals of the windows that end at the midnights after some served days."""
    found = {}
    for day in days:
        end = datetime.combine(first + timedelta(days=day), time(), tzinfo=UTC)
        result = evaluate_window(
            end, reference=load_reference(world.reference), engine=ScipyEngine(), sources=world.sources,
            own_days=directory / "own", usual_feedback_share=None, feedback_until=end, config=CONFIG, now=end,
        ).result  # fmt: skip
        if names := [signal.name for signal in result.signals if signal.flagged]:
            found[day] = names
    return found


def test_a_month_of_impressions_that_are_spread_over_the_day_flags_no_window(tmp_path: Path) -> None:
    config = generator(history_days=20, served_days=20, world=WorldConfig(session_mean_impressions=1.0))
    first = START + timedelta(days=20)
    world = serve(config, first_served=first, drifts=(), config=CONFIG, directory=tmp_path)
    assert flagged(world, first, days=range(1, 21, 3), directory=tmp_path) == {}


@pytest.mark.parametrize("drifted", [False, True])
def test_a_first_ranker_that_doubles_the_clicks_is_no_drift_and_other_devices_under_it_are(
    tmp_path: Path, drifted: bool
) -> None:
    config = generator(history_days=20, served_days=5, world=WorldConfig())
    first = START + timedelta(days=20)
    moved = DriftScenario(kind="device_mix", start_date=first + timedelta(days=4), strength=1.0)
    world = serve_first_ranker(
        config, first_served=first, drifts=(moved,) if drifted else (), config=CONFIG, directory=tmp_path
    )
    clicks = world.served[schema.TARGET].to_numpy().mean(), world.train[schema.TARGET].to_numpy().mean()
    assert clicks[0] > 1.5 * clicks[1]
    found = flagged(world, first, days=range(1, 6), directory=tmp_path)
    assert set(found) == ({5} if drifted else set())
    assert not drifted or "device_desktop" in found[5] or "device_mobile" in found[5]
