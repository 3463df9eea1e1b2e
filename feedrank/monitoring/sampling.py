"""Which rows are looked at: all rows of some users, and for the drift tests one random row per user and period.

Rows of one user resemble each other, so a test that takes all of them as independent always finds drift
(platform.md, section 4). Reference and window are drawn by the same rule, so that they are comparable. A random row,
not the first: the first row of a window depends on where the window begins.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Ints = NDArray[np.int64]
HASHES = 1 << 53


def chosen_users(users: Ints, *, share: float) -> NDArray[np.bool_]:
    """Which rows belong to users of a fixed random sample of that share of all users, shape [rows].

    A smaller share is a part of a larger one. The hash is the finaliser of SplitMix64 (Steele, Lea, Flood, "Fast
    splittable pseudorandom number generators", OOPSLA 2014).
    """
    bits = users.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return (bits >> np.uint64(11)) < np.uint64(round(share * HASHES))


def drift_sample(users: Ints, times_us: Ints, *, period_us: int, end_us: int, max_rows: int, seed: int) -> Ints:
    """Indices of one row per user and period (counted back from `end_us`), at most `max_rows`, shape [rows]."""
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(users))
    periods = (end_us - 1 - times_us) // period_us
    repeated = pd.DataFrame({"user": users[shuffled], "period": periods[shuffled]}).duplicated().to_numpy()
    # Users with many rows come early in the first order, so a cut of it would favour them.
    return np.sort(rng.permutation(shuffled[~repeated])[:max_rows])
