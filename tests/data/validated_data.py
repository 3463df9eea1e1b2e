"""Batches of the validation's tests, and the call that judges one."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.data_issues import NUM_ITEMS, NUM_USERS, write_damaged
from benchmarks.validation import CONFIG, DAYS, START
from feedrank.config.validation import ValidationConfig
from feedrank.data.validation import ValidationSummary, validate
from feedrank.delta import open_table

NOW = datetime(START.year, START.month, START.day, tzinfo=UTC) + timedelta(days=DAYS)
RATINGS_END = datetime(1998, 4, 25, tzinfo=UTC)


def check(
    frame: pd.DataFrame, folder: Path, *, config: ValidationConfig = CONFIG, now: datetime = NOW, **arguments: bool
) -> ValidationSummary:
    """Judges a frame in the output `folder`/out, which remembers the batches before it."""
    table = folder / f"table-{len(list(folder.iterdir()))}"
    write_damaged(frame, table)
    return validate(
        table, output=folder / "out", config=config, now=now, num_users=NUM_USERS, num_items=NUM_ITEMS, **arguments
    )


def clean(folder: Path) -> pd.DataFrame:
    """The clean rows in the output `folder`/out, in time order."""
    return open_table(folder / "out" / "clean").read().to_pandas().sort_values("timestamp", ignore_index=True)


def quarantined(folder: Path) -> pd.DataFrame:
    """The quarantine in the output `folder`/out."""
    return open_table(folder / "out" / "quarantine").read().to_pandas()


def status(summary: ValidationSummary) -> dict[str, str]:
    """The status of each rule."""
    return {rule.name: rule.status for rule in summary.rules}


def uneven_ratings(*, users: int = 700, days: int = 215, seed: int = 1) -> pd.DataFrame:
    """Ratings of seven months as people give them: most come once and rate many, on busy days and quiet ones."""
    rng = np.random.default_rng(seed)
    arrivals = rng.choice(days, users, p=_normalised(rng.lognormal(0, 1.3, days)))
    counts = np.maximum(20, rng.lognormal(4.2, 0.9, users)).astype(int)
    user = np.repeat(np.arange(1, users + 1), counts)
    started = np.repeat(arrivals * 86_400 + rng.integers(0, 80_000, users), counts)
    gaps = np.concatenate([np.cumsum(rng.integers(1, 15, count)) for count in counts])
    first = int(RATINGS_END.timestamp()) - days * 86_400
    item = rng.choice(1_500, len(user), p=_normalised(1 / np.arange(10, 1_510)))
    rating = rng.choice([1, 2, 3, 4, 5], len(user), p=[0.06, 0.11, 0.27, 0.35, 0.21])
    frame = pd.DataFrame({"user": user, "item": item, "rating": rating, "timestamp": first + started + gaps})
    return frame.drop_duplicates(["user", "item"])


def _normalised(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()
