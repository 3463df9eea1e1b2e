"""Drift detection on data with a known answer that nobody here made.

NannyML's synthetic car loans (inside its PyPI package; read there, not copied): 50,000 reference rows, then 50,000 of
production. Its documentation (docs/quick.rst, "Insights") says what happens: from the second half of production on
loan_length, salary_range, car_value and repaid_loan_on_prev_car drift, the other features don't.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from monitored_data import CONFIG

from feedrank.features.forms import Clock, Mean
from feedrank.monitoring.columns import Column, Sample
from feedrank.monitoring.drift import column_drift
from feedrank.monitoring.engines import AlibiEngine, DriftEngine, ScipyEngine
from feedrank.monitoring.results import Signal

CHUNK_ROWS, CHUNKS = 5_000, 10
NUMERIC = ("car_value", "debt_to_income_ratio", "driver_tenure")
CATEGORICAL = ("salary_range", "repaid_loan_on_prev_car", "size_of_downpayment", "loan_length")
DRIFTING = {"loan_length", "salary_range", "car_value", "repaid_loan_on_prev_car"}
CAR_LOANS = importlib.util.find_spec("nannyml")

pytestmark = pytest.mark.skipif(CAR_LOANS is None, reason="needs requirements/samples.txt (nannyml)")


@pytest.fixture(scope="module")
def loans() -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """The reference, and the production rows in chunks."""
    assert CAR_LOANS is not None
    assert CAR_LOANS.origin is not None
    folder = Path(CAR_LOANS.origin).parent / "datasets" / "data"
    reference, production = (
        pd.read_csv(folder / f"synthetic_car_loan_{part}.csv") for part in ("reference", "analysis")
    )
    return reference, [production[i * CHUNK_ROWS : (i + 1) * CHUNK_ROWS] for i in range(CHUNKS)]


NUMBER, CATEGORY = Mean(mean="dwell_time", per=("user",)), Clock(clock="weekday")
"""Stand for columns that have nothing to do with a history."""


def judge(reference: pd.DataFrame, window: pd.DataFrame, engine: DriftEngine) -> list[Signal]:
    columns = [Column(name, NUMBER, sample(reference, name), sample(window, name)) for name in NUMERIC]
    for name in CATEGORICAL:
        codes = {value: float(code) for code, value in enumerate(sorted(reference[name].unique()))}
        before, now = (sample(rows.assign(**{name: rows[name].map(codes)}), name) for rows in (reference, window))
        columns.append(Column(name, CATEGORY, before, now))
    return column_drift(columns, engine=engine, config=CONFIG)


def sample(rows: pd.DataFrame, name: str) -> Sample:
    times = pd.to_datetime(rows["timestamp"]).to_numpy().astype("datetime64[us]").astype(np.int64)
    return Sample(values=rows[name].to_numpy().astype(np.float64), times_us=times, rows=len(rows))


def flagged(signals: list[Signal]) -> set[str]:
    return {signal.name for signal in signals if signal.flagged}


@pytest.mark.parametrize("rows", [500, CHUNK_ROWS])
def test_each_chunk_has_exactly_the_documented_drift(loans: tuple[pd.DataFrame, list[pd.DataFrame]], rows: int) -> None:
    reference, chunks = loans
    found = [flagged(judge(reference, chunk[:rows], ScipyEngine())) for chunk in chunks]
    assert found == [set()] * (CHUNKS // 2) + [DRIFTING] * (CHUNKS // 2)


def test_no_part_of_the_reference_drifts_from_the_rest(loans: tuple[pd.DataFrame, list[pd.DataFrame]]) -> None:
    reference, _ = loans
    for begin in range(0, len(reference), CHUNK_ROWS):
        part = reference.index.isin(range(begin, begin + CHUNK_ROWS))
        assert not flagged(judge(reference[~part], reference[part], ScipyEngine()))


def test_both_engines_decide_the_same(loans: tuple[pd.DataFrame, list[pd.DataFrame]]) -> None:
    pytest.importorskip("alibi_detect")
    reference, chunks = loans
    alibi = AlibiEngine()
    for chunk in chunks[4:6]:
        ours, theirs = judge(reference, chunk, ScipyEngine()), judge(reference, chunk, alibi)
        assert [signal.status for signal in ours] == [signal.status for signal in theirs]
        assert [s.effect for s in ours] == pytest.approx([s.effect for s in theirs], rel=1e-6)
