"""Champion against challenger on the same fresh rows: is the challenger better, for everybody, and as fast?

A challenger wins when its GAUC (AUC within users: a ranker orders one user's items) or its log loss is better by the
configured margin with confidence, the other one is not estimated to be worse by more than its limit, no slice loses
more than its own, the gates were met (`gates.py`), and scoring takes about as long. To be sure that the other one is no
worse, to some thousandths, takes a hundred thousand clicks: a small feed would never replace a champion that has lost
its way. The pooled AUC, which also rewards knowing who clicks more, is only reported.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from feedrank import schema
from feedrank.config import Config
from feedrank.config.feed import Feed
from feedrank.config.promotion import ComparisonConfig
from feedrank.errors import DataError
from feedrank.evaluation.evaluate import KnownIds, Metrics, Scores, gates_on, measure, slices
from feedrank.features.events import event_columns
from feedrank.features.offline import compute_features
from feedrank.model.bundle import ITEM_IDS, USER_IDS, ModelBundle
from feedrank.promotion.bootstrap import Gain, paired_gain
from feedrank.promotion.gates import judge_missed, missed_sentences
from feedrank.tables import read_partitioned, timestamps_us

REQUEST_ITEMS = 100


class Latency(BaseModel):
    """Median time to rank 100 items in this process, milliseconds."""

    champion_ms: float
    challenger_ms: float


class Decision(BaseModel):
    """`decision.json`: the verdict with its evidence."""

    model_config = ConfigDict(frozen=True)

    champion: str
    challenger: str
    decided_at: datetime
    promote: bool
    reasons: list[str]
    """What speaks against the challenger; if nothing does, what speaks for it."""
    first_row: datetime | None = None
    last_row: datetime | None = None
    gain: Gain | None = None
    """None when there were too few fresh rows to compare."""
    champion_metrics: Metrics | None = None
    challenger_metrics: Metrics | None = None
    slices: dict[str, Gain] = {}
    latency: Latency | None = None
    passed_gates: bool
    """Every gate by itself; a missed one that the champion misses, too, is no reason against the challenger."""

    def markdown(self) -> str:
        """The decision for a pipeline's page."""
        unlike = "**not better**" if self.gain is not None else "**not known to be better**"
        verdict = "**better**" if self.promote else unlike
        lines = [f"# {self.challenger} is {verdict} than {self.champion}", "", *(f"- {r}" for r in self.reasons)]
        if self.gain is not None:
            lines += ["", "| rows | users | clicks | GAUC gain | AUC gain | log loss gain |"]
            lines.append("| --- | --- | --- | --- | --- | --- |")
            for name, gain in {"all": self.gain, **self.slices}.items():
                figures = " | ".join(
                    f"{x.estimate:+.4f} ({x.low:+.4f} … {x.high:+.4f})" for x in (gain.gauc, gain.auc, gain.log_loss)
                )
                lines.append(f"| {name}: {gain.rows:,} | {gain.users:,} | {gain.clicks:,} | {figures} |")
        return "\n".join(lines) + "\n"


def compare(
    champion: ModelBundle,
    challenger: ModelBundle,
    rows: pa.Table,
    *,
    champion_rows: pa.Table | None = None,
    missed_gates: Sequence[str],
    config: Config,
    now: datetime,
) -> Decision:
    """Judges both on the challenger's test rows (`Feed.table`), as far as the champion has not seen them.

    `champion_rows` are the same rows with the champion's features, if it has others (`with_features`).
    `missed_gates` are those that the challenger's evaluation missed.
    """
    limits = config.promotion.comparison
    fresh = sampled(unseen(rows, champion), config=limits)
    decision = Decision(
        champion=champion.metadata.model_version,
        challenger=challenger.metadata.model_version,
        decided_at=now,
        promote=False,
        reasons=[],
        passed_gates=not missed_gates,
    )
    if too_few := too_few_for_a_verdict(fresh, config=limits):
        return decision.model_copy(update={"reasons": [*missed_sentences(missed_gates), too_few]})
    own = fresh if champion_rows is None else sampled(unseen(champion_rows, champion), config=limits)
    old, new = champion.score_table(own), challenger.score_table(fresh)
    known = KnownIds(challenger.arrays[USER_IDS], challenger.arrays[ITEM_IDS])
    gain, by_slice = gains_on(fresh, old, new, known=known, feed=challenger.feed, config=limits)
    latency = measure_latency(champion, challenger, requests=limits.latency_requests, seed=limits.seed)
    old_metrics, new_metrics = (measure(fresh, scores, config=config.model.evaluation) for scores in (old, new))
    missed = judge_missed(
        missed_gates,
        *(gates_on(fresh, metrics, challenger.feed, config=config.model) for metrics in (old_metrics, new_metrics)),
    )
    retyped = challenger.feed.retyped(champion.feed)
    clash = [f"{retyped}: the prediction log can't hold both; give it a new name in feed.yaml"] if retyped else []
    against = [*clash, *missed.against, *objections(gain, by_slice, latency, config=limits)]
    span = pc.min_max(fresh[schema.TIMESTAMP]).as_py()
    evidence = {
        "first_row": span["min"],
        "last_row": span["max"],
        "gain": gain,
        "champion_metrics": old_metrics,
        "challenger_metrics": new_metrics,
        "slices": by_slice,
        "latency": latency,
    }
    verdict = {"promote": not against, "reasons": against or [*merits(gain, config=limits), *missed.excused]}
    return decision.model_copy(update=evidence | verdict)


def too_few_for_a_verdict(rows: pa.Table, *, config: ComparisonConfig) -> str:
    """What is missing for a comparison; "" if nothing is."""
    users, clicks = len(np.unique(rows[schema.USER_ID].to_numpy())), int(np.sum(rows[schema.TARGET].to_numpy()))
    if users >= config.min_users and clicks >= config.min_clicks:
        return ""
    return (
        f"only {rows.num_rows} rows of {users} users with {clicks} clicks are newer than the champion's training; "
        f"a verdict needs {config.min_users} users and {config.min_clicks} clicks"
    )


def unseen(rows: pa.Table, champion: ModelBundle) -> pa.Table:
    """The rows after the last one that the champion was fitted on."""
    last_us = (champion.metadata.last_row - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return rows.filter(pa.array(timestamps_us(rows) > last_us))


def with_features(rows: pa.Table, interactions: Path, *, feed: Feed) -> pa.Table:
    """The last rows of a feature table with the features of another declaration.

    Args:
        rows: the last rows of the features of all interactions.
        interactions: that they were computed from.
        feed: the other declaration.

    Raises:
        DataError: the interactions end otherwise than the rows.
    """
    features = compute_features(read_partitioned(interactions, columns=event_columns(feed)), feed=feed)
    same = features.slice(max(0, features.num_rows - rows.num_rows))
    if not all(same[name].equals(rows[name]) for name in (schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP)):
        raise DataError(f"{interactions}: its last rows are not those to compare on; compute the features again")
    return same


def sampled(rows: pa.Table, *, config: ComparisonConfig) -> pa.Table:
    """All rows of randomly drawn users, as many as fit into `max_rows`."""
    if rows.num_rows <= config.max_rows:
        return rows
    _, cluster, sizes = np.unique(rows[schema.USER_ID].to_numpy(), return_inverse=True, return_counts=True)
    order = np.random.default_rng(config.seed).permutation(len(sizes))
    chosen = np.zeros(len(sizes), dtype=bool)
    chosen[order[np.cumsum(sizes[order]) <= config.max_rows]] = True
    return rows.filter(pa.array(chosen[cluster]))


def gains_on(
    rows: pa.Table, champion: Scores, challenger: Scores, *, known: KnownIds, feed: Feed, config: ComparisonConfig
) -> tuple[Gain, dict[str, Gain]]:
    """The challenger's gain on rows that were scored by both, [rows]; on all, and on each slice with enough clicks.

    `known` are the challenger's ids: new is what its training did not see.
    """
    users, targets = rows[schema.USER_ID].to_numpy(), rows[schema.TARGET].to_numpy()

    def gain(mask: NDArray[np.bool_]) -> Gain:
        return paired_gain(
            users=users[mask],
            targets=targets[mask],
            champion=champion[mask],
            challenger=challenger[mask],
            resamples=config.resamples,
            confidence=config.confidence,
            seed=config.seed,
        )

    masks = slices(rows, known, feed)
    enough = {name: mask for name, mask in masks.items() if np.sum(targets[mask]) >= config.min_clicks}
    return gain(np.ones(len(targets), dtype=bool)), {name: gain(mask) for name, mask in enough.items()}


def merits(gain: Gain, *, config: ComparisonConfig) -> list[str]:
    """In what the challenger is better by the margin, with confidence.

    Each interval errs upwards in (1 - confidence) / 2 of the cases, so the two together in at most 1 - confidence.
    """
    margins = {"GAUC": (gain.gauc, config.min_gauc_gain), "log loss": (gain.log_loss, config.min_log_loss_gain)}
    return [
        f"its {name} is better by {x.estimate:.4f} ({x.low:.4f} … {x.high:.4f}), more than {margin:g}"
        for name, (x, margin) in margins.items()
        if x.low > margin
    ]


def objections(gain: Gain, by_slice: dict[str, Gain], latency: Latency, *, config: ComparisonConfig) -> list[str]:
    """What speaks against the challenger, in sentences."""
    found = []
    if not merits(gain, config=config):
        found.append(
            f"neither its GAUC ({gain.gauc.low:+.4f} … {gain.gauc.high:+.4f}) nor its log loss "
            f"({gain.log_loss.low:+.4f} … {gain.log_loss.high:+.4f}) is better by the margin "
            f"({config.min_gauc_gain:g}, {config.min_log_loss_gain:g}) with confidence"
        )
    limits = {"GAUC": (gain.gauc, config.max_gauc_loss), "log loss": (gain.log_loss, config.max_log_loss_rise)}
    found += [
        f"its {name} is worse by {-x.estimate:.4f} ({-x.high:.4f} … {-x.low:.4f}), more than {limit:g}"
        for name, (x, limit) in limits.items()
        if not x.estimate >= -limit
    ]
    found += [
        f"its GAUC on {name.replace('_', ' ')} is worse by {-g.gauc.estimate:.4f}, "
        f"more than {config.max_slice_gauc_loss:g}"
        for name, g in by_slice.items()
        if g.gauc.estimate < -config.max_slice_gauc_loss and g.gauc.high < 0
    ]
    if latency.challenger_ms > config.max_latency_ratio * latency.champion_ms:
        found.append(
            f"it ranks {REQUEST_ITEMS} items in {latency.challenger_ms:.2f} ms, the champion in "
            f"{latency.champion_ms:.2f} ms; {config.max_latency_ratio:g} times that is allowed"
        )
    return found


def measure_latency(champion: ModelBundle, challenger: ModelBundle, *, requests: int, seed: int) -> Latency:
    """Times both as the predictor scores, request by request in turn, so that a busy machine slows both alike."""
    from feedrank.scoring import Scorer

    scorers = [Scorer.build(bundle, bundle.snapshot) for bundle in (champion, challenger)]
    users, items = challenger.snapshot.users.ids, challenger.snapshot.items.ids
    rng = np.random.default_rng(seed)
    time_us = time.time_ns() // 1_000
    seconds = np.empty((requests, len(scorers)))
    for request in range(requests):
        user = int(rng.choice(users))
        candidates = rng.choice(items, min(REQUEST_ITEMS, len(items)), replace=False)
        for index, scorer in enumerate(scorers):
            started = time.perf_counter()
            scorer.rank(user, candidates, time_us=time_us)
            seconds[request, index] = time.perf_counter() - started
    champion_ms, challenger_ms = np.median(seconds, axis=0) * 1_000
    return Latency(champion_ms=float(champion_ms), challenger_ms=float(challenger_ms))
