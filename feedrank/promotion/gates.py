"""Gates of a challenger: an absolute limit that the champion misses on the same rows, too, does not stop it.

Where a ranker has chosen the rows, the easy differences are gone, and every ranker's AUC and precision on them is lower
than on rows in random order. What is left to ask is which of the two is better, and the comparison asks it with
intervals; a gate's figures of some hundred clicks differ by chance.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from feedrank.evaluation.evaluate import GateResult


@dataclass(frozen=True)
class MissedGates:
    """Sentences about the gates that a challenger missed."""

    against: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)
    """The champion misses them, too."""


def missed_sentences(names: Sequence[str]) -> list[str]:
    """What is said of gates that were missed where there is no champion's figure."""
    return [f"it misses the gate {name} on its own test rows" for name in names]


def judge_missed(names: Sequence[str], champion: Sequence[GateResult], challenger: Sequence[GateResult]) -> MissedGates:
    """Judges gates that a challenger's evaluation missed by those of both models on the same rows."""
    old, new = ({gate.name: gate for gate in gates} for gates in (champion, challenger))
    missed = MissedGates()
    for name in names:
        limit = f"it misses the gate {name} ({new[name].value:.4f}, limit {new[name].limit:g})"
        if old[name].passed:
            missed.against.append(f"{limit}, which the champion passes on the same rows ({old[name].value:.4f})")
        elif math.isnan(new[name].value) or math.isnan(old[name].value):
            missed.against.append(f"{limit}: there is no figure on the rows of the comparison")
        else:
            missed.excused.append(f"{limit}, which the champion misses on the same rows, too ({old[name].value:.4f})")
    return missed
