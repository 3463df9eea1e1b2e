"""Synthetic interactions with a known ground truth: the world, its oracle, and the events seen in it."""

from feedrank.data.generator.events import generate
from feedrank.data.generator.world import Engagement, World

__all__ = ["Engagement", "World", "generate"]
