"""A feed in random order whose first ranker takes over: what is shown and clicked changes without any drift.

Each request has a page of candidates; one of them is shown: at random before the model is served, afterwards the one
that it puts first, but for a share of exploration. All candidates are logged.
"""

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.monitored_world import (
    TEST_DAYS,
    ServedWorld,
    before,
    dulled,
    prediction_log,
    write_reference,
)
from feedrank import schema
from feedrank.config import MonitoringConfig
from feedrank.config.data import DriftScenario, GeneratorConfig
from feedrank.config.feed import Feed
from feedrank.data.generator import World, generate
from feedrank.data.generator.events import MS_PER_SECOND
from feedrank.features.events import Events
from feedrank.features.offline import feature_table
from feedrank.monitoring.rows import Sources
from feedrank.tables import timestamps_us, write_partitioned

EXPLORATION = 0.1
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def serve_first_ranker(
    generator: GeneratorConfig,
    *,
    first_served: date,
    drifts: tuple[DriftScenario, ...],
    config: MonitoringConfig,
    directory: Path,
) -> ServedWorld:
    """Generates such a world, and writes the model's reference, and the log and the feedback from `first_served` on."""
    interactions = pa.concat_tables(list(generate(generator.model_copy(update={"drifts": drifts}))))
    interactions = interactions.take(pa.array(np.argsort(timestamps_us(interactions), kind="stable")))
    known = before(interactions, first_served)
    history, requests = interactions.slice(0, known), interactions.slice(known)
    law = _Law(generator, drifts)
    slope, intercept = _calibration(law.scores(history), history[schema.CLICK].to_numpy())
    pages, shown, page_scores = law.rank(requests, slope=slope, intercept=intercept)
    feedback = law.feedback(requests, items=pages[np.arange(len(pages)), shown])
    features, candidates = _features(history, feedback, pages=pages, shown=shown)
    write_partitioned(
        prediction_log(candidates, scores=page_scores.ravel(), ranks=_ranks(page_scores)), directory / "predictions"
    )
    write_partitioned(feedback, directory / "interactions")
    logits = intercept + slope * law.scores(history)
    train = before(history, date.fromordinal(first_served.toordinal() - TEST_DAYS))
    test_scores = _sigmoid(logits[train:])
    reference = directory / "reference"
    write_reference(features.slice(0, known), train=train, test_scores=test_scores, config=config, directory=reference)
    chosen = np.arange(len(pages)) * pages.shape[1] + shown
    return ServedWorld(
        reference=reference,
        sources=Sources(predictions=directory / "predictions", feedback=directory / "interactions"),
        train=features.slice(0, train),
        served=_with_target(candidates.take(pa.array(chosen)), feedback),
        scores=page_scores.ravel()[chosen],
        test_scores=test_scores,
    )


class _Law:
    """How requests are ranked and answered in a world."""

    def __init__(self, generator: GeneratorConfig, drifts: tuple[DriftScenario, ...]) -> None:
        self._believed = World(generator)
        self._true = World(generator.model_copy(update={"drifts": drifts}))
        self._rng = np.random.default_rng([generator.seed, 1])

    def scores(self, rows: pa.Table) -> Floats:
        """Logits of the dulled truth before any drift, not calibrated; the same for the same rows."""
        users, items, times, devices = _columns(rows)
        return _logit(dulled(self._believed.click_probability(users, items, times, devices), seed=len(rows)))

    def rank(self, requests: pa.Table, *, slope: float, intercept: float) -> tuple[Ints, Ints, Floats]:
        """Items [requests, page], the place of the shown one [requests] and the scores [requests, page]."""
        users, _, times, devices = _columns(requests)
        days = self._true.days(times)
        pages = np.concatenate(
            [
                self._true.exposure.draw_pages(
                    self._rng, drift_rng=self._rng, user_ids=users[days == day], day=int(day)
                )
                for day in np.unique(days)
            ]
        )
        width = pages.shape[1]
        repeated = [np.repeat(column, width) for column in (users, times, devices)]
        truth = self._believed.click_probability(repeated[0], pages.ravel(), repeated[1], repeated[2])
        logits = _logit(dulled(truth, seed=int(self._rng.integers(1 << 32))))
        scores = _sigmoid(intercept + slope * logits).reshape(pages.shape)
        explored = self._rng.random(len(pages)) < EXPLORATION
        shown = np.where(explored, self._rng.integers(0, width, len(pages)), scores.argmax(axis=1))
        return pages, shown, scores

    def feedback(self, requests: pa.Table, *, items: Ints) -> pa.Table:
        """What follows from showing the items, as the generator has it."""
        users, _, times, devices = _columns(requests)
        world, rng = self._true, self._rng
        clicks = (rng.random(len(items)) < world.click_probability(users, items, times, devices)).astype(np.int8)
        like, share, dwell = world.draw_engagement(rng, users, items, clicks, times)
        days = world.days(times)
        delay, broken = (
            np.array([world.drift.strength(kind, int(day)) for day in range(days.max() + 1)])[days]
            for kind in ("label_delay", "broken_dwell_sensor")
        )
        recorded = (~((rng.random(len(items)) < delay) & (clicks == 1))).astype(np.int8)
        dwell = dwell * recorded * np.where(rng.random(len(items)) < broken, MS_PER_SECOND, 1.0)
        new = {
            schema.ITEM_ID: items,
            schema.CLICK: clicks * recorded,
            schema.LIKE: like * recorded,
            schema.SHARE: share * recorded,
            schema.DWELL_TIME: dwell,
        }
        return _replaced(requests, new)


def _features(history: pa.Table, feedback: pa.Table, *, pages: Ints, shown: Ints) -> tuple[pa.Table, pa.Table]:
    """Nightly features of the history's rows, and of all candidates; only shown rows are remembered."""
    config = Feed()
    requests, width = pages.shape
    candidates = feedback.take(pa.array(np.repeat(np.arange(requests), width)))
    was_shown = np.zeros(pages.shape, dtype=bool)
    was_shown[np.arange(requests), shown] = True
    clicks = candidates[schema.CLICK].to_numpy() * was_shown.ravel()
    candidates = _replaced(candidates, {schema.ITEM_ID: pages.ravel(), schema.CLICK: clicks})
    remembered = np.concatenate([np.ones(history.num_rows, dtype=bool), was_shown.ravel()])
    events = Events.from_table(pa.concat_tables([history, candidates]), feed=config)
    table = feature_table(events, feed=config, remembered=remembered)
    return table.slice(0, history.num_rows), table.slice(history.num_rows)


def _with_target(rows: pa.Table, feedback: pa.Table) -> pa.Table:
    return _replaced(rows, {schema.TARGET: feedback[schema.CLICK].to_numpy()})


def _replaced(table: pa.Table, new: dict[str, NDArray]) -> pa.Table:
    columns = [
        pa.array(new[field.name]).cast(field.type) if field.name in new else table[field.name] for field in table.schema
    ]
    return pa.Table.from_arrays(columns, schema=table.schema)


def _ranks(scores: Floats) -> NDArray[np.int16]:
    return (np.argsort(np.argsort(-scores, axis=1), axis=1) + 1).astype(np.int16).ravel()


def _columns(rows: pa.Table) -> tuple[Ints, Ints, Ints, NDArray[np.int8]]:
    devices = rows[schema.DEVICE].to_pandas().map({name: index for index, name in enumerate(schema.DEVICES)})
    return (
        rows[schema.USER_ID].to_numpy(),
        rows[schema.ITEM_ID].to_numpy(),
        timestamps_us(rows),
        devices.to_numpy(dtype=np.int8),
    )


def _calibration(logits: Floats, clicks: NDArray) -> tuple[float, float]:
    """Slope and intercept of a logistic regression of the clicks on the logits (Newton's method)."""
    design, weights = np.stack([logits, np.ones(len(logits))], axis=1), np.array([1.0, 0.0])
    for _ in range(20):
        p = _sigmoid(design @ weights)
        hessian = (design * (p * (1 - p))[:, None]).T @ design
        weights = weights + np.linalg.solve(hessian, design.T @ (clicks - p))
    return float(weights[0]), float(weights[1])


def _sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-logits))


def _logit(p: Floats) -> Floats:
    return np.log(p / (1 - p))
