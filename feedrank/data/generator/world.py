"""The ground truth of the synthetic feed and its oracle: the true click probability of any impression.

    P(click) = P(examined | position) * P(click | examined)
    logit P(click | examined) = intercept + propensity(user) + quality(item) - ageing(item, time)
                                + taste(user, time) . taste(item) + device effect + hour effect

Positions are independent of all else and not recorded, so the best predictor from (user, item, time, device)
takes the mean examination. Examination by position: Craswell et al., "An experimental comparison of click
position-bias models", WSDM 2008.
"""

from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from feedrank.config.data import GeneratorConfig
from feedrank.data import calendar
from feedrank.data.generator.drift import Drift
from feedrank.data.generator.exposure import Exposure
from feedrank.data.generator.population import (
    Floats,
    Ints,
    Stream,
    draw_items,
    draw_users,
    random_stream,
    user_tastes,
)
from feedrank.errors import ConfigError, DataError
from feedrank.schema import MAX_DWELL_SECONDS
from feedrank.tables import US_PER_DAY

EVENING_HOUR = 20
CALIBRATION_DAYS = 32
CALIBRATION_PAGES_PER_DAY = 1_000
MAX_POSITION = 10_000
"""Positions beyond it are too rare to matter for the mean examination."""
LIKE_LOGIT, SHARE_LOGIT, ENGAGEMENT_SLOPE = -2.8, -4.4, 0.6
"""Logits of a like and a share on a click of an item of average appeal, and what one sd of appeal adds."""
DWELL_LOG_MEDIAN, DWELL_LOG_SLOPE, DWELL_LOG_SD = 3.0, 0.25, 0.8
"""Log-normal dwell (s) on a click: median exp(3) = 20 s at average appeal."""
SHORT_LOOK_SHARE, SHORT_LOOK_SECONDS = 0.2, 3.0
"""Share of impressions without a click that get a short look, and its upper limit."""


class Engagement(NamedTuple):
    """What follows an impression, each [rows]."""

    like: npt.NDArray[np.int8]
    share: npt.NDArray[np.int8]
    dwell_time: Floats
    """Seconds."""


class World:
    """Users, items and the law by which they click; deterministic from the config's seed.

    Ids, times (int64 microseconds since 1970-01-01 UTC) and devices (index into schema.DEVICES) are arrays of one
    length. Times may lie outside the config's date range.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        """Draws the world and sets the intercept to meet base_click_rate without drift.

        Raises:
            ConfigError: position bias leaves too little examination for base_click_rate.
        """
        self.config = config
        self.items = draw_items(config)
        self.users = draw_users(config, items=self.items)
        self.drift = Drift(config, users=self.users, items=self.items)
        self.exposure = Exposure(config, users=self.users, items=self.items, drift=self.drift)
        midnight = datetime.combine(config.start_date, datetime.min.time(), tzinfo=UTC)
        self.start_us = int(midnight.timestamp()) * 1_000_000
        self.item_birth_us: Ints = self.start_us + self.drift.birth_day * US_PER_DAY
        """When each item appeared, [I]; millennia ahead for those that never do."""
        self._taste = user_tastes(self.users, topics=self.users.topics, centres=self.items.topic_centres)
        positions = np.arange(1, MAX_POSITION + 1)
        leave = 1 / config.world.session_mean_impressions
        share = leave * (1 - leave) ** (positions - 1)
        self.mean_examination = float(share @ self.examination(positions) / share.sum())
        self.intercept = self._calibrate()

    def active_items(self, time_us: int) -> Ints:
        """Ids of the items that exist at a time."""
        return np.flatnonzero(self.item_birth_us <= time_us)

    def examination(self, position: Ints) -> Floats:
        """Probability that an impression at a position (from 1) of a session is looked at."""
        return np.asarray(position, dtype=np.float64) ** -self.config.world.position_bias

    def relevance(self, user_ids: Ints, item_ids: Ints, times_us: Ints, devices: npt.NDArray[np.int8]) -> Floats:
        """True probability of a click once the impression is examined, [rows]."""
        return _sigmoid(self.intercept + self._logit(user_ids, item_ids, times_us, devices))

    def click_probability(
        self, user_ids: Ints, item_ids: Ints, times_us: Ints, devices: npt.NDArray[np.int8]
    ) -> Floats:
        """True click probability of an impression whose position isn't known, [rows]: the oracle."""
        return self.mean_examination * self.relevance(user_ids, item_ids, times_us, devices)

    def quality_probability(self, item_ids: Ints, times_us: Ints) -> Floats:
        """Click probability of the average user, [rows]: the order of true item quality without the user."""
        return self.mean_examination * _sigmoid(self.intercept + self._quality(item_ids, times_us))

    def draw_engagement(
        self,
        rng: np.random.Generator,
        user_ids: Ints,
        item_ids: Ints,
        clicks: npt.NDArray[np.int8],
        times_us: Ints,
    ) -> Engagement:
        """Draws likes, shares and dwell times, each [rows]; likes and shares only on a click."""
        world = self.config.world
        appeal = self._taste_match(user_ids, item_ids, times_us) + self.items.quality[item_ids]
        appeal = appeal / max(np.hypot(world.taste_sd, world.item_quality_sd), 1e-12)
        like, share, look, length = rng.random((4, len(clicks)))
        noise = rng.standard_normal(len(clicks))
        clicked = np.asarray(clicks, dtype=bool)
        read = np.exp(DWELL_LOG_MEDIAN + DWELL_LOG_SLOPE * appeal + DWELL_LOG_SD * noise)
        glance = np.where(look < SHORT_LOOK_SHARE, SHORT_LOOK_SECONDS * length, 0.0)
        dwell = np.where(clicked, np.clip(read, 1.0, MAX_DWELL_SECONDS), glance)
        return Engagement(
            like=(clicked & (like < _sigmoid(LIKE_LOGIT + ENGAGEMENT_SLOPE * appeal))).astype(np.int8),
            share=(clicked & (share < _sigmoid(SHARE_LOGIT + ENGAGEMENT_SLOPE * appeal))).astype(np.int8),
            dwell_time=np.floor(dwell * 100) / 100,
        )

    def days(self, times_us: Ints) -> Ints:
        """Days since start_date, [rows]; negative before it."""
        return (times_us - self.start_us) // US_PER_DAY

    def _logit(self, user_ids: Ints, item_ids: Ints, times_us: Ints, devices: npt.NDArray[np.int8]) -> Floats:
        """Everything but the intercept, [rows]."""
        world = self.config.world
        match = self._taste_match(user_ids, item_ids, times_us)
        evening = world.evening_effect * np.cos(2 * np.pi * (np.arange(24) - EVENING_HOUR) / 24)
        context = np.array(world.device_effects)[devices] + evening[calendar.hours(times_us)]
        return match + self.users.propensity[user_ids] + self._quality(item_ids, times_us) + context

    def _taste_match(self, user_ids: Ints, item_ids: Ints, times_us: Ints) -> Floats:
        """Logits of the match of tastes, [rows]; sd taste_sd over random pairs of unit vectors."""
        _require_ids(user_ids, count=self.config.num_users, what="user_id")
        _require_ids(item_ids, count=self.config.num_items, what="item_id")
        taste = self._taste[user_ids]
        for shift in self.drift.shifts:
            moved = self.drift.moved(shift, user_ids=user_ids, days=self.days(times_us))
            taste[moved] = shift.taste[user_ids[moved]]
        scale = self.config.world.taste_sd * np.sqrt(self.config.world.taste_dimensions)
        return scale * np.einsum("nd,nd->n", taste, self.items.taste[item_ids])

    def _quality(self, item_ids: Ints, times_us: Ints) -> Floats:
        """Quality less ageing, logits, [rows]."""
        _require_ids(item_ids, count=self.config.num_items, what="item_id")
        world = self.config.world
        age_days = np.maximum((times_us - self.item_birth_us[item_ids]) / US_PER_DAY, 0.0)
        stale = 1 - np.exp2(-age_days / world.item_age_half_life_days)
        return self.items.quality[item_ids] - world.item_age_effect * stale

    def _calibrate(self) -> float:
        """Intercept at which impressions of the undrifted world have base_click_rate on average."""
        config = self.config
        wanted = config.world.base_click_rate / self.mean_examination
        if wanted >= 1:
            raise ConfigError(
                f"generator.world.base_click_rate is {config.world.base_click_rate}, but position_bias lets users "
                f"examine only {self.mean_examination:.3f} of the impressions: lower one of the two"
            )
        if config.drifts:
            return World(config.model_copy(update={"drifts": ()})).intercept
        logits = np.concatenate(
            [self._sample_logits(int(day)) for day in np.linspace(0, config.num_days - 1, CALIBRATION_DAYS)]
        )
        low, high = -50.0, 50.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if _sigmoid(logits + middle).mean() < wanted else (low, middle)
        return (low + high) / 2

    def _sample_logits(self, day: int) -> Floats:
        rng = random_stream(self.config.seed, Stream.CALIBRATION, day)
        users = self.exposure.draw_users(rng, day=day, size=CALIBRATION_PAGES_PER_DAY)
        devices = self.exposure.draw_devices(rng, user_ids=users, day=day).astype(np.int8)
        pages = self.exposure.draw_pages(rng, drift_rng=rng, user_ids=users, day=day)
        times = self.start_us + day * US_PER_DAY + rng.integers(0, US_PER_DAY, size=len(users))
        users, devices, times = (np.repeat(column, pages.shape[1]) for column in (users, devices, times))
        return self._logit(users, pages.ravel(), times, devices)


def _sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-logits))


def _require_ids(ids: Ints, *, count: int, what: str) -> None:
    if len(ids) and (ids.min() < 0 or ids.max() >= count):
        raise DataError(f"{what}: the synthetic world has 0 … {count - 1}, got {ids.min()} … {ids.max()}")
