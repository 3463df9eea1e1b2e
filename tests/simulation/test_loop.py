"""The closed loop with real predictors, small: a shift hits, the loop heals, a bad model comes and goes."""

import json

import pytest

from benchmarks.loop import SMALL, figures
from feedrank.config import Config
from feedrank.simulation.results import SimulationResult
from feedrank.simulation.run import Simulation

pytestmark = pytest.mark.timeout(1200)  # the fixture plays 14 days


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SimulationResult:
    return Simulation(SMALL, Config(), tmp_path_factory.mktemp("simulation") / "run").play(second_act=True)


def test_the_shift_is_noticed_within_a_day_and_leads_to_a_promotion(result: SimulationResult) -> None:
    shift = next(event.at for event in result.events if event.kind == "shift")
    later = [event for event in result.events if event.at > shift]
    alerts = [event.at for event in later if event.kind == "alert"]
    assert alerts and (min(alerts) - shift).total_seconds() <= 24 * 3600
    assert any(event.kind == "promotion" for event in later)
    assert not result.alarms[0], "none on the calm days before it"


def test_policies_are_equal_until_the_loop_promotes(result: SimulationResult) -> None:
    changes = [event.at.date() for event in result.events if event.kind == "promotion"]
    same = [
        (frozen.clicks, frozen.impressions) == (loop.clicks, loop.impressions)
        for frozen, loop in zip(result.days["frozen"], result.days["loop"], strict=True)
        if loop.date < min(changes)
    ]
    assert same and all(same)


def test_a_bad_model_is_rolled_back_without_a_failed_request(result: SimulationResult) -> None:
    act = result.rollback
    assert act is not None
    assert act.ctr_bad < act.ctr_before == act.ctr_after
    assert act.rollback_seconds < 5 and act.requests > 0 and act.failed_requests == 0


def test_the_benchmark_prints_plain_json(result: SimulationResult) -> None:
    names = {"recovered_share", "recovered_share_min", "recovered_share_max", "frozen_share", "calm_alarms", "seconds"}
    assert names <= set(json.loads(json.dumps(figures([result]))))
