"""A model's own first days: what it is compared with once it has served long enough.

The rows that a model was trained on were chosen by another ranker. A better ranker shows better items, so its items,
scores and histories differ without any drift. The trained reference is good for what no ranker changes (`POLICY_FREE`,
and the calibration); all else is compared with the model's own first windows, as the log and the feedback have them.
They are sampled once and kept:

    DIRECTORY/first_served.json         when the log has its first prediction
    DIRECTORY/000/features.parquet      of the first window: one row per user, with its score (`OWN_SAMPLE`)
    DIRECTORY/000/scores.parquet        shown rows with feedback (`reference.SCORE_SAMPLE`), once that has come
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feedrank import schema, storage
from feedrank.config.feed import Feed
from feedrank.config.monitoring import MonitoringConfig
from feedrank.delta import Location
from feedrank.monitoring import psi
from feedrank.monitoring.performance import auc_estimate
from feedrank.monitoring.recent import ARRIVAL, Source
from feedrank.monitoring.reference import (
    FEATURES_FILE,
    SCORES_FILE,
    SEED,
    Reference,
    feature_sample,
    sample_rows,
    score_sample,
)
from feedrank.monitoring.rows import Sources, WindowRows, by_arrival, read_window
from feedrank.tables import COMPRESSION, read_parquet

FIRST_SERVED = "first_served.json"


def policy_free(feed: Feed) -> tuple[str, ...]:
    """Features of who comes, when and on what: the same whoever ranks."""
    return feed.chosen(lambda form: not form.ranked)


def own_sample(feed: Feed) -> pa.Schema:
    """Of a model's own first days: the features, and what it made of them."""
    return pa.schema([*feature_sample(feed), feed.log.field(schema.SCORE)])


def own_reference(
    trained: Reference,
    *,
    window: WindowRows,
    feedback_in: bool,
    sources: Sources,
    directory: Path,
    config: MonitoringConfig,
) -> Reference | None:
    """The model's first windows that ended before this one began; None while they have too few rows.

    Its metrics lack `auc` until the feedback on them has come.
    """
    version = trained.info.model_version
    first = _first_served(directory, version=version, until=window.end, sources=sources, config=config)
    if first is None:
        return None
    length = config.window_length
    count = min((window.start - first) // length, timedelta(days=config.reference.own_days) // length)
    ends = [first + length * (index + 1) for index in range(count)]
    feed = trained.info.feed
    days = [_Day(directory / f"{i:03d}", end, trained, sources, config) for i, end in enumerate(ends)]
    features = pa.concat_tables([own_sample(feed).empty_table(), *(day.features() for day in days)])
    if features.num_rows < config.reference.min_own_rows:
        return None
    scores = [score_sample(feed).empty_table(), *(day.scores(feedback_in=feedback_in) for day in days)]
    return _reference(trained, features=features, scores=pa.concat_tables(scores), end=ends[-1], config=config)


def _reference(
    trained: Reference, *, features: pa.Table, scores: pa.Table, end: datetime, config: MonitoringConfig
) -> Reference:
    found = pc.cast(features[schema.SCORE], pa.float64()).to_numpy()
    bins = psi.score_bins(found[np.isfinite(found)], bins=config.reference.score_bins)
    labels = scores[schema.TARGET].to_numpy().astype(np.float64)
    auc = auc_estimate(
        scores[schema.SCORE].to_numpy().astype(np.float64),
        labels,
        clusters=np.unique(scores[schema.USER_ID].to_numpy(), return_inverse=True)[1],
        confidence=config.performance.confidence,
    ).value
    info = trained.info.model_copy(
        update={
            "metrics": {} if auc is None else {"auc": auc},
            "label_rate": float(labels.mean()) if len(labels) else trained.info.label_rate,
            "end": end,
            "score_edges": bins.edges.tolist(),
            "score_shares": bins.shares.tolist(),
            "score_bin_rows": bins.rows,
            "feature_rows": features.num_rows,
            "score_rows": scores.num_rows,
        }
    )
    return Reference(info=info, features=features, scores=scores)


class _Day:
    """One of the first windows of a model, sampled once."""

    def __init__(
        self, directory: Path, end: datetime, trained: Reference, sources: Sources, config: MonitoringConfig
    ) -> None:
        self._directory, self._end, self._version = directory, end, trained.info.model_version
        self._feed, self._sources, self._config = trained.info.feed, sources, config
        self._rows: WindowRows | None = None

    def features(self) -> pa.Table:
        """`own_sample`."""
        return self._kept(FEATURES_FILE, self._sample_features)

    def scores(self, *, feedback_in: bool) -> pa.Table:
        """`score_sample`; empty until the feedback has come."""
        if not feedback_in and not (self._directory / SCORES_FILE).exists():
            return score_sample(self._feed).empty_table()
        return self._kept(SCORES_FILE, self._sample_scores)

    def _kept(self, name: str, sample: Callable[[], pa.Table]) -> pa.Table:
        path = self._directory / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with storage.new_file(path) as fresh:
                pq.write_table(sample(), fresh, compression=COMPRESSION)
        return read_parquet(path)

    def _window(self) -> WindowRows:
        self._rows = self._rows or read_window(self._end, sources=self._sources, feed=self._feed, config=self._config)
        return self._rows

    def _limit(self, rows: int) -> int:
        return max(1, rows * self._config.window_length // timedelta(days=self._config.reference.own_days))

    def _sample_features(self) -> pa.Table:
        rows = self._window().predictions
        rows = rows.filter(pc.equal(rows[schema.MODEL_VERSION], self._version))
        limit = self._limit(self._config.reference.max_feature_rows)
        end_us = int(self._end.timestamp() * 1e6)
        chosen = sample_rows(rows, end_us=end_us, max_rows=limit, config=self._config, by=ARRIVAL)
        return by_arrival(rows.take(pa.array(chosen))).select(own_sample(self._feed).names)

    def _sample_scores(self) -> pa.Table:
        window = self._window()
        shown = window.shown().append_column(schema.TARGET, pa.array(window.joined.click))
        usable = pc.and_(pc.equal(shown[schema.MODEL_VERSION], self._version), pc.is_finite(shown[schema.SCORE]))
        shown = shown.filter(usable).select(score_sample(self._feed).names)
        order = np.random.default_rng(SEED).permutation(shown.num_rows)
        return shown.take(pa.array(np.sort(order[: self._limit(self._config.reference.max_score_rows)])))


def _first_served(
    directory: Path, *, version: str, until: datetime, sources: Sources, config: MonitoringConfig
) -> datetime | None:
    """The hour of the first prediction of the model; None while the log has none."""
    path = directory / FIRST_SERVED
    if path.exists():
        return datetime.fromisoformat(json.loads(path.read_text(encoding="utf-8"))["first_served"])
    first = _first_prediction(sources.predictions, version=version, until=until, days=config.reference.days)
    if first is None:
        return None
    hour = first.replace(minute=0, second=0, microsecond=0)
    directory.mkdir(parents=True, exist_ok=True)
    storage.write_text(path, json.dumps({"first_served": hour.isoformat()}))
    return hour


def _first_prediction(log: Location, *, version: str, until: datetime, days: int) -> datetime | None:
    """When the log's unbroken run of days with a model's predictions began; it is followed back so many days."""
    wanted = pa.schema([schema.PREDICTION_KEYS.field(name) for name in dict.fromkeys((ARRIVAL, schema.MODEL_VERSION))])
    first: datetime | None = None
    end = until.astimezone(UTC)
    for _ in range(days + 1):
        start = (end - timedelta(microseconds=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        source = Source.open(log, wanted=wanted, by=ARRIVAL, start=start, end=end, expected_from=end)
        batches = (batch.filter(pc.equal(batch[schema.MODEL_VERSION], version)) for batch in source.batches(keys=()))
        earliest = min((pc.min(batch[ARRIVAL]).as_py() for batch in batches if batch.num_rows), default=None)
        if earliest is None and first is not None:
            break
        first, end = earliest or first, start
    return first
