"""The synthetic world's truth, measured on a moderate size: what issue 3 and spec 2.2 ask of it."""

from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import roc_auc_score

from feedrank import schema
from feedrank.config.data import GeneratorConfig, WorldConfig
from feedrank.data.generator import World, generate
from feedrank.errors import ConfigError, DataError
from feedrank.tables import timestamps_us

CONFIG = GeneratorConfig(
    num_users=3_000, num_items=10_000, num_interactions=300_000, end_date=date(2024, 3, 30), seed=7
)


@dataclass(frozen=True)
class Sample:
    """A world and its impressions as arrays, each [rows]."""

    world: World
    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    devices: np.ndarray
    clicks: np.ndarray
    oracle: np.ndarray
    table: pa.Table


@pytest.fixture(scope="module")
def sample() -> Sample:
    table = pa.concat_tables(generate(CONFIG))
    world = World(CONFIG)
    users, items = table[schema.USER_ID].to_numpy(), table[schema.ITEM_ID].to_numpy()
    devices = pc.index_in(table[schema.DEVICE], value_set=pa.array(schema.DEVICES)).to_numpy().astype(np.int8)
    times = timestamps_us(table)
    clicks = table[schema.CLICK].to_numpy()
    oracle = world.click_probability(users, items, times, devices)
    return Sample(world, users, items, times, devices, clicks, oracle, table)


def test_click_rate_is_that_of_real_feeds(sample: Sample) -> None:
    assert 0.05 < sample.clicks.mean() < 0.20
    assert sample.clicks.mean() == pytest.approx(CONFIG.world.base_click_rate, rel=0.1)


def test_oracle_is_calibrated_in_every_decile(sample: Sample) -> None:
    for rows in np.array_split(np.argsort(sample.oracle), 10):
        chance = sample.oracle[rows]
        error = (sample.clicks[rows] - chance).sum() / np.sqrt((chance * (1 - chance)).sum())
        assert abs(error) < 4


def test_oracle_auc_is_realistic(sample: Sample) -> None:
    assert 0.75 < roc_auc_score(sample.clicks, sample.oracle) < 0.85


def test_quality_without_the_user_loses_at_least_30_percent_of_the_oracles_lift(sample: Sample) -> None:
    quality = roc_auc_score(sample.clicks, sample.world.quality_probability(sample.items, sample.times))
    oracle = roc_auc_score(sample.clicks, sample.oracle)
    assert quality > 0.55
    assert (quality - 0.5) / (oracle - 0.5) < 0.7


def test_taste_propensity_and_quality_each_rank_clicks(sample: Sample) -> None:
    rng = np.random.default_rng(0)
    strangers, others = rng.permutation(sample.users), rng.permutation(sample.items)
    world, oracle = sample.world, roc_auc_score(sample.clicks, sample.oracle)
    no_user = world.click_probability(strangers, sample.items, sample.times, sample.devices)
    no_item = world.click_probability(sample.users, others, sample.times, sample.devices)
    propensity = world.users.propensity[sample.users]
    additive = propensity + world.items.quality[sample.items]
    assert roc_auc_score(sample.clicks, no_user) < oracle - 0.1
    assert roc_auc_score(sample.clicks, no_item) < oracle - 0.1
    assert roc_auc_score(sample.clicks, propensity) > 0.58
    assert roc_auc_score(sample.clicks, additive) < oracle - 0.05


def test_popularity_is_zipf_like(sample: Sample) -> None:
    counts = np.sort(np.bincount(sample.items))[::-1][10:1_000]
    slope = np.polyfit(np.log(np.arange(11, 11 + len(counts))), np.log(counts), 1)[0]
    assert -1.3 < slope < -0.7


def test_most_users_have_few_events_and_activity_spans_orders_of_magnitude(sample: Sample) -> None:
    counts = np.bincount(sample.users, minlength=CONFIG.num_users)
    assert np.median(counts) < 0.5 * counts.mean()
    assert counts.max() > 50 * np.median(counts)


def test_most_late_impressions_concern_users_and_items_with_a_history(sample: Sample) -> None:
    early = np.arange(len(sample.users)) < 0.7 * len(sample.users)
    for ids in (sample.users, sample.items):
        history = np.bincount(ids[early], minlength=ids.max() + 1)
        assert (history[ids[~early]] >= 10).mean() > 0.6


def test_items_are_shown_only_once_they_exist_and_are_born_throughout(sample: Sample) -> None:
    birth = sample.world.item_birth_us
    assert (birth[sample.items] <= sample.times).all()
    start, end = sample.times[0], sample.times[-1]
    active = [len(sample.world.active_items(t)) for t in (start, (start + end) // 2, end)]
    assert active[0] == pytest.approx(0.6 * CONFIG.num_items, rel=0.05)
    assert active[0] < active[1] < active[2] < CONFIG.num_items


def test_age_lowers_an_items_click_probability_gently(sample: Sample) -> None:
    item = np.argmin(np.abs(sample.world.item_birth_us - sample.times[0]))
    days = np.array([0, 30, 60, 3_650]) * 86_400_000_000
    chance = sample.world.quality_probability(np.full(4, item), sample.world.item_birth_us[item] + days)
    assert (np.diff(chance) < 0).all()
    assert chance[-1] > 0.5 * chance[0]


def test_exposure_is_partly_personalised(sample: Sample) -> None:
    own = sample.world.users.topics[sample.users] == sample.world.items.topic[sample.items][:, None]
    assert 0.6 < own.any(axis=1).mean() < 0.9


def test_days_and_hours_have_their_rhythm(sample: Sample) -> None:
    hours = np.bincount((sample.times // 3_600_000_000) % 24, minlength=24)
    assert hours[20] > 5 * hours[3]
    weekend = sample.table[schema.DAY_OF_WEEK].to_numpy() >= 5
    weekend_share = 2 * 1.2 / (5 + 2 * 1.2)
    assert weekend.mean() == pytest.approx(weekend_share, abs=0.03)


def test_clicks_fall_with_the_position_in_a_session(sample: Sample) -> None:
    order = np.lexsort((sample.times, sample.users))
    gap = np.diff(sample.times[order], prepend=0)
    new = (np.diff(sample.users[order], prepend=-1) != 0) | (gap > 30 * 60 * 1e6)
    position = np.arange(len(order)) - np.flatnonzero(new)[np.cumsum(new) - 1] + 1
    ratio = sample.clicks[order] / sample.oracle[order].mean()
    first, tenth = ratio[position == 1].mean(), ratio[position == 10].mean()
    examination = sample.world.examination(np.array([1, 10]))
    assert tenth / first == pytest.approx(examination[1] / examination[0], rel=0.25)


def test_sessions_keep_their_device_and_users_their_main_device(sample: Sample) -> None:
    order = np.lexsort((sample.times, sample.users))
    near = (np.diff(sample.users[order]) == 0) & (np.diff(sample.times[order]) < 10 * 1e6)
    assert (np.diff(sample.devices[order])[near] == 0).mean() > 0.97
    shares = np.bincount(sample.devices) / len(sample.devices)
    assert shares == pytest.approx(CONFIG.world.device_shares, abs=0.08)


def test_device_and_hour_change_the_click_probability(sample: Sample) -> None:
    ids, times = np.zeros(3, dtype=np.int64), np.full(3, sample.times[0])
    by_device = sample.world.click_probability(ids, ids, times, np.array([0, 1, 2], dtype=np.int8))
    assert len(np.unique(by_device)) == 3
    hours = times + np.array([0, 8, 20]) * 3_600_000_000
    by_hour = sample.world.click_probability(ids, ids, hours, np.zeros(3, dtype=np.int8))
    assert by_hour[1] < by_hour[0] < by_hour[2]


def test_likes_shares_and_dwell_follow_taste(sample: Sample) -> None:
    clicked = sample.clicks == 1
    liked = sample.table[schema.LIKE].to_numpy()[clicked]
    shared = sample.table[schema.SHARE].to_numpy()[clicked]
    dwell = sample.table[schema.DWELL_TIME].to_numpy()[clicked]
    keen = sample.oracle[clicked] > np.median(sample.oracle[clicked])
    assert liked[keen].mean() > 1.2 * liked[~keen].mean()
    assert 0 < shared.mean() < liked.mean() < 0.5
    assert np.median(dwell[keen]) > 1.05 * np.median(dwell[~keen])


def test_oracle_is_mean_examination_times_relevance(sample: Sample) -> None:
    rows = slice(0, 100)
    relevance = sample.world.relevance(sample.users[rows], sample.items[rows], sample.times[rows], sample.devices[rows])
    assert sample.oracle[rows] == pytest.approx(sample.world.mean_examination * relevance)
    assert sample.world.examination(np.array([1, 2]))[0] == 1


@pytest.mark.parametrize(("user", "item"), [(-1, 0), (CONFIG.num_users, 0), (0, -1), (0, CONFIG.num_items)])
def test_unknown_ids_are_refused(sample: Sample, user: int, item: int) -> None:
    one = np.zeros(1, dtype=np.int64)
    with pytest.raises(DataError, match="the synthetic world has 0"):
        sample.world.click_probability(one + user, one + item, one, one.astype(np.int8))


def test_a_click_rate_that_position_bias_makes_impossible_is_refused() -> None:
    world = WorldConfig(base_click_rate=0.9, position_bias=1.0)
    with pytest.raises(ConfigError, match="base_click_rate"):
        World(GeneratorConfig(num_users=10, num_items=10, num_interactions=10, world=world))
