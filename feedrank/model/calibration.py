"""Calibration in the large: the mean score is the click rate.

Training leaves it off: dropout and hidden ids make logits noisy, and of noisy logits another offset has the right mean
than of those that are served.
"""

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

if TYPE_CHECKING:
    from torch import Tensor

Number = TypeVar("Number", float, "Tensor")

WIDEST = 20.0
"""Bounds of an offset, as a logit."""


def smoothed_rate(clicked: Number, shown: Number) -> Number:
    """The share of clicks; one row, half of it clicked, is added, so that few rows do not say never or always.

    Source: Krichevsky and Trofimov, The performance of universal encoding, 1981.
    """
    return (clicked + 0.5) / (shown + 1)


def logit_offset(logits: NDArray[np.float64], targets: NDArray[np.float32]) -> float:
    """What to add to the logits [n] so that their mean probability is the smoothed share of ones among the targets [n].

    Source: calibration-in-the-large, as in Van Calster et al., BMC Medicine 17:230, 2019.
    """
    rate = smoothed_rate(float(targets.sum()), float(len(targets)))
    return float(brentq(lambda offset: expit(logits + offset).mean() - rate, -WIDEST, WIDEST, xtol=1e-6))
