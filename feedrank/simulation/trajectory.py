"""One policy's platform through the days: its users, its interactions so far, and its figures of each day."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from feedrank import storage
from feedrank.config.feed import Feed
from feedrank.config.simulation import AudienceConfig, PolicyName
from feedrank.data.generator import World
from feedrank.data.generator.population import Ints
from feedrank.features.snapshot import save_snapshot, take_snapshot
from feedrank.simulation.audience import Audience
from feedrank.simulation.browsing import Shown, browse, to_interactions
from feedrank.simulation.policies import Policy, explore, to_utc
from feedrank.simulation.results import PolicyDay
from feedrank.simulation.visits import Visits
from feedrank.tables import US_PER_DAY


class Trajectory:
    """What happens under one policy."""

    def __init__(
        self,
        name: PolicyName,
        policy: Policy,
        *,
        world: World,
        audience: Audience,
        history: list[pa.Table],
        explores: bool,
        config: AudienceConfig,
    ) -> None:
        """`history` holds the interactions of earlier days; `explores`: a share of the candidates is moved."""
        self.name, self.policy, self.world = name, policy, world
        self.audience, self.history = audience, list(history)
        self.days: list[PolicyDay] = []
        self._explores, self._config = explores, config
        self._latest_users: Ints | None = None

    def play(self, planned: Visits) -> Visits:
        """One day; returns the visits that took place."""
        visits = self.audience.who_comes(planned)
        order = self.policy.rank(visits)
        if self._explores:
            depth = self.world.config.world.session_mean_impressions
            order = explore(order, visits, share=self._config.exploration_share, depth=depth)
        shown = browse(self.world, visits, order=order, config=self._config)
        self.audience.remember(visits, clicks_per_visit=shown.clicks_per_visit)
        self.history.append(to_interactions(visits, shown, name=self.name))
        self.policy.learn(self.history[-1])
        self.days.append(self._figures(planned, visits, shown))
        return visits

    def interactions(self) -> pa.Table:
        """All so far, in time order."""
        return pa.concat_tables(self.history)

    def write_snapshot(self, directory: Path, *, cutoff: datetime, feed: Feed) -> None:
        """Replaces the online features by those of a cut-off."""
        snapshot = take_snapshot(self.interactions(), cutoff=cutoff, feed=feed)
        with storage.new_directory(directory) as fresh:
            save_snapshot(snapshot, fresh)

    def _figures(self, planned: Visits, visits: Visits, shown: Shown) -> PolicyDay:
        users = np.unique(visits.user_ids)
        before, self._latest_users = self._latest_users, users
        return PolicyDay(
            date=self.world.config.start_date + timedelta(days=visits.day),
            planned_visits=len(planned),
            visits=len(visits),
            users=len(users),
            impressions=len(shown.items),
            clicks=int(shown.click.sum()),
            engaged=int(np.maximum(shown.engagement.like, shown.engagement.share).sum()),
            session_seconds=float(shown.seconds_per_visit.mean()) if len(visits) else 0.0,
            retention=None if before is None else float(np.isin(before, users).mean()),
        )


def midnight(world: World, day: int) -> datetime:
    """The beginning of a day (since the world's start_date)."""
    return to_utc(world.start_us + day * US_PER_DAY)
