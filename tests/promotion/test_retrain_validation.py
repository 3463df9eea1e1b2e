"""A retraining judges the raw table against the days that the nightly validation accepted."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from benchmarks.data_issues import write_damaged
from benchmarks.validation import clean_frame
from feedrank import stages
from feedrank.config import Config
from feedrank.config.validation import ValidationConfig
from feedrank.data.validation import validate
from feedrank.promotion.retrain import retrain
from feedrank.tables import read_partitioned

UNUSED = cast(Any, None)


class ReachedFeaturesError(Exception):
    """The retraining went on to its features."""


def reached(*_: object, **__: object) -> None:
    raise ReachedFeaturesError


def test_a_retraining_holds_what_the_next_night_would_hold_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = clean_frame(1).copy()
    last_day = frame["timestamp"].iloc[-1].floor("D")
    days = frame["timestamp"].dt.floor("D")
    write_damaged(frame[days < last_day - pd.Timedelta(days=1)], tmp_path / "before")
    validate(tmp_path / "before", output=tmp_path / "validated", config=ValidationConfig())
    frame.loc[days == last_day, "device"] = "phone"
    write_damaged(frame[days != last_day - pd.Timedelta(days=1)], tmp_path / "interactions")
    monkeypatch.setattr(stages, "build_features", reached)
    with pytest.raises(ReachedFeaturesError):
        retrain(
            UNUSED,
            interactions=tmp_path / "interactions",
            output=tmp_path / "retraining",
            config=Config(),
            promoter=UNUSED,
            clock=lambda: datetime.now(UTC),
        )
    clean = read_partitioned(tmp_path / "retraining" / "validated" / "clean").to_pandas()
    assert clean["timestamp"].dt.floor("D").max() == last_day - pd.Timedelta(days=2)
    assert len(clean) == (days < last_day - pd.Timedelta(days=1)).sum()
