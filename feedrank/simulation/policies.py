"""Who ranks the candidates of a visit: the policies that need no predictor.

Each gives an order [V, N]: the columns of `visits.candidates`, the best first.
"""

from datetime import datetime
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from feedrank import schema
from feedrank.data.generator import World
from feedrank.data.generator.population import Floats, Ints
from feedrank.features.snapshot import load_snapshot
from feedrank.model.bundle import load_bundle
from feedrank.scoring import Scorer
from feedrank.simulation.browsing import relevance
from feedrank.simulation.visits import STREAM, Visits


class Policy(Protocol):
    """Ranks the candidates of visits."""

    def rank(self, visits: Visits) -> Ints:
        """The order of the candidates, [V, N]."""
        ...

    def learn(self, interactions: pa.Table) -> None:
        """Takes in a day's feedback (`schema.INTERACTIONS`)."""
        ...


def best_first(scores: Floats) -> Ints:
    """The order by falling score, [V, N]."""
    return np.argsort(-scores, axis=1, kind="stable")


class RandomPolicy:
    """No order."""

    def __init__(self, world: World) -> None:
        self._seed = world.config.seed

    def rank(self, visits: Visits) -> Ints:
        """See `Policy`."""
        rng = np.random.default_rng([STREAM, self._seed, visits.day, 2])
        return best_first(rng.random(visits.candidates.shape))

    def learn(self, interactions: pa.Table) -> None:
        """Nothing."""


class PopularityPolicy:
    """The items with the most clicks so far."""

    def __init__(self, *, num_items: int) -> None:
        self._clicks = np.zeros(num_items)

    def rank(self, visits: Visits) -> Ints:
        """See `Policy`."""
        return best_first(self._clicks[visits.candidates])

    def learn(self, interactions: pa.Table) -> None:
        """Counts."""
        items, clicks = interactions[schema.ITEM_ID].to_numpy(), interactions[schema.CLICK].to_numpy()
        self._clicks += np.bincount(items, clicks, minlength=len(self._clicks))


class OraclePolicy:
    """The order of the true click probabilities."""

    def __init__(self, world: World) -> None:
        self._world = world

    def rank(self, visits: Visits) -> Ints:
        """See `Policy`."""
        return best_first(relevance(self._world, visits))

    def learn(self, interactions: pa.Table) -> None:
        """Nothing: it knows all."""


class ModelPolicy:
    """A model bundle, scored in this process."""

    def __init__(self, bundle: Path) -> None:
        self._bundle = load_bundle(bundle)
        self._scorer = Scorer.build(self._bundle, self._bundle.snapshot)

    def refresh(self, snapshot: Path) -> None:
        """Takes newer online features."""
        self._scorer = Scorer.build(self._bundle, load_snapshot(snapshot))

    def rank(self, visits: Visits) -> Ints:
        """See `Policy`."""
        rows = zip(visits.user_ids.tolist(), visits.times_us.tolist(), visits.devices.tolist(), strict=True)
        ranked = [
            self._scorer.rank(user, items, time_us=time_us, device=device).item_ids
            for (user, time_us, device), items in zip(rows, visits.candidates, strict=True)
        ]
        return order_of(visits.candidates, np.stack(ranked))

    def learn(self, interactions: pa.Table) -> None:
        """Nothing: others train it."""


def order_of(candidates: Ints, ranked: Ints) -> Ints:
    """The order that turns candidates into ranked items, both [V, N] with the same items in each row."""
    by_item = np.argsort(candidates, axis=1)
    order = np.empty_like(by_item)
    np.put_along_axis(order, np.argsort(ranked, axis=1), by_item, axis=1)
    return order


def explore(order: Ints, visits: Visits, *, share: float, depth: float) -> Ints:
    """Moves a random share of the candidates to random places among the first `depth`, so that the model also learns
    about what it thinks little of."""
    place = np.argsort(order, axis=1).astype(np.float64)
    moved = visits.luck.explore < share
    return np.argsort(np.where(moved, visits.luck.place * depth, place), axis=1, kind="stable")


def to_utc(time_us: int) -> datetime:
    """Microseconds since 1970 as an aware datetime."""
    from datetime import UTC, timedelta

    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
