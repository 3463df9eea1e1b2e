"""A retraining judges the raw table against the days that the nightly validation accepted."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest

from benchmarks.data_issues import write_damaged
from benchmarks.validation import clean_frame
from feedrank.config import Config
from feedrank.config.validation import ValidationConfig
from feedrank.data.validation import validate
from feedrank.errors import ValidationFailedError
from feedrank.promotion.retrain import retrain

UNUSED = cast(Any, None)


def test_a_retraining_refuses_what_the_next_night_would_refuse(tmp_path: Path) -> None:
    frame = clean_frame(1)
    last_day = frame["timestamp"].iloc[-1].floor("D")
    write_damaged(frame[frame["timestamp"] < last_day - pd.Timedelta(days=1)], tmp_path / "before")
    validate(tmp_path / "before", output=tmp_path / "validated", config=ValidationConfig())
    write_damaged(frame[frame["timestamp"].dt.floor("D") != last_day - pd.Timedelta(days=1)], tmp_path / "interactions")
    with pytest.raises(ValidationFailedError, match=f"daily_missing_days: {last_day.date() - pd.Timedelta(days=1)}"):
        retrain(
            UNUSED,
            interactions=tmp_path / "interactions",
            output=tmp_path / "retraining",
            config=Config(),
            promoter=UNUSED,
            clock=lambda: datetime.now(UTC),
        )
