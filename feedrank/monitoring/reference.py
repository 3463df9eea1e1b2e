"""The reference of a model: a sample of its features and its test-split scores, saved inside its bundle.

The rows were shown by an earlier policy, so they say nothing of what this model shows (see `own_days.py`).
The feature sample is drawn from the latest days of the rows that the model was trained and judged on, not from all of
them: user and item histories grow with time, so months-old rows differ from today's without any drift. It holds one row
per user and window length (see `sampling.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from feedrank import schema
from feedrank.config.feed import Feed, of_constants
from feedrank.config.monitoring import MonitoringConfig
from feedrank.errors import DataError
from feedrank.monitoring import psi
from feedrank.monitoring.sampling import drift_sample
from feedrank.tables import COMPRESSION, read_parquet, timestamps_us

FEATURES_FILE, SCORES_FILE, INFO_FILE = "features.parquet", "scores.parquet", "reference.json"
SEED = 0


def feature_sample(feed: Feed) -> pa.Schema:
    """Of the rows that drift tests compare."""
    return pa.schema([feed.table.field(name) for name in (schema.USER_ID, schema.TIMESTAMP, *feed.names)])


def score_sample(feed: Feed) -> pa.Schema:
    """Of the rows whose outcome is known, with what segments go by."""
    keys = [feed.table.field(name) for name in (schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.TARGET)]
    flags = [feed.table.field(name) for name in feed.flags]
    return pa.schema([*keys, pa.field(schema.SCORE, pa.float32()), *flags])


class ReferenceInfo(BaseModel):
    """`reference.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model_version: str
    feature_fingerprint: str
    """Of the columns; the constants are those of the bundle around it, whose predictions alone it is compared with."""
    metrics: dict[str, float]
    """Of the test split; `auc` and `log_loss` are always there."""
    label_rate: float
    """Click-through rate of the test split."""
    history_start: datetime
    """First event behind the features; cumulative features are compared per day since then."""
    end: datetime
    """Last event of the reference."""
    score_edges: list[float]
    """Inner edges of the score bins; the outer bins are open."""
    score_shares: list[float]
    score_bin_rows: int
    """Independent rows behind the shares."""
    train_rows: int
    test_rows: int
    feature_rows: int
    score_rows: int
    feed: Feed
    """The features that the model was trained on."""
    feed_recorded: bool = True
    """False for a release that recorded no constants: whether features were served right can't be known."""

    @model_validator(mode="before")
    @classmethod
    def _upgraded(cls, stored: Any) -> Any:
        """Releases without a declaration stored the constants of the features that were in their code, or not even."""
        if isinstance(stored, dict) and "feed" not in stored:
            constants = stored.get("feature_config")
            others = {name: value for name, value in stored.items() if name != "feature_config"}
            feed = Feed() if constants is None else of_constants(constants)
            return others | {"feed": feed, "feed_recorded": constants is not None}
        return stored


@dataclass(frozen=True)
class Reference:
    """A model's reference as read from its bundle."""

    info: ReferenceInfo
    features: pa.Table
    """Columns of `feature_sample`."""
    scores: pa.Table
    """Columns of `score_sample`."""


def build_reference(
    earlier: pa.Table,
    test: pa.Table,
    test_scores: NDArray[np.floating[Any]],
    *,
    model_version: str,
    metrics: Mapping[str, float],
    feed: Feed,
    config: MonitoringConfig,
    directory: Path,
) -> ReferenceInfo:
    """Writes the reference of a model to `directory`, usually `reference` in a bundle that is being written.

    Args:
        earlier: `Feed.table` of all rows before the test split.
        test: `Feed.table` of the test split.
        test_scores: the model's click probabilities of the test rows, shape [test rows].
        model_version: as written to the prediction log.
        metrics: of the test split; `auc` and `log_loss` are needed.
        feed: the features of both splits.
        config: the monitoring configuration.
        directory: is made when it is missing.

    Raises:
        DataError: an empty split, scores that don't fit the test rows or aren't finite, a missing metric.
    """
    _check_inputs(earlier, test, test_scores, metrics)
    sample = _feature_sample(earlier, test, feed, config)
    scores, bins = _score_sample(test, test_scores, feed, config)
    info = ReferenceInfo(
        model_version=model_version,
        feature_fingerprint=feed.column_fingerprint,
        metrics={name: float(value) for name, value in metrics.items()},
        label_rate=float(test[schema.TARGET].to_numpy().mean()),
        history_start=_to_datetime(timestamps_us(earlier).min()),
        end=_to_datetime(timestamps_us(test).max()),
        score_edges=bins.edges.tolist(),
        score_shares=bins.shares.tolist(),
        score_bin_rows=bins.rows,
        train_rows=earlier.num_rows,
        test_rows=test.num_rows,
        feature_rows=sample.num_rows,
        score_rows=scores.num_rows,
        feed=feed,
    )
    # Plain writes: the bundle around it is written aside and renamed as a whole.
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(sample, directory / FEATURES_FILE, compression=COMPRESSION)
    pq.write_table(scores, directory / SCORES_FILE, compression=COMPRESSION)
    (directory / INFO_FILE).write_text(info.model_dump_json(indent=2), encoding="utf-8")
    return info


def load_reference(directory: Path) -> Reference:
    """Reads a reference.

    Raises:
        DataError: a file is missing or unreadable, or the reference is of another feature schema.
    """
    path = directory / INFO_FILE
    try:
        info = ReferenceInfo.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error}); train a model, its bundle has a reference") from error
    except ValidationError as error:
        raise DataError(f"{path}: not a valid reference ({error}); train the model again") from error
    if info.feature_fingerprint != info.feed.column_fingerprint:
        raise DataError(
            f"{path}: reference of feature schema {info.feature_fingerprint}, this code has "
            f"{info.feed.column_fingerprint}; monitor with the image that the model was trained with"
        )
    return Reference(
        info=info,
        features=read_parquet(directory / FEATURES_FILE, columns=feature_sample(info.feed).names),
        scores=read_parquet(directory / SCORES_FILE, columns=score_sample(info.feed).names),
    )


def _check_inputs(
    earlier: pa.Table, test: pa.Table, test_scores: NDArray[np.floating[Any]], metrics: Mapping[str, float]
) -> None:
    for name, table in (("train", earlier), ("test", test)):
        if not table.num_rows:
            raise DataError(f"the {name} split has no rows; a reference needs both splits")
    if test_scores.shape != (test.num_rows,):
        raise DataError(f"test scores have shape {test_scores.shape}, the test split has {test.num_rows} rows")
    if not np.isfinite(test_scores).all():
        raise DataError("test scores hold NaN or infinity; the model is broken, don't register it")
    missing = sorted({"auc", "log_loss"} - set(metrics))
    if missing:
        raise DataError(f"metrics lack {', '.join(missing)}; evaluate the model on its test split first")


def _feature_sample(earlier: pa.Table, test: pa.Table, feed: Feed, config: MonitoringConfig) -> pa.Table:
    rows = pa.concat_tables([table.select(feature_sample(feed).names) for table in (earlier, test)])
    end_us = int(timestamps_us(rows).max()) + 1
    earliest_us = end_us - timedelta(days=config.reference.days) // timedelta(microseconds=1)
    rows = rows.filter(pa.array(timestamps_us(rows) >= earliest_us))
    return rows.take(
        pa.array(sample_rows(rows, end_us=end_us, max_rows=config.reference.max_feature_rows, config=config))
    )


def _score_sample(
    test: pa.Table, test_scores: NDArray[np.floating[Any]], feed: Feed, config: MonitoringConfig
) -> tuple[pa.Table, psi.ScoreBins]:
    scored = test.append_column(schema.SCORE, pa.array(test_scores.astype(np.float32)))
    scored = scored.select(score_sample(feed).names)
    end_us = int(timestamps_us(test).max()) + 1
    independent = sample_rows(test, end_us=end_us, max_rows=config.reference.max_score_rows, config=config)
    bins = psi.score_bins(test_scores[independent], bins=config.reference.score_bins)
    rng = np.random.default_rng(SEED)
    kept = np.sort(rng.permutation(test.num_rows)[: config.reference.max_score_rows])
    return scored.take(pa.array(kept)), bins


def sample_rows(
    table: pa.Table, *, end_us: int, max_rows: int, config: MonitoringConfig, by: str = schema.TIMESTAMP
) -> NDArray[np.int64]:
    """Indices of the rows of a table (with user and time `by`) that drift tests may see (`sampling.drift_sample`)."""
    return drift_sample(
        table[schema.USER_ID].to_numpy(),
        timestamps_us(table, column=by),
        period_us=config.window_length // timedelta(microseconds=1),
        end_us=end_us,
        max_rows=max_rows,
        seed=SEED,
    )


def _to_datetime(time_us: np.int64) -> datetime:
    return datetime.fromtimestamp(0, tz=UTC) + timedelta(microseconds=int(time_us))
