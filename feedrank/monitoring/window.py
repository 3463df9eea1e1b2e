"""All verdicts on one window: drift, performance, serving and feedback."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.config.monitoring import MonitoringConfig
from feedrank.features.forms import Count
from feedrank.monitoring.drift import feature_drift, score_drift
from feedrank.monitoring.engines import DriftEngine
from feedrank.monitoring.own_days import own_reference, policy_free
from feedrank.monitoring.performance import COLLECTING, Shown, measure, performance_signals
from feedrank.monitoring.recent import ARRIVAL, future_rows
from feedrank.monitoring.reference import Reference, sample_rows
from feedrank.monitoring.results import Metrics, Segment, Signal, SignalKind, WindowResult
from feedrank.monitoring.rows import Sources, WindowRows, by_arrival, read_window
from feedrank.monitoring.traffic import feedback_due, feedback_signals, latency_signal, measure_visits, waiting

NEW_USERS = "new users"


@dataclass(frozen=True)
class Evaluation:
    """A window's verdicts, and the rows behind the drift tests for the plots."""

    result: WindowResult
    sample: pa.Table
    """By the clients' times, which the features are of."""
    reference: Reference
    """The model's own first days if it has them, else what it was trained on."""


def evaluate_window(
    end: datetime,
    *,
    reference: Reference,
    engine: DriftEngine,
    sources: Sources,
    own_days: Path,
    usual_feedback_share: float | None,
    feedback_until: datetime | None,
    config: MonitoringConfig,
    now: datetime,
) -> Evaluation:
    """Judges the window that ends at `end` (excluded).

    Args:
        end: where the window ends.
        reference: of the training of the model that is watched; rows of other versions are measured, not judged.
        engine: of the drift tests.
        sources: prediction log and feedback.
        own_days: folder that keeps the models' own first days.
        usual_feedback_share: share of requests with feedback in earlier windows, if there were any.
        feedback_until: time of the newest feedback; what needs more of it is `pending`.
        config: the monitoring configuration.
        now: the present; rows that are stamped later are warned of.
    """
    window = read_window(end, sources=sources, feed=reference.info.feed, config=config, feedback_until=feedback_until)
    version = reference.info.model_version
    tested = window.predictions.filter(pc.equal(window.predictions[schema.MODEL_VERSION], version))
    rows = sample_rows(tested, end_us=_us(end), max_rows=config.window.max_rows, config=config, by=ARRIVAL)
    sample = tested.take(pa.array(rows))
    compared = by_arrival(sample)
    due = feedback_due(window.hours, end=end)
    feedback_in = feedback_until is not None and feedback_until >= due
    own = own_reference(
        reference, window=window, feedback_in=feedback_in, sources=sources, directory=own_days / version, config=config
    )
    clock_warnings = list(_clock_warnings(sources, now=now, skew_seconds=config.window.clock_skew_seconds))
    versions = list(_versions(window, config))
    served = next((v for v in versions if v.name == version), None)
    served = served or measure(_nothing(), name=version, config=config.performance)
    signals = [
        *_drift_signals(compared, trained=reference, own=own, engine=engine, config=config),
        *performance_signals(served, own=own, config=config.performance),
        latency_signal(window.latency, config=config.performance),
        *feedback_signals(
            window.hours,
            window.joined.counts,
            until=min(end, feedback_until or end),
            usual_share=usual_feedback_share,
            config=config,
        ),
    ]
    if not feedback_in:
        signals = [waiting(signal, due=due) for signal in signals]
    result = WindowResult(
        start=window.start,
        end=end,
        model_version=version,
        predictions=window.total_predictions,
        sample_rows=sample.num_rows,
        feedback_due=due,
        feedback_in=feedback_in,
        feedback=window.joined.counts,
        signals=signals,
        versions=versions,
        visits=measure_visits(window.feedback, start=window.start, config=config),
        segments=list(_segments(window, compared, trained=reference, own=own, engine=engine, config=config)),
        warnings=[*clock_warnings, *window.warnings, *_version_warnings(window.version_rows, version)],
        clock_warnings=clock_warnings,
    )
    return Evaluation(result, sample, own or reference)


def _drift_signals(
    sample: pa.Table, *, trained: Reference, own: Reference | None, engine: DriftEngine, config: MonitoringConfig
) -> list[Signal]:
    if own is not None:
        return [
            *feature_drift(sample, reference=own, engine=engine, config=config),
            score_drift(sample[schema.SCORE].to_numpy(), reference=own, config=config),
        ]
    signals = feature_drift(
        sample, reference=trained, engine=engine, config=config, features=policy_free(trained.info.feed)
    )
    known = {signal.name: signal for signal in signals}
    return [
        *(known.get(name, _collecting(name, kind="feature", rows=sample.num_rows)) for name in trained.info.feed.names),
        _collecting(schema.SCORE, kind="score", rows=sample.num_rows),
    ]


def _collecting(name: str, *, kind: SignalKind, rows: int) -> Signal:
    return Signal(
        name=name, kind=kind, test="own first days", threshold=1.0, rows=rows, status="collecting", reason=COLLECTING
    )


def _shown(window: WindowRows) -> tuple[pa.Table, Shown]:
    """Shown predictions with finite scores: their rows, and the arrays that metrics need."""
    rows = window.shown()
    scores = pc.cast(rows[schema.SCORE], pa.float64()).to_numpy()
    usable = np.isfinite(scores)
    engaged = np.maximum(window.joined.like, window.joined.share)
    shown = Shown(
        users=rows[schema.USER_ID].to_numpy(),
        scores=scores,
        clicks=window.joined.click.astype(np.float64),
        engaged=engaged.astype(np.float64),
    )
    return rows.filter(pa.array(usable)), shown.part(usable)


def _versions(window: WindowRows, config: MonitoringConfig) -> Iterator[Metrics]:
    rows, shown = _shown(window)
    names = rows[schema.MODEL_VERSION].to_pandas()
    for name in sorted(names.dropna().unique()):
        yield measure(shown.part((names == name).to_numpy()), name=name, config=config.performance)


def _segments(
    window: WindowRows,
    sample: pa.Table,
    *,
    trained: Reference,
    own: Reference | None,
    engine: DriftEngine,
    config: MonitoringConfig,
) -> Iterator[Segment]:
    rows, shown = _shown(window)
    feed = trained.info.feed
    reference, features = (trained, policy_free(feed)) if own is None else (own, feed.names)
    for name, of in _segment_conditions(feed, config).items():
        part = sample.filter(of(sample))
        expected = replace(reference, features=reference.features.filter(of(reference.features)))
        signals = feature_drift(part, reference=expected, engine=engine, config=config, features=features)
        chosen = shown.part(of(rows).to_numpy(zero_copy_only=False))
        yield Segment(
            metrics=measure(chosen, name=name, config=config.performance),
            drifted=[signal.name for signal in signals if signal.flagged],
            rows=part.num_rows,
        )


def _segment_conditions(feed: Feed, config: MonitoringConfig) -> dict[str, Callable[[pa.Table], pa.Array]]:
    """Which rows are of each segment: a value of the context, or new users if a feature counts their impressions."""

    def of(name: str, meets: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> Callable[[pa.Table], pa.Array]:
        return lambda rows: pc.fill_null(meets(rows[name]), False).combine_chunks()

    conditions: dict[str, Callable[[pa.Table], pa.Array]] = {
        flag.equals: of(name, lambda column: pc.equal(column, 1)) for name, flag in feed.flags.items()
    }
    limit = config.performance.new_user_max_impressions
    for name in feed.chosen(lambda form: form == Count(count="impression", per=("user",)))[:1]:
        conditions[NEW_USERS] = of(name, lambda column: pc.less_equal(column, limit))
    return conditions


def _clock_warnings(sources: Sources, *, now: datetime, skew_seconds: float) -> Iterator[str]:
    clocks = {
        sources.predictions: "the clocks and time zones of the predictor and of clients that send a timestamp",
        sources.feedback: "the clock and the time zone of what writes the feedback",
    }
    for directory, clock in clocks.items():
        future = future_rows(directory, now=now, skew_seconds=skew_seconds)
        if future is not None:
            latest = f"the latest {future.latest:%Y-%m-%d %H:%M} UTC"
            yield f"{directory}: {future.rows} rows are stamped in the future ({latest}); check {clock}"


def _version_warnings(rows: Mapping[str, int], version: str) -> Iterator[str]:
    """Whether another model is deployed: asked of all predictions, as those of a new one may have no feedback yet."""
    if rows and version not in rows:
        others = ", ".join(f"{name} ({count} predictions)" for name, count in rows.items())
        yield f"the window has no predictions of model {version}, only of {others}; is another model deployed?"


def _nothing() -> Shown:
    empty: NDArray[np.float64] = np.empty(0)
    return Shown(users=np.empty(0, dtype=np.int64), scores=empty, clicks=empty, engaged=empty)


def _us(moment: datetime) -> int:
    return int(pd.Timestamp(moment).value // 1000)
