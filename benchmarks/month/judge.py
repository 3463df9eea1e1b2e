"""What the loop won back of the clicks that the taste shift took: the recovered share of `feedrank/simulation`.

The first champion, never changed, and a ranker with full knowledge of the new world (trained on a history as long, with
the new tastes from its first day) rank the same visits as the platform, with the same luck of the users and the
platform's own online features.
"""

import shutil
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
from pyarrow import csv

from benchmarks.month.feed import LEFT_OUT, Day, Feed
from benchmarks.month.platform import Platform
from feedrank.data.generator import World
from feedrank.data.generator.drift import EXPOSURE_LAG_DAYS
from feedrank.errors import FeedrankError
from feedrank.simulation.audience import Audience
from feedrank.simulation.browsing import Shown, browse
from feedrank.simulation.policies import ModelPolicy, explore


@dataclass
class Judge:
    """Counts clicks and impressions of each policy on the days that matter."""

    feed: Feed
    platform: Platform
    counts: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Keeps the first champion, and trains the informed ranker by the same commands.

        Raises:
            FeedrankError: it can't be trained.
        """
        sizes, folder = self.feed.sizes, self.platform.folder / "informed"
        shutil.copytree((self.platform.volume / "served" / "current").resolve(), self.platform.folder / "frozen")
        (folder / "exports").mkdir(parents=True)
        world = World(sizes.generator(shifted_from=0))
        audience = Audience(num_users=sizes.users, config=sizes.audience)
        for day in range(-sizes.history_days, 0):
            rows = self.feed.random_day(world, audience, day).drop_columns(list(LEFT_OUT))
            csv.write_csv(rows, folder / "exports" / f"{sizes.date_of(day) + timedelta(days=1)}.csv")
        environment = {"FEEDRANK_CONFIG_DIR": str(self.platform.config)}
        ingest = ["ingest", str(folder / "exports")]
        for step in (ingest, *([name] for name in ("validate", "features", "train", "evaluate", "register"))):
            outcome = self.platform.run(*step, "--run-dir", str(folder), environment=environment)
            if outcome.code:
                raise FeedrankError(f"the informed ranker: {' '.join(step)}: {outcome.text}")
        self._policies = {
            name: ModelPolicy(self.platform.folder / bundle)
            for name, bundle in (("frozen", "frozen"), ("informed", "informed/refitted"))
        }

    def judge(self, number: int, day: Day, shown: Shown) -> None:
        """Takes in a served day."""
        sizes = self.feed.sizes
        self.counts["loop", number] = (int(shown.click.sum()), len(shown.items))
        if number not in (*self._before(), *self._floor(), *self._judged()):
            return
        depth = self.feed.world.config.world.session_mean_impressions
        for name, policy in self._policies.items():
            policy.refresh(self.platform.online / "current")
            order = policy.rank(day.visits)
            order = explore(order, day.visits, share=sizes.audience.exploration_share, depth=depth)
            seen = browse(self.feed.world, day.visits, order=order, config=sizes.audience)
            self.counts[name, number] = (int(seen.click.sum()), len(seen.items))

    def _before(self) -> range:
        return range(self.feed.sizes.taste_shift - self.feed.sizes.judged_days, self.feed.sizes.taste_shift)

    def _floor(self) -> range:
        first = self.feed.sizes.taste_shift + EXPOSURE_LAG_DAYS
        return range(first, first + self.feed.sizes.judged_days)

    def _judged(self) -> range:
        return range(self.feed.sizes.days - self.feed.sizes.judged_days, self.feed.sizes.days)

    def ctr(self, policy: str, days: range) -> float:
        """Clicks over impressions of a policy on some days."""
        clicks, impressions = np.sum([self.counts[policy, day] for day in days], axis=0)
        return float(clicks / impressions)

    def recovery(self) -> dict[str, float | None]:
        """Click-through rates, and the shares of what was lost that loop and frozen champion have in the end."""
        if self._floor()[-1] >= self._judged()[0]:
            return {"recovered_share": None}
        floor, informed = self.ctr("frozen", self._floor()), self.ctr("informed", self._judged())
        loop, frozen = self.ctr("loop", self._judged()), self.ctr("frozen", self._judged())
        return {
            "before_ctr": round(self.ctr("loop", self._before()), 4),
            "floor_ctr": round(floor, 4),
            "loop_ctr": round(loop, 4),
            "frozen_ctr": round(frozen, 4),
            "informed_ctr": round(informed, 4),
            "recovered_share": round((loop - floor) / (informed - floor), 4),
            "frozen_share": round((frozen - floor) / (informed - floor), 4),
        }
