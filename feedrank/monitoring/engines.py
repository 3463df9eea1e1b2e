"""Two engines for the same two-sample tests: alibi-detect (`drift.engine: alibi`) and SciPy (`drift.engine: scipy`).

Both give the same statistics and p-values (tests/monitoring/test_engines.py); effect sizes, the correction for many
tests and the decision are ours and shared. alibi-detect 0.13 is under the Business Source License 1.1: its grant
covers non-production use (and production use by some non-profit institutions) only, so a production system needs a
licence from its owner or the SciPy engine.
"""

import os
import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from feedrank.config.monitoring import DriftConfig
from feedrank.errors import ConfigError

Values = NDArray[np.float64]


@dataclass(frozen=True)
class TestResult:
    """What a two-sample test found."""

    __test__ = False
    statistic: float
    p_value: float


class DriftEngine(Protocol):
    """Two-sample tests of one feature; both samples are finite, and hold at least one row."""

    def kolmogorov_smirnov(self, reference: Values, window: Values) -> TestResult:
        """Two-sided test with the asymptotic p-value; the statistic is the largest distance of the two CDFs."""

    def chi_square(self, reference: Values, window: Values) -> TestResult:
        """Test of homogeneity over the union of both samples' categories (Yates' correction for two of them)."""


class ScipyEngine:
    """SciPy's tests."""

    def kolmogorov_smirnov(self, reference: Values, window: Values) -> TestResult:
        """See `DriftEngine`."""
        from scipy.stats import ks_2samp

        result = ks_2samp(reference, window, method="asymp")
        return TestResult(statistic=float(result.statistic), p_value=float(result.pvalue))

    def chi_square(self, reference: Values, window: Values) -> TestResult:
        """See `DriftEngine`."""
        from scipy.stats import chi2_contingency

        categories, codes = np.unique(np.concatenate([reference, window]), return_inverse=True)
        counts = [
            np.bincount(part, minlength=len(categories)) for part in (codes[: len(reference)], codes[len(reference) :])
        ]
        result = chi2_contingency(np.stack(counts))
        return TestResult(statistic=float(result.statistic), p_value=float(result.pvalue))


class AlibiEngine:
    """alibi-detect's detectors, one feature at a time."""

    def __init__(self) -> None:
        """Imports alibi-detect, which takes seconds.

        Raises:
            ConfigError: alibi-detect is not installed.
        """
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it misses PyTorch, which drift needs not
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from alibi_detect.cd import ChiSquareDrift, KSDrift
        except ImportError as error:
            raise ConfigError(
                "drift.engine is 'alibi', but alibi-detect is not installed "
                f"({error}); install the extra 'monitor', or set drift.engine: scipy, which decides the same"
            ) from error
        self._ks, self._chi_square = KSDrift, ChiSquareDrift

    def kolmogorov_smirnov(self, reference: Values, window: Values) -> TestResult:
        """See `DriftEngine`."""
        return _predict(self._ks(reference[:, None]), window)

    def chi_square(self, reference: Values, window: Values) -> TestResult:
        """See `DriftEngine`."""
        return _predict(self._chi_square(reference[:, None]), window)


def _predict(detector: Any, window: Values) -> TestResult:
    found = detector.predict(window[:, None], drift_type="feature")["data"]
    return TestResult(statistic=float(found["distance"][0]), p_value=float(found["p_val"][0]))


def drift_engine(config: DriftConfig) -> DriftEngine:
    """The configured engine.

    Raises:
        ConfigError: its library is not installed.
    """
    return AlibiEngine() if config.engine == "alibi" else ScipyEngine()
