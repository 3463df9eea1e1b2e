"""What a day is apart from its users and items: the level of its logits, which training sets aside.

The click rate of a feed moves from one day to the next: tastes shift, another ranker chooses, it rains. Without levels
a ranker takes what stands still within a day (the weekday, and what grows with time) for the reason: after one bad
Friday it expects little of Fridays only. With a level of each day it learns from the differences within days, and its
own level is that of the latest rows (`calibration.py`). Source: the within estimator, Mundlak, Econometrica 46, 1978.

Beside levels, nothing tells what a weekday by itself is worth, and the network would keep what it began with. So some
training rows get another row's weekday: it becomes worth nothing, and what it is worth to whom can still be learnt.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from feedrank.model.calibration import logit_offset, smoothed_rate
from feedrank.model.rows import Rows

MIN_INFORMATION = 1.0
"""Of a step; a day of few rows moves little."""


class DayLevels:
    """Added to the logits of training rows: one value for each day. They follow the ranker, a step an epoch."""

    def __init__(self, rows: Rows) -> None:
        """Begins with the click rates."""
        shown = torch.bincount(rows.days).double()
        clicked = torch.bincount(rows.days, rows.targets.double())
        self.values = torch.logit(smoothed_rate(clicked, shown)).float()
        self._forget()

    def added(self, logits: Tensor, rows: Rows) -> Tensor:
        """The logits [n] of rows with the levels of their days."""
        return logits + self.values[rows.days]

    def note(self, logits: Tensor, rows: Rows) -> None:
        """Counts what the logits [n], with levels, miss of the rows' clicks."""
        scores = torch.sigmoid(logits.detach())
        self._missed.index_add_(0, rows.days, rows.targets - scores)
        self._information.index_add_(0, rows.days, scores * (1 - scores))

    def follow(self) -> None:
        """Moves each level by what was noted: a step of Newton's method on the day's likelihood."""
        self.values += self._missed / (self._information + MIN_INFORMATION)
        self._forget()

    def _forget(self) -> None:
        self._missed, self._information = torch.zeros_like(self.values), torch.zeros_like(self.values)


def with_mixed_weekdays(inputs: Tensor, weekday: Tensor, *, rate: float, generator: torch.Generator) -> Tensor:
    """The inputs [n, F] with a random share `rate` of the rows' columns `weekday` taken from other rows."""
    mixed = torch.nonzero(torch.rand(len(inputs), generator=generator) < rate)
    others = torch.randperm(len(inputs), generator=generator)[mixed]
    changed = inputs.clone()
    changed[mixed, weekday] = inputs[others, weekday]
    return changed


def leveled(logits: NDArray[np.float64], rows: Rows) -> NDArray[np.float64]:
    """The logits [n] of rows that training has not seen, with the levels that make each day's mean its click rate."""
    targets, days, moved = rows.targets.numpy(), rows.days.numpy(), logits.copy()
    for day in np.unique(days):
        of_day = days == day
        moved[of_day] += logit_offset(logits[of_day], targets[of_day])
    return moved
