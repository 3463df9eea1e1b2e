"""Permutation importance: what the ranker loses when it can't see a feature (Breiman 2001, section 10)."""

import numpy as np
import pyarrow as pa

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.config.model import EvaluationConfig
from feedrank.evaluation.metrics import roc_auc
from feedrank.model.bundle import ModelBundle


def groups(feed: Feed) -> dict[str, tuple[str, ...]]:
    """What is permuted together: one-hot columns say one thing."""
    one_hot = {schema.DEVICE: tuple(feed.flags)} if feed.flags else {}
    others = {name: (name,) for name in feed.names if name not in feed.flags}
    return others | one_hot | {name: (name,) for name in (schema.USER_ID, schema.ITEM_ID)}


def permutation_importance(
    bundle: ModelBundle, test: pa.Table, *, config: EvaluationConfig, seed: int = 0
) -> dict[str, float]:
    """AUC lost when the column (or group of columns) is permuted over a sample of the test rows, the largest first."""
    rng = np.random.default_rng(seed)
    rows = min(test.num_rows, config.importance_max_rows)
    sample = test.take(pa.array(np.sort(rng.choice(test.num_rows, rows, replace=False))))
    targets = sample[schema.TARGET].to_numpy()
    whole = roc_auc(targets, bundle.score_table(sample))
    lost = {}
    for name, columns in groups(bundle.feed).items():
        order, permuted = pa.array(rng.permutation(rows)), sample
        for column in columns:
            index = sample.schema.get_field_index(column)
            permuted = permuted.set_column(index, sample.field(column), sample[column].take(order))
        lost[name] = whole - roc_auc(targets, bundle.score_table(permuted))
    return dict(sorted(lost.items(), key=lambda entry: -entry[1]))
