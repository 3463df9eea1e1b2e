"""The online scorer equals the plain definitions: features to float32, scores to 1e-5, for both model types."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.predict_bundle import END, Size, write_random_bundle
from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.config.model import ModelConfig
from feedrank.features.online import online_features
from feedrank.model.bundle import ITEM_IDS, USER_IDS, ModelBundle, load_bundle
from feedrank.scoring import Ranking, Scorer
from feedrank.scoring.index import IdIndex

SIZE = Size(users=40, items=60, interactions=3_000)
END_US = round(END.timestamp() * 1_000_000)
DAY_US = 86_400_000_000
CONFIGS = [
    ModelConfig(model_type="two_tower"),
    ModelConfig(model_type="deep_mlp"),
    ModelConfig(model_type="two_tower", embedding_dim=5, hidden_dims=(5,), cross_hidden_dim=3),
    ModelConfig(model_type="deep_mlp", embedding_dim=5, hidden_dims=(9, 8, 7)),
    ModelConfig(embedding_dim=5, user_tower_dims=(7, 5), item_tower_dims=(6, 8, 5), cross_hidden_dim=3),
]


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda c: f"{c.model_type}-{len(c.hidden_dims)}")
def bundle(request, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return load_bundle(
        write_random_bundle(tmp_path_factory.mktemp("bundle") / "model", config=request.param, size=SIZE)
    )


@pytest.fixture(scope="module")
def scorer(bundle: ModelBundle) -> Scorer:
    return Scorer.build(bundle, bundle.snapshot)


def table_of(ranking: Ranking, features: np.ndarray) -> pa.Table:
    columns = {name: features[:, i] for i, name in enumerate(Feed().names)}
    return pa.table(
        {schema.USER_ID: np.full(len(features), ranking.user_id), schema.ITEM_ID: ranking.item_ids, **columns}
    )


requests = st.fixed_dictionaries(
    {
        "user_id": st.integers(0, 50),
        "item_ids": st.lists(st.integers(0, 80), min_size=1, max_size=30, unique=True),
        "time_us": st.one_of(st.integers(0, DAY_US // 2), st.integers(0, 400 * DAY_US)).map(lambda us: END_US + us),
        "device": st.integers(0, 2),
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(query=requests)
def test_features_and_scores_equal_the_definitions(bundle, scorer, query):
    ranking = scorer.rank(**query)
    expected = online_features(bundle.snapshot, **(query | {"item_ids": ranking.item_ids}))
    np.testing.assert_allclose(ranking.features(), expected, rtol=2e-7, atol=0)
    np.testing.assert_allclose(ranking.scores, bundle.score_table(table_of(ranking, expected)), atol=1e-5)
    assert sorted(ranking.item_ids) == sorted(query["item_ids"])
    assert (np.diff(ranking.scores) <= 0).all()


def test_a_time_before_the_cut_off_changes_only_hour_and_weekday(scorer):
    before, at = (scorer.rank(3, [2], time_us=t, device=0) for t in (END_US - 200 * DAY_US, END_US))
    changed = {name for i, name in enumerate(Feed().names) if before.features()[0, i] != at.features()[0, i]}
    assert changed <= {schema.HOUR_OF_DAY, schema.DAY_OF_WEEK}
    assert np.isfinite(before.scores).all()


def test_unknown_ids_are_scored_and_counted(scorer):
    ranking = scorer.rank(2**63 - 1, [1, 10**12, 2**62], time_us=END_US)
    assert ranking.unknown_user
    assert (ranking.unknown_items, ranking.unseen_items) == (0, 2), "the snapshot does not know them, either"
    assert np.isfinite(ranking.scores).all()
    known = scorer.rank(3, [1], time_us=END_US)
    assert not known.unknown_user
    assert (known.unknown_items, known.unseen_items) == (0, 0)


def test_items_that_are_newer_than_the_model_are_unknown(bundle):
    """The nightly snapshot knows every item that was shown, so only the embeddings tell a stale model."""
    kept = {USER_IDS: bundle.arrays[USER_IDS][:2], ITEM_IDS: bundle.arrays[ITEM_IDS][:3]}
    stale = dataclasses.replace(bundle, arrays=bundle.arrays | kept)
    newer = bundle.arrays[ITEM_IDS][3:8].tolist()
    known = kept[ITEM_IDS].tolist()
    ranking = Scorer.build(stale, bundle.snapshot).rank(
        int(bundle.arrays[USER_IDS][2]), [*known, *newer, 10**12], time_us=END_US
    )
    assert (ranking.unknown_user, ranking.unknown_items, ranking.unseen_items) == (True, 5, 1)


def test_ties_keep_the_order_of_the_request(scorer):
    ranking = scorer.rank(1, [10**9 + 2, 10**9 + 1, 10**9 + 3], time_us=END_US)
    assert ranking.item_ids.tolist() == [10**9 + 2, 10**9 + 1, 10**9 + 3]


@given(st.lists(st.integers(0, 10**15), unique=True), st.lists(st.integers(-5, 10**15), min_size=1))
def test_an_index_finds_known_ids_and_sends_others_to_the_last_row(known, asked):
    index = IdIndex.union(np.array(known, dtype=np.int64))
    asked = [*asked, *known[:3]]
    expected = [sorted(known).index(i) if i in set(known) else len(known) for i in asked]
    assert index.rows(np.array(asked, dtype=np.int64)).tolist() == expected


def test_dense_and_sparse_ids_are_indexed_alike():
    dense = IdIndex(np.arange(0, 100, 2))
    sparse = IdIndex(np.append(np.arange(0, 100, 2), 10**12))
    asked = np.array([0, 1, 2, 97, 98, 99, 10**6])
    assert dense._direct is not None
    assert sparse._direct is None
    assert np.where(sparse.rows(asked) == 51, 50, sparse.rows(asked)).tolist() == dense.rows(asked).tolist()
