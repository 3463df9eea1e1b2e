"""Every benchmark can be started: what it imports is there. mypy is told to overlook what is missing.

The peers' servers import what is not in our environment; test_peers.py compiles them.
"""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in sorted((ROOT / "benchmarks").rglob("*.py"))
    if not file.stem.endswith("_peer")
]


@pytest.mark.parametrize("module", MODULES)
def test_a_benchmarks_module_can_be_imported(module):
    importlib.import_module(module)
