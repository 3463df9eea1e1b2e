"""A model names the version of the interactions that it learned from, and that version gives its data again."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.small_data import small_model
from feedrank import delta, stages
from feedrank.cli import model as command
from feedrank.config import Config
from feedrank.config.data import GeneratorConfig
from feedrank.data.generator import generate
from feedrank.errors import DataError
from feedrank.features.snapshot import TableVersion
from feedrank.interactions import LAYOUT, write_interactions
from feedrank.model.bundle import ModelMetadata, load_bundle

NOW = datetime(2024, 2, 1, tzinfo=UTC)


def test_the_version_that_a_model_names_gives_its_data_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*generate(GeneratorConfig(num_users=60, num_items=40, num_interactions=3000, end_date="2024-01-10"))]
    config = Config.model_validate({"model": small_model(training={"epochs": 1, "batch_size": 512})})
    clean = tmp_path / "validated" / "clean"
    first = write_interactions(rows[0].slice(0, 2000), clean).version

    def train(version: int | None = None) -> ModelMetadata:
        features = tmp_path / "features"
        stages.build_features(clean, output=features, config=config, now=NOW, version=version)
        return stages.train_ranker(features, output=tmp_path / "model", config=config)

    before = train()
    assert before.trained_on == TableVersion(location=str(clean), version=first)
    later = delta.open_table(clean).replace(rows[0], layout=LAYOUT)
    after = train()
    assert after.trained_on is not None and after.trained_on.version == later.version
    assert after.data_fingerprint != before.data_fingerprint
    again = train(first)
    assert (again.data_fingerprint, again.model_id) == (before.data_fingerprint, before.model_id)
    assert again.trained_on == before.trained_on

    monkeypatch.setenv("FEEDRANK__MODEL__TRAINING__EPOCHS", "1")
    command.train(run_dir=tmp_path, as_of_version=first)
    by_command = load_bundle(tmp_path / "model").metadata
    assert (by_command.data_fingerprint, by_command.trained_on) == (before.data_fingerprint, before.trained_on)

    later.vacuum(keep_hours=0)
    with pytest.raises(DataError, match=rf"clean, version {first}, can't be read .*vacuum.* take a later one"):
        train(first)
    with pytest.raises(DataError, match="there is no version 99 of the table any more, or yet"):
        train(99)
