"""A run of one's own keeps its registry, journal and served versions to itself."""

import sys
from pathlib import Path

import pytest

from benchmarks.small_data import small_model
from feedrank import stages
from feedrank.cli import main
from feedrank.cli.console import DEFAULT_RUN, run_config
from feedrank.cli.pipelines import _in_run
from feedrank.config import Config, load_config
from feedrank.config.data import GeneratorConfig
from feedrank.model.bundle import load_bundle
from tests.promotion.promotion_world import EVALUATION

CONFIG = Path(__file__).parents[2] / "config"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEEDRANK_CONFIG_DIR", str(CONFIG))


def test_the_default_run_has_the_configured_places():
    assert run_config(DEFAULT_RUN) == load_config()
    assert _in_run(DEFAULT_RUN, {"a": 1}) == {"a": 1}


def test_another_run_has_places_of_its_own(tmp_path):
    folder = tmp_path / "runs" / "ratings"
    config = run_config(folder)
    assert run_config(Path("runs/ratings")).model.registry.tracking_uri == "sqlite:///runs/ratings/mlflow.db"
    assert config.model.registry.tracking_uri == f"sqlite:///{folder}/mlflow.db"
    assert config.promotion.state_directory == folder / "promotion"
    assert config.promotion.target.directory == folder / "served"
    (overrides,) = _in_run(folder, {}).values()
    assert load_config(overrides=overrides) == config
    assert _in_run(folder, {"config_overrides": {"promotion.state_directory": "x"}})["config_overrides"] == {
        **overrides,
        "promotion.state_directory": "x",
    }


def test_what_is_configured_holds_for_every_run(monkeypatch):
    monkeypatch.setenv("FEEDRANK__MODEL__REGISTRY__TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("FEEDRANK__PROMOTION__TARGET__DIRECTORY", "/data/served")
    config = run_config(Path("runs/ratings"))
    assert config.model.registry.tracking_uri == "http://mlflow:5000"
    assert config.promotion.target.directory == Path("/data/served")
    assert config.promotion.state_directory == Path("runs/ratings/promotion")


def feedrank(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["feedrank", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code


def test_the_models_of_two_feeds_never_meet(monkeypatch, capsys):
    # A few hundred test rows say little about the mean score.
    monkeypatch.setenv("FEEDRANK__MODEL__GATES__MAX_REFIT_BIAS", "0.5")
    for number, feed in enumerate(("news", "ratings")):
        folder = Path("runs") / feed
        generator = GeneratorConfig(num_users=40, num_items=60, num_interactions=3_000, seed=number)
        stages.generate_interactions(folder / "interactions", config=generator)
        stages.build_features(folder / "interactions", output=folder / "features", config=Config())
        config = Config(model=small_model(training={"batch_size": 64}))
        stages.train_ranker(folder / "features", output=folder / "model", config=config)
        (folder / "evaluation").mkdir()
        (folder / "evaluation" / stages.EVALUATION_FILE).write_text(EVALUATION.model_dump_json())
        feedrank(monkeypatch, "register", "--run-dir", str(folder))
        feedrank(monkeypatch, "promote", "--run-dir", str(folder))
        capsys.readouterr()
        feedrank(monkeypatch, "models", "--run-dir", str(folder))
        listed = capsys.readouterr().out
        assert "v1.0.0" in listed
        assert "v1.0.1" not in listed
        assert (folder / "served" / "current").readlink().name == "v1.0.0"
        metadata = load_bundle(folder / "served" / "current").metadata
        assert metadata.last_row > load_bundle(folder / "model").metadata.last_row, "the fit on all rows is served"
    assert {path.name for path in Path("runs").iterdir()} == {"news", "ratings"}
