"""Both engines find the same."""

import sys

import numpy as np
import pytest

from feedrank.config.monitoring import DriftConfig
from feedrank.errors import ConfigError
from feedrank.monitoring.engines import AlibiEngine, ScipyEngine, drift_engine

RNG = np.random.default_rng(0)
NUMERIC = {
    "same": (RNG.normal(size=2_000), RNG.normal(size=500)),
    "shifted": (RNG.normal(size=2_000), RNG.normal(0.3, size=500)),
    "many ties": (RNG.poisson(1.0, 2_000).astype(float), RNG.poisson(1.2, 700).astype(float)),
    "constant": (np.zeros(300), np.zeros(200)),
}
CATEGORICAL = {
    "same": (RNG.integers(0, 7, 2_000).astype(float), RNG.integers(0, 7, 500).astype(float)),
    "binary": ((RNG.random(2_000) < 0.3).astype(float), (RNG.random(500) < 0.4).astype(float)),
    "unseen category": (RNG.integers(0, 3, 2_000).astype(float), RNG.integers(0, 4, 500).astype(float)),
    "vanished category": (RNG.integers(0, 4, 2_000).astype(float), RNG.integers(0, 3, 500).astype(float)),
    "constant": (np.ones(300), np.ones(200)),
}


@pytest.fixture(scope="module")
def alibi() -> AlibiEngine:
    pytest.importorskip("alibi_detect")
    return AlibiEngine()


@pytest.mark.parametrize("case", NUMERIC)
def test_kolmogorov_smirnov_agrees(alibi: AlibiEngine, case: str) -> None:
    ours, theirs = (engine.kolmogorov_smirnov(*NUMERIC[case]) for engine in (ScipyEngine(), alibi))
    assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-6)
    assert ours.p_value == pytest.approx(theirs.p_value, rel=1e-5, abs=1e-30)


@pytest.mark.parametrize("case", CATEGORICAL)
def test_chi_square_agrees(alibi: AlibiEngine, case: str) -> None:
    ours, theirs = (engine.chi_square(*CATEGORICAL[case]) for engine in (ScipyEngine(), alibi))
    assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-6)
    assert ours.p_value == pytest.approx(theirs.p_value, rel=1e-5, abs=1e-30)


def test_without_alibi_detect_the_error_names_the_other_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "alibi_detect.cd", None)
    with pytest.raises(ConfigError, match=r"alibi-detect is not installed.*drift.engine: scipy"):
        drift_engine(DriftConfig(engine="alibi"))
