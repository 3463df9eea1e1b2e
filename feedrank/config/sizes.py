"""The keys that a small world may set otherwise than the shipped configuration: sizes, and nothing that judges.

A kind profile, a benchmark or a notebook shows a system only if it runs its settings; a test compares them. A threshold
that a small world can't meet asks for another world.
"""

from collections.abc import Iterable, Mapping
from typing import Any

SIZES = (
    "data.generator",
    "model.embedding_dim",
    "model.hidden_dims",
    "model.training.epochs",
    "model.training.pretraining.rank",
    "serving.limits.max_queue_delay_ms",  # of a machine that everything shares
)
"""Keys, or sections of which every key is a size: a synthetic world is the data's, not the product's."""


def other_than_sizes(keys: Iterable[str]) -> list[str]:
    """Those of some dotted keys that are no sizes."""
    return sorted(key for key in keys if not any(f"{key}.".startswith(f"{size}.") for size in SIZES))


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a tree by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return found
