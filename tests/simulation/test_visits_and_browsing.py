"""Visits, browsing, the audience and the policies that need no predictor."""

from datetime import date

import numpy as np
import pytest

from feedrank import schema
from feedrank.config.simulation import AudienceConfig, SimulationConfig
from feedrank.data.generator import World
from feedrank.simulation.audience import Audience
from feedrank.simulation.browsing import browse, relevance, to_interactions
from feedrank.simulation.policies import (
    OraclePolicy,
    PopularityPolicy,
    RandomPolicy,
    explore,
    order_of,
)
from feedrank.simulation.visits import Visits, draw_visits
from feedrank.tables import US_PER_DAY

SIMULATION = SimulationConfig(num_users=300, num_items=400, history_days=10, calm_days=2, shifted_days=4)
AUDIENCE = AudienceConfig(visits_per_day=400, candidates=30)


@pytest.fixture(scope="module")
def world() -> World:
    return World(SIMULATION.generator(shift_day=SIMULATION.shift_day))


@pytest.fixture(scope="module")
def visits(world: World) -> Visits:
    return draw_visits(world, day=3, config=AUDIENCE)


def as_shown(visits: Visits) -> np.ndarray:
    return np.tile(np.arange(AUDIENCE.candidates), (len(visits), 1))


def test_a_day_is_the_same_whenever_it_is_drawn(world: World, visits: Visits) -> None:
    again = draw_visits(world, day=3, config=AUDIENCE)
    assert (again.candidates == visits.candidates).all() and (again.user_ids == visits.user_ids).all()
    assert (again.luck.click == visits.luck.click).all()
    assert (draw_visits(world, day=4, config=AUDIENCE).user_ids != visits.user_ids).any()


def test_candidates_are_distinct_and_exist_on_that_day(world: World, visits: Visits) -> None:
    assert all(len(set(row)) == AUDIENCE.candidates for row in visits.candidates.tolist())
    start_us = world.start_us + 3 * US_PER_DAY
    assert (world.item_birth_us[visits.candidates] <= start_us).all()
    assert (np.diff(visits.times_us) >= 0).all()
    assert (visits.times_us >= start_us).all() and (visits.times_us < start_us + US_PER_DAY).all()


def test_impressions_follow_the_order_from_the_top_and_like_needs_a_click(world: World, visits: Visits) -> None:
    order = OraclePolicy(world).rank(visits)
    shown = browse(world, visits, order=order, config=AUDIENCE)
    lengths = np.bincount(shown.visits, minlength=len(visits))
    assert lengths.min() >= 1 and lengths.max() <= AUDIENCE.candidates
    first = np.flatnonzero(np.diff(shown.visits, prepend=-1))
    assert (shown.items[first] == visits.candidates[np.arange(len(visits)), order[:, 0]]).all()
    assert (shown.engagement.like <= shown.click).all() and (shown.engagement.share <= shown.click).all()
    assert shown.clicks_per_visit.sum() == shown.click.sum()


def test_the_click_rate_at_the_top_is_the_true_relevance(world: World) -> None:
    """Position 1 is always examined, so its clicks are draws of the relevance."""
    days = [draw_visits(world, day=day, config=AUDIENCE) for day in range(20)]
    clicks, expected = [], []
    for visits in days:
        shown = browse(world, visits, order=as_shown(visits), config=AUDIENCE)
        clicks.append(shown.click[np.flatnonzero(np.diff(shown.visits, prepend=-1))])
        expected.append(relevance(world, visits)[:, 0])
    p = np.concatenate(expected)
    deviation = np.sqrt((p * (1 - p)).sum())
    assert abs(np.concatenate(clicks).sum() - p.sum()) < 4 * deviation


def test_a_click_makes_the_visit_longer(world: World, visits: Visits) -> None:
    patient = browse(
        world, visits, order=as_shown(visits), config=AUDIENCE.model_copy(update={"leave_after_click": 0.1})
    )
    restless = browse(
        world, visits, order=as_shown(visits), config=AUDIENCE.model_copy(update={"leave_after_click": 1.0})
    )
    assert len(patient.items) > len(restless.items)


def test_interactions_are_of_the_schema_and_within_the_day(world: World, visits: Visits) -> None:
    shown = browse(world, visits, order=as_shown(visits), config=AUDIENCE)
    table = to_interactions(visits, shown, name="loop")
    assert table.schema == schema.INTERACTIONS
    assert len(set(table[schema.INTERACTION_ID].to_pylist())) == table.num_rows
    assert {t.date() for t in table[schema.TIMESTAMP].to_pylist()} == {date(2024, 8, 8)}


def test_policies_are_ordered_as_their_knowledge_is(world: World) -> None:
    popularity = PopularityPolicy(num_items=SIMULATION.num_items)
    rates = {}
    for name, policy in {
        "random": RandomPolicy(world),
        "popularity": popularity,
        "oracle": OraclePolicy(world),
    }.items():
        clicks = impressions = 0
        for day in range(12):
            visits = draw_visits(world, day=day, config=AUDIENCE)
            shown = browse(world, visits, order=policy.rank(visits), config=AUDIENCE)
            policy.learn(to_interactions(visits, shown, name=name))
            clicks, impressions = clicks + shown.click.sum(), impressions + len(shown.items)
        rates[name] = clicks / impressions
    assert rates["random"] < rates["popularity"] < rates["oracle"]


def test_bored_users_come_less_often_and_content_ones_stay(visits: Visits) -> None:
    audience = Audience(num_users=SIMULATION.num_users, config=AUDIENCE)
    assert len(audience.who_comes(visits)) == len(visits)
    bored, content = audience.copy(), audience.copy()
    for _ in range(5):
        bored.remember(visits, clicks_per_visit=np.zeros(len(visits), dtype=np.int64))
        content.remember(visits, clicks_per_visit=np.ones(len(visits), dtype=np.int64))
    assert len(bored.who_comes(visits)) < 0.8 * len(visits)
    assert len(content.who_comes(visits)) == len(visits)
    assert (audience.satisfaction == 1).all()


def test_exploration_moves_about_the_share_and_keeps_every_candidate(visits: Visits) -> None:
    order = as_shown(visits)
    moved = explore(order, visits, share=0.2, depth=10)
    assert (np.sort(moved, axis=1) == order).all()
    assert (explore(order, visits, share=0.0, depth=10) == order).all()
    from_below = (moved[:, :10] >= 12).mean()
    assert 0.1 < from_below < 0.4


def test_order_of_finds_the_columns(visits: Visits) -> None:
    rng = np.random.default_rng(0)
    order = rng.permuted(as_shown(visits), axis=1)
    ranked = np.take_along_axis(visits.candidates, order, axis=1)
    assert (order_of(visits.candidates, ranked) == order).all()
