"""Population stability index."""

import numpy as np
import pytest

from feedrank.monitoring.psi import ScoreBins, score_bins, stability


def test_it_is_the_textbook_sum() -> None:
    reference = ScoreBins(edges=np.array([0.5]), shares=np.array([0.5, 0.5]), rows=100)
    found = stability(np.array([0.1] * 80 + [0.9] * 20), reference=reference)
    assert found.index == pytest.approx(0.3 * np.log(0.8 / 0.5) - 0.3 * np.log(0.2 / 0.5))


def test_the_same_scores_have_none() -> None:
    scores = np.random.default_rng(0).random(5_000)
    found = stability(scores, reference=score_bins(scores, bins=10))
    assert found.index == pytest.approx(0, abs=1e-12)
    assert found.p_value == pytest.approx(1)


def test_false_alarms_are_as_frequent_as_the_p_value_says() -> None:
    rng = np.random.default_rng(0)
    reference = score_bins(rng.random(20_000), bins=10)
    p_values = [stability(rng.random(1_000), reference=reference).p_value for _ in range(400)]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.03)


def test_an_empty_bin_gives_a_finite_index() -> None:
    reference = score_bins(np.linspace(0, 1, 1_000), bins=10)
    found = stability(np.full(300, 0.95), reference=reference)
    assert np.isfinite(found.index)
    assert found.index > 1


def test_constant_scores_have_one_bin_less_and_no_drift() -> None:
    constant = np.full(500, 0.1)
    assert stability(constant, reference=score_bins(constant, bins=10)).index == pytest.approx(0, abs=0.01)
