"""The recovered share and the page that shows it, on figures with a known answer."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from feedrank.config.simulation import PolicyName, SimulationConfig
from feedrank.simulation.page import headline, save
from feedrank.simulation.recovery import measure_recovery
from feedrank.simulation.results import Event, PolicyDay, SimulationResult
from feedrank.simulation.trajectory import Trajectory

CONFIG = SimulationConfig(history_days=10, calm_days=2, shifted_days=12, judged_days=2)
START = date(2024, 8, 15)


def days_with(clicks: list[int], *, first: int = 0) -> list[PolicyDay]:
    return [
        PolicyDay(
            date=START + timedelta(days=first + number),
            planned_visits=100,
            visits=90,
            users=50,
            impressions=1_000,
            clicks=count,
            engaged=count // 10,
            session_seconds=60.0,
            retention=None if number == 0 else 0.5,
        )
        for number, count in enumerate(clicks)
    ]


FROZEN = [180, 180, *[50] * 7, 100, 100, 100, 110, 110]
LOOP = [180, 180, *[50] * 7, 110, 130, 140, 150, 150]
INFORMED = [*[90] * 7, 160, 160, 160, 160, 160]
DAYS: dict[PolicyName, list[PolicyDay]] = {
    "frozen": days_with(FROZEN),
    "loop": days_with(LOOP),
    "informed": days_with(INFORMED, first=2),
}


def trajectories(days: dict[PolicyName, list[PolicyDay]]) -> dict[PolicyName, Trajectory]:
    return {name: cast(Trajectory, SimpleNamespace(days=of_policy)) for name, of_policy in days.items()}


def test_the_share_is_measured_from_the_floor_after_the_candidates_followed() -> None:
    found = measure_recovery(trajectories(DAYS), config=CONFIG)
    assert found is not None
    assert found.floor_ctr == pytest.approx(0.10) and found.before_ctr == pytest.approx(0.18)
    assert found.recovered_share == pytest.approx((0.15 - 0.10) / (0.16 - 0.10))
    assert found.frozen_share == pytest.approx((0.11 - 0.10) / (0.16 - 0.10))
    assert found.floor_days == (date(2024, 8, 24), date(2024, 8, 25))
    assert found.judged_days == (date(2024, 8, 27), date(2024, 8, 28))


def test_without_a_policy_or_enough_days_there_is_no_share() -> None:
    assert measure_recovery(trajectories({"loop": DAYS["loop"]}), config=CONFIG) is None
    short = CONFIG.model_copy(update={"shifted_days": 10})
    assert measure_recovery(trajectories(DAYS), config=short) is None


def test_the_page_needs_no_other_file_and_survives_hostile_text(tmp_path: Path) -> None:
    at = datetime(2024, 8, 20, tzinfo=UTC)
    result = SimulationResult(
        days=DAYS,
        events=[Event(at=at, kind="shift", text=""), Event(at=at, kind="alert", text="<script>alert(1)</script>")],
        recovery=measure_recovery(trajectories(DAYS), config=CONFIG),
        requests=100,
        request_seconds=2.0,
        seconds=3.0,
    )
    page = save(result, tmp_path).read_text(encoding="utf-8")
    assert "83%" in headline(result) and "data:image/png;base64," in page
    assert "<script" not in page and "http://" not in page and "https://" not in page
    assert SimulationResult.model_validate_json((tmp_path / "simulation.json").read_text(encoding="utf-8")) == result
