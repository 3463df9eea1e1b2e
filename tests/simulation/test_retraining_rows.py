"""Which rows the loop's retraining learns from."""

import numpy as np
import pytest

from feedrank import schema
from feedrank.config import Config
from feedrank.config.monitoring import MonitoringConfig, RetrainingConfig
from feedrank.config.simulation import AudienceConfig, SimulationConfig
from feedrank.data.generator import World
from feedrank.data.split import load_split
from feedrank.simulation.audience import Audience
from feedrank.simulation.policies import RandomPolicy
from feedrank.simulation.retraining import write_training_rows
from feedrank.simulation.trajectory import Trajectory, midnight
from feedrank.simulation.visits import draw_visits
from feedrank.tables import read_partitioned, timestamps_us

DAYS, RECENT = 12, 4
SIMULATION = SimulationConfig(num_users=100, num_items=150, history_days=DAYS, calm_days=1, shifted_days=1)


@pytest.fixture(scope="module")
def platform() -> Trajectory:
    world = World(SIMULATION.generator(shift_day=SIMULATION.shift_day))
    audience = AudienceConfig(visits_per_day=60, candidates=12)
    trajectory = Trajectory(
        "random",
        RandomPolicy(world),
        world=world,
        audience=Audience(num_users=100, config=audience),
        history=[],
        explores=False,
        config=audience,
    )
    for day in range(DAYS):
        trajectory.play(draw_visits(world, day=day, config=audience))
    return trajectory


def test_a_retraining_learns_from_recent_days_and_a_replay_of_the_same_users(platform: Trajectory, tmp_path) -> None:
    monitoring = MonitoringConfig(retraining=RetrainingConfig(recent_days=RECENT, replay_share=0.5))
    now = midnight(platform.world, DAYS)
    write_training_rows(platform.interactions(), output=tmp_path / "f", now=now, config=Config(monitoring=monitoring))
    rows = read_partitioned(tmp_path / "f")
    recent = timestamps_us(rows) >= midnight(platform.world, DAYS - RECENT).timestamp() * 1e6
    assert 0.2 < 1 - recent.mean() < 0.6
    users = rows[schema.USER_ID].to_numpy()
    assert np.isin(users[~recent], users[recent]).any()


def test_a_first_model_learns_from_all_rows_and_is_judged_on_the_last_share(platform: Trajectory, tmp_path) -> None:
    config, now = Config(), midnight(platform.world, DAYS)
    write_training_rows(platform.interactions(), output=tmp_path / "f", now=now, config=config, first=True)
    rows, split = read_partitioned(tmp_path / "f").num_rows, load_split(tmp_path / "f")
    assert rows == platform.interactions().num_rows
    assert split.test.rows / rows == pytest.approx(config.data.split.test, abs=0.01)
