"""What is judged is what is served: the scorer with each night's snapshot gives the test rows' features and scores."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.small_data import small_model
from feedrank import schema, stages
from feedrank.config import Config
from feedrank.config.data import DataConfig, GeneratorConfig
from feedrank.config.feed import Feed
from feedrank.evaluation.evaluate import measure
from feedrank.features.aggregates import Floats
from feedrank.features.snapshot import take_snapshot
from feedrank.model.bundle import ModelBundle, feature_matrix, load_bundle
from feedrank.scoring import Scorer
from feedrank.tables import US_PER_DAY, read_partitioned, timestamps_us

WORLD = GeneratorConfig(num_users=600, num_items=1_500, num_interactions=60_000, end_date=date(2024, 2, 29))
CONFIG = Config(model=small_model(), data=DataConfig(generator=WORLD))


@dataclass(frozen=True)
class Served:
    """The test rows, and what the predictor would have made of them; [rows, features] and [rows]."""

    bundle: ModelBundle
    test: pa.Table
    features: Floats
    scores: Floats


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A ranker of the default world; each day of its test rows is ranked with the snapshot of that day's midnight."""
    folder = tmp_path_factory.mktemp("run")
    stages.generate_interactions(folder / "interactions", config=CONFIG.data.generator)
    stages.build_features(folder / "interactions", output=folder / "features", config=CONFIG)
    stages.train_ranker(folder / "features", output=folder / "model", config=CONFIG)
    bundle, test = load_bundle(folder / "model"), stages.load_features(folder / "features")[3]
    return Served(bundle, test, *rank_day_by_day(folder / "interactions", bundle, test))


def rank_day_by_day(interactions: Path, bundle: ModelBundle, test: pa.Table) -> tuple[Floats, Floats]:
    table, times = read_partitioned(interactions), timestamps_us(test)
    devices = np.stack([test[name].to_numpy() for name in tuple(Feed().flags)]).argmax(axis=0)
    rankings = []
    for day in np.unique(times // US_PER_DAY).tolist():
        midnight = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
        scorer = Scorer.build(bundle, take_snapshot(table, cutoff=midnight, feed=CONFIG.feed))
        for row in np.flatnonzero(times // US_PER_DAY == day).tolist():
            user, item = (test[name][row].as_py() for name in (schema.USER_ID, schema.ITEM_ID))
            rankings.append(scorer.rank(user, [item], time_us=int(times[row]), device=int(devices[row])))
    return np.concatenate([r.features() for r in rankings]), np.concatenate([r.scores for r in rankings])


def test_the_served_features_and_scores_are_those_that_the_ranker_is_judged_on(served: Served) -> None:
    np.testing.assert_allclose(served.features, feature_matrix(served.test, Feed()), rtol=2e-7, atol=0)
    np.testing.assert_allclose(served.scores, served.bundle.score_table(served.test), atol=1e-5)


def test_the_served_scores_are_click_rates(served: Served) -> None:
    metrics = measure(served.test, served.scores, config=CONFIG.model.evaluation)
    assert metrics.calibration_error <= 0.02
    assert served.scores.mean() == pytest.approx(served.test[schema.TARGET].to_numpy().mean(), rel=0.2)
