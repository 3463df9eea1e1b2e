"""Every benchmark can be started: what it imports is there. mypy is told to overlook what is missing."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in sorted((ROOT / "benchmarks").rglob("*.py"))
]


@pytest.mark.parametrize("module", MODULES)
def test_a_benchmarks_module_can_be_imported(module):
    importlib.import_module(module)
