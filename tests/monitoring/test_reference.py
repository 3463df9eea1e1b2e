"""The reference of a model."""

from pathlib import Path

import numpy as np
import pytest
from monitored_data import CONFIG, VERSION, feature_rows, make_reference, scores_of

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.errors import DataError
from feedrank.monitoring.reference import INFO_FILE, build_reference, load_reference
from feedrank.tables import US_PER_DAY, timestamps_us


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    reference = make_reference(tmp_path)
    test = feature_rows(8_000, day=28, days=7, seed=2)
    assert reference.info.model_version == VERSION
    assert reference.info.label_rate == pytest.approx(test[schema.TARGET].to_numpy().mean())
    assert reference.info.feature_rows == reference.features.num_rows
    assert reference.info.score_rows == reference.scores.num_rows == 8_000
    assert sum(reference.info.score_shares) == pytest.approx(1)


def test_the_feature_sample_has_a_user_once_a_day_and_only_the_latest_days(tmp_path: Path) -> None:
    features = make_reference(tmp_path).features
    end_us = timestamps_us(features).max()
    days = (timestamps_us(feature_rows(8_000, day=28, days=7, seed=2)).max() - timestamps_us(features)) // US_PER_DAY
    pairs = list(zip(features[schema.USER_ID].to_pylist(), days, strict=True))
    assert len(pairs) == len(set(pairs))
    assert timestamps_us(features).min() >= end_us - CONFIG.reference.days * US_PER_DAY


def test_the_caps_hold(tmp_path: Path) -> None:
    reference = CONFIG.reference.model_copy(update={"max_feature_rows": 100, "max_score_rows": 50})
    train, test = feature_rows(5_000, day=0, days=5), feature_rows(1_000, day=5)
    info = build_reference(
        train,
        test,
        scores_of(test),
        model_version=VERSION,
        metrics={"auc": 0.7, "log_loss": 0.4},
        feed=Feed(),
        config=CONFIG.model_copy(update={"reference": reference}),
        directory=tmp_path,
    )
    assert (info.feature_rows, info.score_rows) == (100, 50)


@pytest.mark.parametrize(
    ("scores", "metrics", "message"),
    [
        (np.zeros(3), {"auc": 0.7, "log_loss": 0.4}, "shape"),
        (np.full(1_000, np.nan), {"auc": 0.7, "log_loss": 0.4}, "NaN"),
        (np.zeros(1_000), {"auc": 0.7}, "log_loss"),
    ],
)
def test_bad_input_is_refused(tmp_path: Path, scores: np.ndarray, metrics: dict[str, float], message: str) -> None:
    train, test = feature_rows(1_000, day=0), feature_rows(1_000, day=1)
    with pytest.raises(DataError, match=message):
        build_reference(
            train, test, scores, model_version=VERSION, metrics=metrics, feed=Feed(), config=CONFIG,
            directory=tmp_path,
        )  # fmt: skip


def test_a_missing_or_foreign_reference_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train a model"):
        load_reference(tmp_path)
    make_reference(tmp_path)
    info = tmp_path / INFO_FILE
    info.write_text(info.read_text().replace(Feed().column_fingerprint, "0123456789abcdef"))
    with pytest.raises(DataError, match="feature schema 0123456789abcdef"):
        load_reference(tmp_path)
    info.write_text("{")
    with pytest.raises(DataError, match="not a valid reference"):
        load_reference(tmp_path)
