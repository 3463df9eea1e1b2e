"""The users and items of the synthetic world, drawn once from the seed.

Shapes: U users, I items, K topics, T topics per user, D taste dimensions. Days count from the config's
start_date (0) and may be negative; users join and items are born at midnight UTC.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from feedrank.config.data import GeneratorConfig

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

NEVER = 1_000_000
"""Birth day of a reserved item that no scenario has called up."""
RESERVED_ITEM_SHARE = 0.02
"""Share of the items that only the drift kind new_items shows: the same world with and without drift."""
USER_TASTE_NOISE = 0.3
ITEM_TASTE_NOISE = 0.5
"""Noise of a taste vector around its topics, as a share of a topic's length 1."""
TOPIC_CONCENTRATION = 1.0
"""Dirichlet parameter of a user's weights over the own topics: some have one love, some several."""
DEVICE_CONCENTRATION = 1.5
"""Dirichlet parameter of a user's devices: most have one main device."""


class Stream(IntEnum):
    """Independent random streams of one seed; a new member leaves the draws of the others as they are."""

    USERS = 0
    ITEMS = 1
    CALENDAR = 2
    EVENTS = 3
    DRIFT_WORLD = 4
    DRIFT_EVENTS = 5
    CALIBRATION = 6


def random_stream(seed: int, stream: Stream, *keys: int) -> np.random.Generator:
    """The generator of one stream (and day, part, scenario, …) of a seed."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(stream), *keys)))


@dataclass(frozen=True)
class Users:
    """What is true of each user."""

    topics: Ints
    """Preferred topics, [U, T]."""
    topic_weights: Floats
    """Weights over them, [U, T], rows sum to 1."""
    taste_noise: Floats
    """The part of the taste that no topic explains, [U, D]."""
    propensity: Floats
    """Logits of the user over the average user, [U]."""
    activity: Floats
    """Relative number of sessions, [U]."""
    join_day: Ints
    """First day of activity, [U]."""
    device_shares: Floats
    """The user's own device mix, [U, devices]."""


@dataclass(frozen=True)
class Items:
    """What is true of each item."""

    topic: Ints
    """[I]"""
    taste: Floats
    """Unit vectors, [I, D]."""
    topic_centres: Floats
    """Unit vectors, [K, D]."""
    quality: Floats
    """Logits over the average item, [I]."""
    popularity: Floats
    """Relative exposure of a new item, [I], Zipf-Mandelbrot."""
    birth_day: Ints
    """First day on which it can be shown, [I]; negative for those that exist at the start."""
    reserved: Ints
    """Ids of the items that only a new_items scenario shows."""


def draw_items(config: GeneratorConfig) -> Items:
    """Draws topics, tastes, qualities, popularity and births."""
    world, count = config.world, config.num_items
    rng = random_stream(config.seed, Stream.ITEMS)
    centres = unit_rows(rng.standard_normal((world.num_topics, world.taste_dimensions)))
    topic = rng.choice(world.num_topics, size=count, p=rng.dirichlet(np.full(world.num_topics, 5.0)))
    noise = rng.standard_normal((count, world.taste_dimensions)) / np.sqrt(world.taste_dimensions)
    quality = rng.standard_normal(count)
    correlation = world.popularity_quality_correlation
    appeal = correlation * quality + np.sqrt(1 - correlation**2) * rng.standard_normal(count)
    rank = np.empty(count)
    rank[np.argsort(-appeal)] = np.arange(1, count + 1)
    popularity = (rank + world.popularity_rank_offset) ** -world.popularity_exponent
    reserved = np.sort(rng.choice(count, size=int(RESERVED_ITEM_SHARE * count), replace=False))
    birth_day = np.full(count, NEVER)
    birth_day[np.delete(np.arange(count), reserved)] = _arrival_days(
        rng, count=count - len(reserved), initial_share=world.initial_item_share, config=config
    )
    past = rng.integers(0, max(1, round(2 * world.item_age_half_life_days)), size=count)
    birth_day = np.where(birth_day == 0, -past, birth_day)
    return Items(
        topic=topic.astype(np.int64),
        taste=unit_rows(centres[topic] + ITEM_TASTE_NOISE * noise),
        topic_centres=centres,
        quality=world.item_quality_sd * quality,
        popularity=popularity / popularity.sum(),
        birth_day=birth_day,
        reserved=reserved.astype(np.int64),
    )


def draw_users(config: GeneratorConfig, *, items: Items) -> Users:
    """Draws tastes over the items' topics, propensities, activity, devices and joining days."""
    world, count = config.world, config.num_users
    rng = random_stream(config.seed, Stream.USERS)
    topic_share = np.bincount(items.topic, minlength=world.num_topics) / config.num_items
    size = (count, world.topics_per_user)
    noise = rng.standard_normal((count, world.taste_dimensions)) / np.sqrt(world.taste_dimensions)
    activity = np.exp(world.user_activity_sd * rng.standard_normal(count))
    return Users(
        topics=rng.choice(world.num_topics, size=size, p=topic_share).astype(np.int64),
        topic_weights=rng.dirichlet(np.full(world.topics_per_user, TOPIC_CONCENTRATION), size=count),
        taste_noise=USER_TASTE_NOISE * noise,
        propensity=world.user_propensity_sd * rng.standard_normal(count),
        activity=activity / activity.sum(),
        join_day=_arrival_days(rng, count=count, initial_share=world.initial_user_share, config=config),
        device_shares=rng.dirichlet(DEVICE_CONCENTRATION * np.array(world.device_shares), size=count),
    )


def user_tastes(users: Users, *, topics: Ints, centres: Floats) -> Floats:
    """The users' unit taste vectors, [U, D], if they preferred `topics` [U, T]."""
    return unit_rows(np.einsum("ut,utd->ud", users.topic_weights, centres[topics]) + users.taste_noise)


def unit_rows(vectors: Floats) -> Floats:
    """Rows scaled to length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _arrival_days(rng: np.random.Generator, *, count: int, initial_share: float, config: GeneratorConfig) -> Ints:
    """Days of arrival, [count]: day 0 for the initial share (at least one), else uniform over the later days."""
    days = rng.integers(1, max(2, config.num_days), size=count)
    arrived = rng.permutation(count) < max(1, round(initial_share * count))
    return np.where(arrived | (config.num_days == 1), 0, days)
