"""Each drift kind changes what it should after its start date, and nothing before."""

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from feedrank import schema
from feedrank.config.data import DriftKind, DriftScenario, GeneratorConfig
from feedrank.data.generator import World, generate
from feedrank.errors import ConfigError
from feedrank.tables import US_PER_DAY, timestamps_us

START = date(2024, 1, 21)
CONFIG = GeneratorConfig(num_users=1_000, num_items=3_000, num_interactions=90_000, end_date=date(2024, 1, 30), seed=3)
KINDS: tuple[DriftKind, ...] = (
    "taste_shift",
    "new_items",
    "device_mix",
    "popularity_shock",
    "broken_dwell_sensor",
    "label_delay",
)
FIRST_DRIFTED_US = int(np.datetime64(START, "us").astype(np.int64))


def drifted(kind: DriftKind, *, strength: float = 1.0, ramp_days: int = 0) -> GeneratorConfig:
    scenario = DriftScenario(kind=kind, start_date=START, strength=strength, ramp_days=ramp_days)
    return CONFIG.model_copy(update={"drifts": (scenario,)})


def rows(config: GeneratorConfig) -> pa.Table:
    return pa.concat_tables(generate(config))


def after(table: pa.Table) -> pa.Table:
    return table.filter(pa.array(timestamps_us(table) >= FIRST_DRIFTED_US))


def before(table: pa.Table) -> pa.Table:
    return table.filter(pa.array(timestamps_us(table) < FIRST_DRIFTED_US))


def oracle(world: World, table: pa.Table) -> np.ndarray:
    devices = pc.index_in(table[schema.DEVICE], value_set=pa.array(schema.DEVICES)).to_numpy()
    users, items = table[schema.USER_ID].to_numpy(), table[schema.ITEM_ID].to_numpy()
    return world.click_probability(users, items, timestamps_us(table), devices.astype(np.int8))


@pytest.fixture(scope="module")
def plain() -> pa.Table:
    return rows(CONFIG)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ramp_days", [0, 5])
def test_only_rows_from_the_start_date_on_differ(plain: pa.Table, kind: DriftKind, ramp_days: int) -> None:
    table = rows(drifted(kind, ramp_days=ramp_days))
    assert before(table).equals(before(plain))
    first_day = after(table).slice(0, 2_000)
    assert not first_day.equals(after(plain).slice(0, 2_000))
    assert table.num_rows == plain.num_rows


@pytest.mark.parametrize("kind", KINDS[:4])
def test_oracle_stays_calibrated_after_a_change_of_the_truth(kind: DriftKind) -> None:
    table = after(rows(drifted(kind)))
    chance, clicks = oracle(World(drifted(kind)), table), table[schema.CLICK].to_numpy()
    for part in np.array_split(np.argsort(chance), 5):
        error = (clicks[part] - chance[part]).sum() / np.sqrt((chance[part] * (1 - chance[part])).sum())
        assert abs(error) < 4


def test_taste_shift_makes_the_old_taste_wrong(plain: pa.Table) -> None:
    table, old, new = rows(drifted("taste_shift")), World(CONFIG), World(drifted("taste_shift"))
    clicks = after(table)[schema.CLICK].to_numpy()
    stale = roc_auc_score(clicks, oracle(old, after(table)))
    assert stale < roc_auc_score(clicks, oracle(new, after(table))) - 0.08
    assert np.array_equal(oracle(new, before(plain)), oracle(old, before(plain)))
    first_week = after(table).slice(0, 15_000)[schema.CLICK].to_numpy()
    assert first_week.mean() < 0.8 * before(plain)[schema.CLICK].to_numpy().mean()


def test_strength_of_taste_shift_is_the_share_of_users_who_move() -> None:
    config = drifted("taste_shift", strength=0.3)
    users = np.arange(CONFIG.num_users)
    items, devices = np.zeros_like(users), np.zeros(len(users), dtype=np.int8)
    times = np.full(len(users), FIRST_DRIFTED_US)
    old, new = (World(c).click_probability(users, items, times, devices) for c in (CONFIG, config))
    assert (old != new).mean() == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_new_items_take_half_the_exposure(plain: pa.Table, strength: float) -> None:
    config = drifted("new_items", strength=strength)
    table = rows(config)
    world = World(config)
    fresh = np.flatnonzero(world.item_birth_us != World(CONFIG).item_birth_us)
    assert not np.isin(plain[schema.ITEM_ID].to_numpy(), fresh).any()
    share = np.isin(after(table)[schema.ITEM_ID].to_numpy(), fresh).mean()
    assert share == pytest.approx(0.5 * strength, abs=0.06)
    assert np.isin(fresh, world.active_items(FIRST_DRIFTED_US)).all()
    assert not np.isin(fresh, world.active_items(FIRST_DRIFTED_US - 1)).any()


def test_new_items_need_enough_items() -> None:
    config = drifted("new_items").model_copy(update={"num_items": 49})
    with pytest.raises(ConfigError, match="num_items of at least 50, got 49"):
        World(config)


def test_device_mix_moves_to_tablets(plain: pa.Table) -> None:
    def tablets(table: pa.Table) -> float:
        return float((after(table)[schema.DEVICE].to_numpy() == "tablet").mean())

    assert tablets(plain) < 0.2
    assert tablets(rows(drifted("device_mix"))) == pytest.approx(0.6, abs=0.05)


def test_popularity_shock_concentrates_exposure_on_known_items(plain: pa.Table) -> None:
    def top_share(table: pa.Table) -> float:
        counts = np.sort(np.bincount(after(table)[schema.ITEM_ID].to_numpy()))[::-1]
        return float(counts[:20].sum() / counts.sum())

    table = rows(drifted("popularity_shock"))
    assert top_share(plain) < 0.25
    assert top_share(table) > 0.45
    top = np.argmax(np.bincount(after(table)[schema.ITEM_ID].to_numpy()))
    assert top in World(CONFIG).active_items(FIRST_DRIFTED_US)


def test_broken_dwell_sensor_records_milliseconds_and_nothing_else_changes(plain: pa.Table) -> None:
    table, expected = after(rows(drifted("broken_dwell_sensor"))), after(plain)
    dwell = table[schema.DWELL_TIME].to_numpy()
    assert dwell == pytest.approx(1_000 * expected[schema.DWELL_TIME].to_numpy())
    clicked = table[schema.CLICK].to_numpy() == 1
    assert (dwell[clicked] > schema.MAX_DWELL_SECONDS).all()
    assert table.drop_columns([schema.DWELL_TIME]).equals(expected.drop_columns([schema.DWELL_TIME]))


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_label_delay_hides_its_share_of_the_clicks(plain: pa.Table, strength: float) -> None:
    table, expected = after(rows(drifted("label_delay", strength=strength))), after(plain)
    recorded, true = (t[schema.CLICK].to_numpy() for t in (table, expected))
    assert (recorded <= true).all()
    assert recorded.sum() / true.sum() == pytest.approx(1 - strength, abs=0.04)
    hidden = recorded < true
    for column in (schema.LIKE, schema.SHARE, schema.DWELL_TIME):
        assert (table[column].to_numpy()[hidden] == 0).all()
        assert np.array_equal(table[column].to_numpy()[~hidden], expected[column].to_numpy()[~hidden])
    assert table[schema.ITEM_ID].equals(expected[schema.ITEM_ID])


def test_a_ramp_grows_day_by_day_to_the_full_strength() -> None:
    table = after(rows(drifted("broken_dwell_sensor", ramp_days=4)))
    dwell = table[schema.DWELL_TIME].to_numpy()
    days = (timestamps_us(table) - FIRST_DRIFTED_US) // US_PER_DAY
    broken = [(dwell[(days == day) & (table[schema.CLICK].to_numpy() == 1)] >= 1_000).mean() for day in range(7)]
    assert broken == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0], abs=0.08)


def test_scenarios_combine_and_may_repeat() -> None:
    scenarios = tuple(DriftScenario(kind=kind, start_date=START) for kind in (*KINDS, *KINDS))
    table = rows(CONFIG.model_copy(update={"drifts": scenarios}))
    assert table.num_rows == CONFIG.num_interactions


@pytest.mark.parametrize("strength", [0.0, 1.5])
def test_a_strength_outside_0_to_1_is_refused(strength: float) -> None:
    with pytest.raises(ValidationError, match="strength"):
        DriftScenario(kind="taste_shift", start_date=START, strength=strength)
