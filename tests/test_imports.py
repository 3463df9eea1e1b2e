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


def test_one_package_knows_the_tables_library_and_loads_it_only_where_a_table_is_used():
    importers = {
        file for package in ALLOWED for file in (ROOT / package).rglob("*.py") if "deltalake" in file.read_text()
    }
    assert {file.parent for file in importers} == {ROOT / "feedrank" / "delta"}
    for file in importers:
        at_import = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not any("deltalake" in ast.unparse(node) for node in at_import), file
