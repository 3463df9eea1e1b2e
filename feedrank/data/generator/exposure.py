"""The platform's logging policy: which user comes, on which device, and which items are shown.

An impression comes from the user's own topics with probability personalised_exposure, else from all items; within
either, in proportion to the items' popularity, which falls with age. Items come in pages of PAGE_SIZE; a page rarely
holds an item twice. A page is drawn whole, seen or not, and in random order: were repeats avoided over what is seen
only, popular items would have better positions than others, and the oracle couldn't know.
"""

import numpy as np

from feedrank.config.data import GeneratorConfig
from feedrank.data.generator.drift import EXPOSURE_LAG_DAYS, SHIFTED_DEVICE_SHARES, TAKEOVER_SHARE, Drift
from feedrank.data.generator.population import Floats, Ints, Items, Users

PAGE_SIZE = 8
REDRAWS = 3
"""How often repeats within a page are replaced; the few that are left stay."""


class Exposure:
    """Draws users, devices and items for a day."""

    def __init__(self, config: GeneratorConfig, *, users: Users, items: Items, drift: Drift) -> None:
        self._world = config.world
        self._users = users
        self._drift = drift
        self._by_topic = np.argsort(items.topic, kind="stable")
        self._popularity = items.popularity[self._by_topic]
        self._birth_day = items.birth_day[self._by_topic]
        self._topic_bounds = np.searchsorted(items.topic[self._by_topic], np.arange(config.world.num_topics + 1))
        self._by_joining = np.argsort(users.join_day, kind="stable")
        self._join_day = users.join_day[self._by_joining]
        self._activity = np.cumsum(users.activity[self._by_joining])
        self._topic_cumulative = np.cumsum(users.topic_weights, axis=1)

    def active_weight(self, day: int) -> float:
        """Activity of the users who have joined by a day, as a share of all users'."""
        return float(self._activity[np.searchsorted(self._join_day, day, side="right") - 1])

    def draw_users(self, rng: np.random.Generator, *, day: int, size: int) -> Ints:
        """User ids of sessions, [size], in proportion to the activity of those who have joined."""
        return self._by_joining[_pick(self._activity, rng.random(size) * self.active_weight(day))]

    def draw_devices(self, rng: np.random.Generator, *, user_ids: Ints, day: int) -> Ints:
        """Device of each session, [sessions], as an index into schema.DEVICES."""
        shift = self._drift.strength("device_mix", day)
        shares = (1 - shift) * self._users.device_shares[user_ids] + shift * np.array(SHIFTED_DEVICE_SHARES)
        cumulative = np.cumsum(shares, axis=1)[:, :-1]
        return (rng.random(len(user_ids))[:, None] >= cumulative).sum(axis=1)

    def draw_pages(self, rng: np.random.Generator, *, drift_rng: np.random.Generator, user_ids: Ints, day: int) -> Ints:
        """Item ids, [pages, PAGE_SIZE], of pages made for `user_ids` [pages] on a day."""
        cumulative = self._cumulative_exposure(day)
        topics = self._topics_known_to_platform(day)

        def draw(users: Ints) -> Ints:
            items = self._draw_once(rng, cumulative=cumulative, topics=topics, user_ids=users)
            return self._take_over(drift_rng, items=items, day=day)

        pages = draw(np.repeat(user_ids, PAGE_SIZE)).reshape(-1, PAGE_SIZE)
        changed = np.arange(len(pages))
        for _ in range(REDRAWS):
            pages[changed] = np.sort(pages[changed], axis=1)
            row, place = np.nonzero(np.diff(pages[changed], axis=1) == 0)
            pages[changed[row], place] = draw(user_ids[changed[row]])
            changed = np.unique(changed[row])
        return rng.permuted(pages, axis=1)

    def _draw_once(self, rng: np.random.Generator, *, cumulative: Floats, topics: Ints, user_ids: Ints) -> Ints:
        draws = rng.random((3, len(user_ids)))
        own = (draws[1][:, None] >= self._topic_cumulative[user_ids, :-1]).sum(axis=1)
        topic = topics[user_ids, own]
        edges = np.concatenate([[0.0], cumulative])[self._topic_bounds]
        low, high = edges[topic], edges[topic + 1]
        everywhere = (draws[0] >= self._world.personalised_exposure) | (high <= low)
        low, high = np.where(everywhere, 0.0, low), np.where(everywhere, cumulative[-1], high)
        point = np.minimum(low + draws[2] * (high - low), np.nextafter(high, 0.0))
        return self._by_topic[_pick(cumulative, point)]

    def _take_over(self, rng: np.random.Generator, *, items: Ints, day: int) -> Ints:
        for takeover in self._drift.takeovers:
            share = TAKEOVER_SHARE * self._drift.intensity(takeover.scenario, np.array([day]))[0]
            if share > 0:
                draws = rng.random((2, len(items)))
                taken = takeover.items[_pick(takeover.cumulative, draws[1])]
                items = np.where(draws[0] < share, taken, items)
        return items

    def _cumulative_exposure(self, day: int) -> Floats:
        """Cumulative exposure weights of the items in the order of `_by_topic`, [I]."""
        age = day - self._birth_day
        fresh = np.exp2(-np.maximum(age, 0) / self._world.item_age_half_life_days)
        stale = self._world.stale_exposure
        return np.cumsum(np.where(age >= 0, self._popularity * (stale + (1 - stale) * fresh), 0.0))

    def _topics_known_to_platform(self, day: int) -> Ints:
        """The users' topics as the platform believes them to be, [U, T]."""
        topics = self._users.topics
        everyone = np.arange(len(topics))
        for shift in self._drift.shifts:
            learnt = self._drift.moved(shift, user_ids=everyone, days=everyone * 0 + day - EXPOSURE_LAG_DAYS)
            topics = np.where(learnt[:, None], shift.topics, topics)
        return topics


def _pick(cumulative: Floats, points: Floats) -> Ints:
    """Index of the entry whose part of the cumulative weights holds each point."""
    return np.minimum(np.searchsorted(cumulative, points, side="right"), len(cumulative) - 1)
