"""The paired bootstrap: metrics under weights, intervals that cover, and users as the unit of chance."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from feedrank.evaluation.metrics import group_auc, log_loss, roc_auc
from feedrank.promotion.bootstrap import WeightedMetrics, paired_gain


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=40).filter(
        lambda rows: sum(weight for *_, weight in rows) > 0
    )
)
def test_integer_weights_are_repeated_rows(rows):
    targets, tenths, weights = (np.array(column) for column in zip(*rows, strict=True))
    scores = tenths / 10 + 0.05
    repeated = np.repeat(np.arange(len(rows)), weights)
    metrics = WeightedMetrics(targets, scores)
    np.testing.assert_allclose(metrics.auc(weights), roc_auc(targets[repeated], scores[repeated]), atol=1e-12)
    np.testing.assert_allclose(metrics.log_loss(weights), log_loss(targets[repeated], scores[repeated]), atol=1e-12)


def clustered_rows(rng, *, users=100, rows_per_user=12, noise=0.5):
    """Rows whose users differ, and two noisy versions of the true click probabilities, equally good."""
    user = np.repeat(np.arange(users), rows_per_user)
    logit = -1.5 + rng.normal(0, 0.8, len(user))
    targets = (rng.random(len(user)) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    # A model errs on a user as a whole, so its rows hold less information than as many independent ones.
    scores = [1 / (1 + np.exp(-logit - rng.normal(0, noise, users)[user] * rng.choice([-1, 1]))) for _ in range(2)]
    return user, targets, scores


def gain_of(rng, *, resamples=100):
    user, targets, (champion, challenger) = clustered_rows(rng)
    return paired_gain(
        users=user,
        targets=targets,
        champion=champion,
        challenger=challenger,
        resamples=resamples,
        confidence=0.95,
        seed=1,
    )


def test_equally_good_models_seldom_differ_with_confidence():
    rng = np.random.default_rng(5)
    gains = [gain_of(rng) for _ in range(150)]
    for name in ("gauc", "auc", "log_loss"):
        better = np.mean([getattr(gain, name).low > 0 for gain in gains])
        covered = np.mean([getattr(gain, name).low <= 0 <= getattr(gain, name).high for gain in gains])
        # Nominal 0.025 and 0.95; the limits are about three standard errors of 150 trials (and 100 resamples) away.
        assert better < 0.07, name
        assert covered > 0.89, name


def test_rows_drawn_without_their_users_would_be_overconfident():
    rng = np.random.default_rng(6)
    user, targets, (champion, challenger) = clustered_rows(rng, users=60, rows_per_user=80, noise=1.0)
    common = {"targets": targets, "champion": champion, "challenger": challenger}
    widths = [
        gain.log_loss.high - gain.log_loss.low
        for users in (user, np.arange(len(user)))
        for gain in [paired_gain(users=users, **common, resamples=200, confidence=0.95, seed=1)]
    ]
    assert widths[0] > 1.3 * widths[1]


def test_the_same_seed_gives_the_same_interval_and_equal_models_gain_nothing():
    first, second = gain_of(np.random.default_rng(7)), gain_of(np.random.default_rng(7))
    assert first == second
    user, targets, (scores, _) = clustered_rows(np.random.default_rng(8))
    same = paired_gain(
        users=user, targets=targets, champion=scores, challenger=scores, resamples=50, confidence=0.9, seed=1
    )
    assert (same.gauc.low, same.gauc.estimate, same.gauc.high) == (0, 0, 0)
    assert (same.auc.low, same.auc.estimate, same.auc.high) == (0, 0, 0)
    assert (same.log_loss.low, same.log_loss.high) == (0, 0)


def test_the_gain_in_gauc_is_the_difference_and_knowing_users_better_gains_nothing():
    rng = np.random.default_rng(9)
    user, targets, (champion, challenger) = clustered_rows(rng)
    common = {"users": user, "targets": targets, "resamples": 100, "confidence": 0.95, "seed": 1}
    gained = group_auc(user, targets, challenger)[0] - group_auc(user, targets, champion)[0]
    gain = paired_gain(champion=champion, challenger=challenger, **common)
    np.testing.assert_allclose(gain.gauc.estimate, gained, atol=1e-12)
    assert gain.gauc.low <= gained <= gain.gauc.high
    rate = np.bincount(user, targets)[user] / np.bincount(user)[user]
    knows_users = paired_gain(champion=champion, challenger=champion * 0.01 + rate * 0.9, **common)
    assert knows_users.auc.low > 0
    np.testing.assert_allclose([knows_users.gauc.low, knows_users.gauc.high], 0, atol=1e-12)


def test_without_a_user_of_both_classes_there_is_no_gauc():
    targets = np.array([1, 0, 1, 0])
    gain = paired_gain(
        users=np.arange(4), targets=targets, champion=targets * 0.5, challenger=targets * 0.9, resamples=100,
        confidence=0.95, seed=1,
    )  # fmt: skip
    assert np.isnan([gain.gauc.estimate, gain.gauc.low, gain.gauc.high]).all()
