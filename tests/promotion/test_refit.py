"""The fit on all rows: what is served knows the latest day, and its figures are those of the held-out fit."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from benchmarks.small_data import small_model
from feedrank import schema, stages
from feedrank.config import Config, load_config
from feedrank.config.data import DriftScenario, GeneratorConfig
from feedrank.config.model import Gates
from feedrank.errors import DataError
from feedrank.model.bundle import ITEM_IDS, USER_IDS, ModelBundle, load_bundle
from feedrank.model.refit import check_refit
from feedrank.promotion.compare import unseen
from feedrank.promotion.window import choose_window
from feedrank.tables import read_partitioned

SHIFT = date(2024, 4, 14)
ALARM = SHIFT + timedelta(days=1)


@pytest.fixture(scope="module")
def config() -> Config:
    """As shipped, but for the sizes: users' taste shifts on a day, and the day after a retraining begins."""
    shipped = load_config()
    generator = GeneratorConfig(
        num_users=400,
        num_items=300,
        num_interactions=40_000,
        start_date=ALARM - timedelta(days=7),
        end_date=ALARM,
        drifts=(DriftScenario(kind="taste_shift", start_date=SHIFT),),
    )
    return shipped.model_copy(
        update={
            "data": shipped.data.model_copy(update={"generator": generator}),
            "model": small_model(training={"epochs": 2, "batch_size": 1024}),
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, config: Config) -> Path:
    folder = tmp_path_factory.mktemp("refit")
    stages.generate_interactions(folder / "interactions", config=config.data.generator)
    stages.build_features(folder / "interactions", output=folder / "history", config=config)
    choose_window(folder / "history", output=folder / "features", config=config)
    stages.train_ranker(folder / "features", output=folder / "model", config=config)
    refit(folder, output=folder / "refitted")
    return folder


def refit(run: Path, *, output: Path, gates: Gates | None = None) -> None:
    stages.refit_ranker(run / "model", run / "features", output=output, gates=gates or Gates())


@pytest.fixture(scope="module")
def held_out(run: Path) -> ModelBundle:
    return load_bundle(run / "model")


@pytest.fixture(scope="module")
def refitted(run: Path) -> ModelBundle:
    return load_bundle(run / "refitted")


def test_a_retraining_the_day_after_a_taste_shift_has_learnt_from_that_day(run, held_out, refitted):
    rows = read_partitioned(run / "history")
    last = rows[schema.TIMESTAMP][-1].as_py()
    assert last.date() == ALARM
    assert refitted.metadata.last_row == last
    assert refitted.metadata.training_data_date_range.end == ALARM.isoformat()
    assert held_out.metadata.last_row < last
    assert last - held_out.metadata.last_row < timedelta(days=2), "nor is the evaluated fit far behind"
    assert set(np.unique(rows[schema.ITEM_ID].to_numpy())) == set(refitted.arrays[ITEM_IDS].tolist())
    assert set(held_out.arrays[USER_IDS].tolist()) <= set(refitted.arrays[USER_IDS].tolist())


def test_the_metadata_say_what_was_fitted_on_what_and_evaluated_on_what(run, held_out, refitted):
    split, *_ = stages.load_features(run / "features")
    fit, evaluated = refitted.metadata.fit, refitted.metadata.evaluated
    assert (fit.rows, fit.start) == (split.train.rows + split.validation.rows + split.test.rows, split.train.start)
    assert evaluated.model_id == held_out.metadata.model_id == refitted.metadata.evaluated_id
    assert evaluated.fit == held_out.metadata.fit
    assert (evaluated.tested_on.rows, evaluated.tested_on.end) == (split.test.rows, split.test.end)
    assert fit.epochs == evaluated.fit.epochs
    assert refitted.metadata.model_id != held_out.metadata.model_id
    assert refitted.metadata.config_fingerprint == held_out.metadata.config_fingerprint
    assert f"tested on {split.test.rows:,} rows" in refitted.metadata.fit_sentence


def test_figures_and_reference_stay_those_of_the_held_out_fit(run):
    for file in sorted((run / "model" / "reference").iterdir()):
        assert (run / "refitted" / "reference" / file.name).read_bytes() == file.read_bytes()
    assert (run / "refitted" / "epochs.json").read_bytes() == (run / "model" / "epochs.json").read_bytes()


def test_the_same_rows_give_the_same_fit_again(run, refitted, tmp_path):
    refit(run, output=tmp_path / "again")
    again = load_bundle(tmp_path / "again")
    assert again.metadata.model_id == refitted.metadata.model_id
    assert all(np.array_equal(again.arrays[name], refitted.arrays[name]) for name in refitted.arrays)


def test_rows_that_a_refitted_champion_has_seen_do_not_compare(run, held_out, refitted):
    _, _, _, test = stages.load_features(run / "features")
    assert unseen(test, held_out).num_rows == test.num_rows
    assert unseen(test, refitted).num_rows == 0


def test_rows_after_a_champion_of_an_earlier_release_begin_with_the_day_after_its_last(held_out):
    metadata = held_out.metadata.model_copy(update={"fit": None})
    end = date.fromisoformat(metadata.training_data_date_range.end)
    assert metadata.last_row + timedelta(microseconds=1) == datetime(end.year, end.month, end.day + 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("scale", "words"),
    [(np.nan, "scores are no probabilities"), (5.0, "its log loss is higher by"), (2.0, "is off both the click rate")],
)
def test_a_fit_that_is_not_sane_is_refused(run, held_out, scale, words, monkeypatch):
    _, _, _, test = stages.load_features(run / "features")
    scores = held_out.score_table(test)
    honest = scores * test[schema.TARGET].to_numpy().mean() / scores.mean()
    broken = replace(held_out, metadata=held_out.metadata)
    monkeypatch.setattr(
        ModelBundle,
        "score_table",
        lambda bundle, _rows: np.minimum(honest * scale, 1.0) if bundle is broken else honest,
    )
    with pytest.raises(DataError, match=words):
        check_refit(broken, held_out, test, gates=Gates(max_refit_log_loss_rise=0.05))


def test_a_fit_that_is_refused_leaves_nothing(run, tmp_path):
    with pytest.raises(DataError, match="It is not registered"):
        refit(run, output=tmp_path / "refitted", gates=Gates.model_construct(max_refit_log_loss_rise=-1.0))
    assert not (tmp_path / "refitted").exists()
