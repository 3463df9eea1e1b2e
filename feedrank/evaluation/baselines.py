"""What a ranker must beat: constant, random order, popularity, item CTR, and common models on the same features."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.features.forms import Count, Rate
from feedrank.model.bundle import feature_matrix
from feedrank.model.inputs import inputs_of

Scores = NDArray[np.float64]


def constant(train: pa.Table, test: pa.Table, feed: Feed) -> Scores:
    """The training rows' click-through rate for every row."""
    return np.full(test.num_rows, train[schema.TARGET].to_numpy().mean())


def random_order(train: pa.Table, test: pa.Table, feed: Feed) -> Scores:
    """Seeded noise around the training rows' click-through rate, to rank at random."""
    return constant(train, test, feed) * np.random.default_rng(0).uniform(0.999, 1.001, test.num_rows)


def popularity(train: pa.Table, test: pa.Table, feed: Feed) -> Scores | None:
    """Click probability by a count of the item's impressions alone (Platt scaling on the training rows)."""
    counts = feed.chosen(lambda form: isinstance(form, Count) and form.per == ("item",) and form.count == "impression")
    return _logistic(train, test, feed, counts[:1]) if counts else None


def item_ctr(_: pa.Table, test: pa.Table, feed: Feed) -> Scores | None:
    """The item's smoothed click-through rate so far."""
    rates = feed.chosen(lambda form: isinstance(form, Rate) and form.per == ("item",) and form.rate == "click")
    return test[rates[0]].to_numpy().astype(np.float64) if rates else None


def logistic_regression(train: pa.Table, test: pa.Table, feed: Feed) -> Scores:
    """Logistic regression on all features."""
    return _logistic(train, test, feed, feed.names)


def gradient_boosted_trees(train: pa.Table, test: pa.Table, feed: Feed) -> Scores:
    """scikit-learn's histogram gradient boosting on all features, stopped early on a part of the training rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(max_iter=300, learning_rate=0.06, early_stopping=True, random_state=0)
    model.fit(feature_matrix(train, feed), train[schema.TARGET].to_numpy())
    scores: Scores = model.predict_proba(feature_matrix(test, feed))[:, 1]
    return scores


def _logistic(train: pa.Table, test: pa.Table, feed: Feed, features: tuple[str, ...]) -> Scores:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    inputs = inputs_of(feed)
    known, asked = (inputs.of(feature_matrix(rows, feed))[:, inputs.indices(features)] for rows in (train, test))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    model.fit(known, train[schema.TARGET].to_numpy())
    scores: Scores = model.predict_proba(asked)[:, 1]
    return scores


BASELINES: dict[str, Callable[[pa.Table, pa.Table, Feed], Scores | None]] = {
    "constant": constant,
    "random": random_order,
    "popularity": popularity,
    "item_ctr": item_ctr,
    "logistic_regression": logistic_regression,
    "gradient_boosted_trees": gradient_boosted_trees,
}
"""Each takes the training and the test rows (`Feed.table`) and gives click probabilities [test rows]; None if no
declared feature says what it goes by."""
