"""Pretrained embeddings: what one impression contributes to its own user and item can be taken out."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.small_data import split_features
from feedrank import schema
from feedrank.config.model import PretrainingConfig
from feedrank.evaluation.metrics import roc_auc
from feedrank.model.pretraining import co_engagement_factors

CONFIG = PretrainingConfig(rank=6)
USERS, ITEMS = 9, 7


@given(
    cells=st.lists(
        st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1), st.floats(0.125, 6, width=32)),
        min_size=30,
        max_size=80,
    )
)
def test_without_an_impression_its_user_is_the_sum_of_the_other_items_and_its_item_that_of_the_other_users(cells):
    users, items, counts = (np.array(values) for values in zip(*cells, strict=True))
    factors = co_engagement_factors(users, items, counts, shape=(USERS, ITEMS), dim=8, config=CONFIG, seed=1)
    scales = counts * factors.users.scales[users] * factors.items.scales[items]

    own = factors.without_own(users[:1], items[:1], counts[:1])

    for mine, others, vectors, found in (
        (users, items, factors.items.vectors, own[0]),
        (items, users, factors.users.vectors, own[1]),
    ):
        rest = np.flatnonzero(mine == mine[0])[1:]
        expected = (scales[rest, None] * vectors[others[rest]]).sum(0)
        expected /= np.linalg.norm(expected) + CONFIG.shrinkage
        np.testing.assert_allclose(found[0, : len(expected)], expected, atol=1e-2)
        assert not found[0, len(expected) :].any()


def test_the_only_impression_of_a_user_tells_nothing_of_itself():
    rng = np.random.default_rng(5)
    users = np.append(rng.integers(0, 20, 400), 20)
    items = np.append(rng.integers(0, 30, 400), 3)
    counts = np.ones(len(users))
    factors = co_engagement_factors(users, items, counts, shape=(21, 30), dim=8, config=CONFIG, seed=1)

    assert np.linalg.norm(factors.embeddings()[0][20]) > 0.5
    assert np.linalg.norm(factors.without_own(users[-1:], items[-1:], counts[-1:])[0]) < 0.01


def test_of_clicks_by_chance_a_training_row_sees_less_of_its_own():
    rng = np.random.default_rng(11)
    users, items = rng.integers(0, 100, 30_000), rng.integers(0, 300, 30_000)
    clicks = rng.random(30_000) < 0.1
    counts = 1.0 + 5.0 * clicks
    factors = co_engagement_factors(users, items, counts, shape=(100, 300), dim=8, config=CONFIG, seed=1)

    embeddings = factors.embeddings()
    with_it = roc_auc(clicks, (embeddings[0][users] * embeddings[1][items]).sum(1))
    without = roc_auc(clicks, np.multiply(*factors.without_own(users, items, counts)).sum(1))
    assert without - 0.5 < (with_it - 0.5) / 2


def test_without_its_own_impression_a_training_row_is_no_more_alike_than_a_later_row():
    train, validation, _ = split_features()
    ids = [np.unique(train[name].to_numpy()) for name in (schema.USER_ID, schema.ITEM_ID)]
    later = validation.filter(
        pa.array(np.isin(validation[schema.USER_ID], ids[0]) & np.isin(validation[schema.ITEM_ID], ids[1]))
    )
    rows = [
        [
            np.searchsorted(known, table[name].to_numpy())
            for name, known in zip((schema.USER_ID, schema.ITEM_ID), ids, strict=True)
        ]
        for table in (train, later)
    ]
    counts = 1.0 + 5.0 * train[schema.TARGET].to_numpy()
    factors = co_engagement_factors(
        *rows[0], counts, shape=(len(ids[0]), len(ids[1])), dim=16, config=PretrainingConfig(rank=8), seed=1
    )

    def likeness(users: np.ndarray, items: np.ndarray) -> float:
        return float((users * items).sum(1).mean())

    users, items = factors.embeddings()
    whole = likeness(users[rows[0][0]], items[rows[0][1]])
    unseen = likeness(users[rows[1][0]], items[rows[1][1]])
    assert whole > unseen + 0.05
    assert likeness(*factors.without_own(*rows[0], counts)) == pytest.approx(unseen, abs=0.01)
