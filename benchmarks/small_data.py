"""A small generated feed and its features, on which tests train and judge rankers."""

from collections.abc import Mapping
from datetime import date
from functools import cache

import pyarrow as pa

from feedrank.config.data import GeneratorConfig, SplitConfig
from feedrank.config.feed import Feed
from feedrank.config.model import ModelConfig, ModelType
from feedrank.data.generator import generate
from feedrank.data.split import split_by_time
from feedrank.features.offline import compute_features

GENERATOR = GeneratorConfig(
    num_users=300,
    num_items=500,
    num_interactions=20_000,
    start_date=date(2024, 3, 1),
    end_date=date(2024, 3, 30),
    seed=7,
)


@cache
def interactions() -> pa.Table:
    """The generated rows in time order."""
    return pa.concat_tables(generate(GENERATOR))


@cache
def split_features() -> tuple[pa.Table, pa.Table, pa.Table]:
    """The train, validation and test rows."""
    features = compute_features(interactions(), feed=Feed())
    return split_by_time(features, config=SplitConfig()).tables(features)


def small_model(model_type: ModelType = "two_tower", *, training: Mapping[str, object] | None = None) -> ModelConfig:
    """A ranker of some thousand weights; `training` changes how it is fitted."""
    return ModelConfig.model_validate(
        {
            "model_type": model_type,
            "embedding_dim": 16,
            "hidden_dims": (32, 16),
            "cross_hidden_dim": 32,
            "training": {"batch_size": 256, "epochs": 4, "pretraining": {"rank": 8}, **(training or {})},
        }
    )
