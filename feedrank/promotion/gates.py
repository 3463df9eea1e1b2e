"""Gates of a challenger: an absolute limit that the champion misses on the same rows, too, does not stop it.

Where a ranker has chosen the rows, the easy differences are gone, and every ranker's AUC and precision on them is lower
than on rows in random order. There a challenger need only be no worse than the champion.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from feedrank.evaluation.evaluate import GateResult


@dataclass(frozen=True)
class MissedGates:
    """Sentences about the gates that a challenger missed."""

    against: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)
    """The champion misses them, too, and the challenger is no worse."""


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
        elif new[name].passed or _distance(new[name]) <= _distance(old[name]):
            missed.excused.append(f"{limit} by no more than the champion on the same rows ({old[name].value:.4f})")
        else:
            missed.against.append(f"{limit} by more than the champion on the same rows ({old[name].value:.4f})")
    return missed


def _distance(missed: GateResult) -> float:
    """How far from its limit; NaN, which is no less than anything, where there is no figure."""
    return abs(missed.value - missed.limit)
