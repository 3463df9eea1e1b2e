"""What is shown runs the shipped settings: kind profile, results notebook and drift benchmark differ in sizes only."""

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from benchmarks import drift
from benchmarks.month.schedule import runs
from feedrank.config import Config, MonitoringConfig
from feedrank.config.simulation import SimulationConfig
from feedrank.config.sizes import flat, other_than_sizes
from feedrank.errors import ConfigError

ROOT = Path(__file__).parents[1]


def test_the_kind_profile_changes_sizes_only():
    values = yaml.safe_load((ROOT / "helm" / "feedrank" / "values-kind.yaml").read_text(encoding="utf-8"))
    keys = flat(values["config"])
    assert keys and not other_than_sizes(keys)


def test_the_results_notebook_changes_sizes_only():
    notebook = json.loads((ROOT / "notebooks" / "03_results.ipynb").read_text(encoding="utf-8"))
    code = "".join(line for cell in notebook["cells"] if cell["cell_type"] == "code" for line in cell["source"])
    assert "Config().resized(" in code, "which refuses what is no size"
    assert not [name for name in ("ModelConfig", "DataConfig", "MonitoringConfig", "PromotionConfig") if name in code]


def test_the_drift_benchmark_judges_as_shipped():
    assert MonitoringConfig() == drift.CONFIG


def test_what_is_no_size_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"model\.gates\.min_auc: no size"):
        Config().resized({"model.embedding_dim": 32, "model.gates.min_auc": 0.5})
    assert Config().resized({}) == Config()


def test_a_section_of_sizes_is_one_with_all_its_keys():
    assert other_than_sizes(["data.generator.num_users", "data.generator", "data.generators", "model.dropout"]) == [
        "data.generators",
        "model.dropout",
    ]


def test_the_simulation_changes_sizes_only():
    assert not other_than_sizes(SimulationConfig().sizes)
    with pytest.raises(ValidationError, match=r"model\.gates\.min_auc is no size"):
        SimulationConfig(sizes={"model.gates.min_auc": 0.5})


def test_the_simulation_retrains_as_often_as_the_chart():
    every = SimulationConfig().retrain_every_days
    days = (date(2024, 1, 1) + timedelta(days=day) for day in range(12 * every))
    assert sum(job == "retraining" for day in days for _, job in runs(day)) == 12
