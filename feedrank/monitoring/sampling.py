"""Which rows a drift test may see: the first row of a visit, one visit per user and window.

Rows of one user resemble each other, so a test that takes all of them as independent always finds drift
(platform.md, section 4). Reference and window are drawn by the same rule, so that they are comparable:
the first row of a visit also has the same features whether they come from the last snapshot or from the exact history.
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


def visit_starts(users: Ints, times_us: Ints, *, gap_us: int, rng: np.random.Generator) -> Ints:
    """Indices of one row of each visit's first moment, shape [visits].

    A visit is a run of one user's rows with pauses of at most `gap_us`. Of rows with the same first timestamp
    (the candidates of one request) a random one is taken.
    """
    if not len(users):
        return np.empty(0, dtype=np.int64)
    order = rng.permutation(len(users))
    order = order[np.lexsort((times_us[order], users[order]))]
    new_user = np.diff(users[order], prepend=users[order[0]] - 1) != 0
    pause = np.diff(times_us[order], prepend=times_us[order[0]]) > gap_us
    return order[new_user | pause]


def one_per_user(rows: Ints, users: Ints, periods: Ints, *, rng: np.random.Generator) -> Ints:
    """One random row of `rows` for each user and period, in random order."""
    shuffled = rng.permutation(rows)
    repeated = pd.DataFrame({"user": users[shuffled], "period": periods[shuffled]}).duplicated()
    # Users with many rows come early in the first order, so a cut of it would favour them.
    return rng.permutation(shuffled[~repeated.to_numpy()])


def drift_sample(
    users: Ints, times_us: Ints, *, gap_us: int, period_us: int, end_us: int, max_rows: int, seed: int
) -> Ints:
    """Indices of one visit start per user and period (counted back from `end_us`), at most `max_rows`, shape [rows]."""
    rng = np.random.default_rng(seed)
    starts = visit_starts(users, times_us, gap_us=gap_us, rng=rng)
    periods = (end_us - 1 - times_us) // period_us
    return np.sort(one_per_user(starts, users, periods, rng=rng)[:max_rows])
