"""A run folder, made once, and a copy of it for each test."""

import shutil
from pathlib import Path

import pytest
from erase_world import make_run

from feedrank.erasure import places

CONFIG = Path(__file__).parents[2] / "config"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEEDRANK_CONFIG_DIR", str(CONFIG))
        patch.chdir(folder)
        make_run(folder / "run")
    return folder


@pytest.fixture
def run(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The registry knows where it lies, so each test has the run in the same place; it is restored afterwards."""
    monkeypatch.setenv("FEEDRANK_CONFIG_DIR", str(CONFIG))
    monkeypatch.chdir(made)
    monkeypatch.setattr(places, "WAIT_SECONDS", 0.2)
    kept = made.with_name(f"{made.name}-kept")
    if not kept.exists():
        shutil.copytree(made, kept, symlinks=True)
    yield made / "run"
    shutil.rmtree(made / "run")
    shutil.rmtree(made / "export")
    shutil.copytree(kept, made, symlinks=True, dirs_exist_ok=True)
