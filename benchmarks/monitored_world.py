"""A synthetic world with a served model: a reference, and days of predictions and feedback after it.

The model is the generator's truth before any drift, dulled by noise: like a trained ranker it knows users' tastes,
which no model on the features alone does, and it costs nothing to train.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feedrank import schema
from feedrank.config import MonitoringConfig
from feedrank.config.data import DriftScenario, GeneratorConfig
from feedrank.config.feed import Feed
from feedrank.data.generator import World, generate
from feedrank.features.offline import compute_features
from feedrank.monitoring.performance import auc_estimate
from feedrank.monitoring.reference import build_reference
from feedrank.monitoring.rows import Sources
from feedrank.tables import timestamps_us, write_partitioned

MODEL_VERSION = "v1.0.0"
TEST_DAYS = 7
DULLNESS = 0.5
"""Standard deviation of the noise on the logit of the truth."""
ANSWER_US = 2_000_000
"""An item is shown two seconds after its prediction."""


@dataclass(frozen=True)
class ServedWorld:
    """Where a world's reference and served traffic lie, and its rows for comparisons."""

    reference: Path
    sources: Sources
    train: pa.Table
    """Features of the training days."""
    served: pa.Table
    """Features of the served days."""
    scores: NDArray[np.float64]
    """Of the served rows."""
    test_scores: NDArray[np.float64]


def serve(
    generator: GeneratorConfig,
    *,
    first_served: date,
    drifts: tuple[DriftScenario, ...],
    config: MonitoringConfig,
    directory: Path,
) -> ServedWorld:
    """Generates a world, and writes its reference and the log and feedback from `first_served` on."""
    drifted = generator.model_copy(update={"drifts": drifts})
    interactions = pa.concat_tables(list(generate(drifted)))
    features = compute_features(interactions, feed=Feed())
    interactions = interactions.take(pa.array(np.argsort(timestamps_us(interactions), kind="stable")))
    scores = dulled_truth(generator, features)
    train = before(features, first_served - timedelta(days=TEST_DAYS))
    known = before(features, first_served)
    reference = directory / "reference"
    write_reference(
        features.slice(0, known), train=train, test_scores=scores[train:known], config=config, directory=reference
    )
    served = features.slice(known)
    sources = Sources(predictions=directory / "predictions", feedback=directory / "interactions")
    write_partitioned(prediction_log(served, scores=scores[known:]), sources.predictions)
    write_partitioned(interactions.slice(known), sources.feedback)
    return ServedWorld(reference, sources, features.slice(0, train), served, scores[known:], scores[train:known])


def write_reference(
    known: pa.Table, *, train: int, test_scores: NDArray[np.float64], config: MonitoringConfig, directory: Path
) -> None:
    """Writes the reference of the model; the first `train` of the known rows are its training split."""
    test = known.slice(train)
    build_reference(
        known.slice(0, train),
        test,
        test_scores,
        model_version=MODEL_VERSION,
        metrics={"auc": area(test_scores, test[schema.TARGET].to_numpy()), "log_loss": 0.0},
        feed=Feed(),
        config=config,
        directory=directory,
    )


def dulled_truth(generator: GeneratorConfig, features: pa.Table) -> NDArray[np.float64]:
    """The model's scores: true click probabilities of the world without drift, with noise."""
    devices = np.stack([features[name].to_numpy() for name in tuple(Feed().flags)]).argmax(axis=0)
    truth = World(generator).click_probability(
        features[schema.USER_ID].to_numpy(),
        features[schema.ITEM_ID].to_numpy(),
        timestamps_us(features),
        devices.astype(np.int8),
    )
    return dulled(truth, seed=generator.seed)


def dulled(truth: NDArray[np.float64], *, seed: int) -> NDArray[np.float64]:
    """Probabilities with noise on their logits."""
    logits = np.log(truth / (1 - truth)) + np.random.default_rng(seed).normal(0, DULLNESS, len(truth))
    return 1 / (1 + np.exp(-logits))


def prediction_log(
    features: pa.Table, *, scores: NDArray[np.float64], ranks: NDArray[np.int16] | None = None
) -> pa.Table:
    """A log (`Feed().log`) in which every row was predicted shortly before it was shown."""
    rows = features.num_rows
    rng = np.random.default_rng(0)
    columns = {
        schema.PREDICTION_ID: pa.array(np.arange(rows)).cast(pa.string()),
        schema.TIMESTAMP: pa.array(timestamps_us(features) - ANSWER_US).cast(schema.TIMESTAMP_TYPE),
        schema.RECEIVED_AT: pa.array(timestamps_us(features) - ANSWER_US).cast(schema.TIMESTAMP_TYPE),
        schema.USER_ID: features[schema.USER_ID],
        schema.ITEM_ID: features[schema.ITEM_ID],
        schema.SCORE: pa.array(scores.astype(np.float32)),
        schema.RANK: pa.array(np.ones(rows, dtype=np.int16) if ranks is None else ranks),
        schema.MODEL_VERSION: pa.array([MODEL_VERSION]).take(pa.array(np.zeros(rows, dtype=np.int64))),
        schema.LATENCY_MS: pa.array(rng.lognormal(1.0, 0.5, rows).astype(np.float32)),
        schema.FEATURES_STRUCT: pa.StructArray.from_arrays(
            [features[name].combine_chunks() for name in Feed().names], fields=list(Feed().fields)
        ),
    }
    return pa.table(columns, schema=Feed().log)


def before(features: pa.Table, day: date) -> int:
    """Number of rows before a day."""
    midnight = pa.scalar(datetime.combine(day, time(), tzinfo=UTC), type=schema.TIMESTAMP_TYPE)
    return int(pc.sum(pc.less(features[schema.TIMESTAMP], midnight)).as_py())


def area(scores: NDArray[np.float64], labels: NDArray[np.int8]) -> float:
    """Area under the ROC curve."""
    clusters = np.arange(len(labels))
    return auc_estimate(scores, labels.astype(np.float64), clusters=clusters, confidence=0.95).value or 0.5
