"""Calibration in the large: the mean score is the click rate.

Training leaves it off: dropout and hidden ids make logits noisy, and of noisy logits another offset has the right mean
than of those that are served.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

WIDEST = 20.0
"""Bounds of an offset, as a logit."""


def logit_offset(logits: NDArray[np.float64], targets: NDArray[np.float32]) -> float:
    """What to add to the logits [n] so that their mean probability is the share of ones among the targets [n].

    One is added to the rows, half of it clicked, so that few rows of one kind do not say never or always (Krichevsky
    and Trofimov, 1981). Source: calibration-in-the-large, as in Van Calster et al., BMC Medicine 17:230, 2019.
    """
    rate = (float(targets.sum()) + 0.5) / (len(targets) + 1)
    return float(brentq(lambda offset: expit(logits + offset).mean() - rate, -WIDEST, WIDEST, xtol=1e-6))
