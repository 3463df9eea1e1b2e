"""What a ranker must beat: constant, random order, popularity, item CTR, and common models on the same features."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feedrank import schema
from feedrank.model.bundle import feature_matrix
from feedrank.model.inputs import input_indices, to_inputs

Scores = NDArray[np.float64]


def constant(train: pa.Table, test: pa.Table) -> Scores:
    """The training rows' click-through rate for every row."""
    return np.full(test.num_rows, train[schema.TARGET].to_numpy().mean())


def random_order(train: pa.Table, test: pa.Table) -> Scores:
    """Seeded noise around the training rows' click-through rate, to rank at random."""
    return constant(train, test) * np.random.default_rng(0).uniform(0.999, 1.001, test.num_rows)


def popularity(train: pa.Table, test: pa.Table) -> Scores:
    """Click probability by `item_popularity` alone (Platt scaling on the training rows)."""
    return _logistic(train, test, (schema.ITEM_POPULARITY,))


def item_ctr(_: pa.Table, test: pa.Table) -> Scores:
    """The item's smoothed click-through rate so far."""
    return test[schema.ITEM_CTR].to_numpy().astype(np.float64)


def logistic_regression(train: pa.Table, test: pa.Table) -> Scores:
    """Logistic regression on all features."""
    return _logistic(train, test, schema.FEATURES)


def gradient_boosted_trees(train: pa.Table, test: pa.Table) -> Scores:
    """scikit-learn's histogram gradient boosting on all features, stopped early on a part of the training rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(max_iter=300, learning_rate=0.06, early_stopping=True, random_state=0)
    model.fit(feature_matrix(train), train[schema.TARGET].to_numpy())
    scores: Scores = model.predict_proba(feature_matrix(test))[:, 1]
    return scores


def _logistic(train: pa.Table, test: pa.Table, features: tuple[str, ...]) -> Scores:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    columns = input_indices(features)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    model.fit(to_inputs(feature_matrix(train))[:, columns], train[schema.TARGET].to_numpy())
    scores: Scores = model.predict_proba(to_inputs(feature_matrix(test))[:, columns])[:, 1]
    return scores


BASELINES: dict[str, Callable[[pa.Table, pa.Table], Scores]] = {
    "constant": constant,
    "random": random_order,
    "popularity": popularity,
    "item_ctr": item_ctr,
    "logistic_regression": logistic_regression,
    "gradient_boosted_trees": gradient_boosted_trees,
}
"""Each takes the training and the test rows (`schema.FEATURE_TABLE`) and gives click probabilities [test rows]."""
