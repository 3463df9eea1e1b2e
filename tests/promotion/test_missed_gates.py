"""Absolute gates where a ranker has chosen the rows: what the champion misses, too, stops no challenger."""

import math

import pytest

from feedrank.evaluation.evaluate import GateResult
from feedrank.promotion.gates import judge_missed


def gates(auc: float, log_loss: float) -> list[GateResult]:
    return [
        GateResult(name="auc", value=auc, limit=0.7, passed=auc > 0.7),
        GateResult(name="log_loss", value=log_loss, limit=0.5, passed=log_loss < 0.5),
    ]


@pytest.mark.parametrize("challenger", [(0.66, 0.55), (0.65, 0.56), (0.71, 0.49), (0.64, 0.57)])
def test_gates_that_the_champion_misses_on_the_same_rows_leave_it_to_the_comparison(challenger):
    missed = judge_missed(["auc", "log_loss"], gates(0.65, 0.56), gates(*challenger))
    assert not missed.against
    assert len(missed.excused) == 2


def test_the_sentence_names_gate_limit_and_both_figures():
    missed = judge_missed(["auc"], gates(0.65, 0.4), gates(0.66, 0.4))
    assert missed.excused == [
        "it misses the gate auc (0.6600, limit 0.7), which the champion misses on the same rows, too (0.6500)"
    ]


@pytest.mark.parametrize(
    ("champion", "challenger", "words"),
    [
        ((0.72, 0.4), (0.66, 0.4), "which the champion passes on the same rows"),
        ((0.65, 0.4), (math.nan, 0.4), "no figure"),
        ((math.nan, 0.4), (0.69, 0.4), "no figure"),
    ],
)
def test_gates_that_the_champion_passes_or_that_have_no_figure_stop_it(champion, challenger, words):
    missed = judge_missed(["auc"], gates(*champion), gates(*challenger))
    (sentence,) = missed.against
    assert words in sentence
    assert not missed.excused


def test_gates_that_were_passed_are_not_mentioned():
    missed = judge_missed([], gates(0.65, 0.56), gates(0.5, 0.9))
    assert not missed.against
    assert not missed.excused
