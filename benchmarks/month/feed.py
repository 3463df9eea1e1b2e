"""The feed that the platform ranks: simulated users, what they see and do, and the nightly export of it.

The world and its users are the simulation's (`feedrank/simulation`). The backend asks the predictor over HTTP, shows a
share of the candidates at random places, and exports a day's impressions in the night after it. A few clicks are joined
late: an export has their impressions without a click, and the next night's again, with it.
"""

import asyncio
import json
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from benchmarks.month.clock import MonthClock
from benchmarks.month.settings import Sizes
from feedrank import schema
from feedrank.client import request_body
from feedrank.data.calendar import US_PER_HOUR
from feedrank.data.generator import World
from feedrank.data.generator.population import Ints
from feedrank.simulation.audience import Audience
from feedrank.simulation.browsing import Shown, browse, to_interactions
from feedrank.simulation.policies import RandomPolicy, explore, order_of, to_utc
from feedrank.simulation.trajectory import Trajectory
from feedrank.simulation.visits import Visits, draw_visits

LATE_SHARE = 0.03
"""Of the clicks."""
CONCURRENCY = 8
AHEAD_HOURS, AHEAD_USERS = 9, 20
"""The clock of every 20th user's client is so much ahead on the day of that incident."""
LEFT_OUT = (schema.INTERACTION_ID, schema.TIME_OF_DAY, schema.DAY_OF_WEEK, schema.ACTION_TIME)
LABELS = (schema.CLICK, schema.LIKE, schema.SHARE, schema.DWELL_TIME)


@dataclass
class Day:
    """A day of visits, and what was ranked for them."""

    visits: Visits
    ahead_us: Ints
    """By how much the clients' clocks are ahead, [V]."""
    order: Ints
    """Of the candidates, the best first, [V, N]."""
    scores: NDArray[np.float64]
    """Of the candidates, [V, N]."""
    refused: int = 0


class Feed:
    """One feed and its users."""

    def __init__(self, sizes: Sizes, *, exports: Path) -> None:
        """`exports` is the folder of the nightly files."""
        self.sizes, self.world, self.exports = sizes, World(sizes.generator()), exports
        self.audience = Audience(num_users=sizes.users, config=sizes.audience)
        self._chance = np.random.default_rng([sizes.seed, 11])
        self._late: pa.Table | None = None

    def history(self) -> None:
        """The days in random order, and their exports."""
        for day in range(-self.sizes.history_days, 0):
            self.export(day, self.random_day(self.world, self.audience, day))

    def random_day(self, world: World, audience: Audience, day: int) -> pa.Table:
        """The interactions of a day in random order."""
        config = self.sizes.audience
        past = Trajectory(
            "random", RandomPolicy(world), world=world, audience=audience, history=[], explores=False, config=config
        )
        past.play(draw_visits(world, day=day + self.sizes.history_days, config=config))
        return past.interactions()

    def begin(self, day: int, *, traffic: float = 1.0, ahead: bool = False) -> Day:
        """The visits of a served day."""
        config = self.sizes.audience
        config = config.model_copy(update={"visits_per_day": round(config.visits_per_day * traffic)})
        planned = draw_visits(self.world, day=day + self.sizes.history_days, config=config)
        visits = self.audience.who_comes(planned)
        late = (visits.user_ids % AHEAD_USERS == 0) & ahead
        shape = visits.candidates.shape
        return Day(
            visits, late * AHEAD_HOURS * US_PER_HOUR, np.tile(np.arange(shape[1]), (shape[0], 1)), np.zeros(shape)
        )

    def end(self, day: Day) -> tuple[pa.Table, Shown]:
        """What the users did, as the backend knows it."""
        config = self.sizes.audience
        depth = self.world.config.world.session_mean_impressions
        order = explore(day.order, day.visits, share=config.exploration_share, depth=depth)
        shown = browse(self.world, day.visits, order=order, config=config)
        self.audience.remember(day.visits, clicks_per_visit=shown.clicks_per_visit)
        stamped = replace(shown, times_us=shown.times_us + day.ahead_us[shown.visits])
        return to_interactions(day.visits, stamped, name="feed"), shown

    def export(self, day: int, interactions: pa.Table, *, device: str | None = None, lost: bool = False) -> None:
        """Writes the night's file: the day without its late clicks, and the late clicks of the day before."""
        rows = interactions.drop_columns(list(LEFT_OUT))
        late = (self._chance.random(len(rows)) < LATE_SHARE) & (rows[schema.CLICK].to_numpy() == 1)
        first = rows
        for label in LABELS:
            values = np.where(late, 0, rows[label].to_numpy())
            first = _with(first, label, pa.array(values, type=rows.schema.field(label).type))
        if device is not None:
            first = _with(first, schema.DEVICE, pa.array([device] * len(rows)))
        parts = [first] if self._late is None else [first, self._late]
        self._late = rows.filter(pa.array(late))
        if not lost:
            csv.write_csv(pa.concat_tables(parts), self.file_of(self.sizes.date_of(day)))

    def mend(self, day: int, interactions: pa.Table) -> None:
        """Writes a day's file again, as it should have been."""
        csv.write_csv(interactions.drop_columns(list(LEFT_OUT)), self.file_of(self.sizes.date_of(day)))

    def file_of(self, day: date) -> Path:
        """The export that is due after a day."""
        return self.exports / f"{day + timedelta(days=1)}.csv"


def _with(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(place), column)


def send(day: Day, rows: Ints, *, url: str, clock: MonthClock) -> None:
    """Asks the predictor to rank for some visits, in their order, at their times."""
    asyncio.run(_send(day, rows, url=url, clock=clock))


async def _send(day: Day, rows: Ints, *, url: str, clock: MonthClock) -> None:
    visits = day.visits

    async def rank(client: httpx.AsyncClient, row: int) -> None:
        body = request_body(
            int(visits.user_ids[row]),
            visits.candidates[row].tolist(),
            device=schema.DEVICES[visits.devices[row]],  # type: ignore[arg-type]
            timestamp=to_utc(int(visits.times_us[row] + day.ahead_us[row])),
        )
        try:
            answer = await client.post("/predict", json=body)
        except httpx.TransportError:
            day.refused += 1
            return
        if answer.status_code != 200:
            day.refused += 1
            return
        ranked = json.loads(answer.content)["predictions"]
        items = np.array([item["item_id"] for item in ranked])
        order = order_of(visits.candidates[row][None], items[None])[0]
        day.order[row] = order
        day.scores[row, order] = [item["score"] for item in ranked]

    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for first in range(0, len(rows), CONCURRENCY):
            batch = rows[first : first + CONCURRENCY]
            clock.reach(to_utc(int(visits.times_us[batch[0]])))
            await asyncio.gather(*(rank(client, int(row)) for row in batch))


def in_span(day: Day, start_us: int, end_us: int) -> Ints:
    """Rows of the visits of a span of time."""
    return np.flatnonzero((day.visits.times_us >= start_us) & (day.visits.times_us < end_us))
