"""Imports run one way: pipelines, components and serving use feedrank, which knows none of them nor their platforms."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WATCHED = {"feedrank", "components", "pipelines", "serving", "benchmarks", "kfp", "kserve", "kubernetes"}
ALLOWED = {
    "feedrank": {"feedrank"},
    "components": {"components", "feedrank", "kfp"},
    "pipelines": {"pipelines", "components", "serving", "feedrank", "kfp", "kubernetes"},
    "serving": {"serving", "feedrank", "kserve", "kubernetes"},
}


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_run_one_way(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        forbidden = {name for name in imported(file) if name.split(".")[0] in WATCHED - ALLOWED[package]}
        assert not forbidden, f"{file.relative_to(ROOT)} imports {', '.join(sorted(forbidden))}"
