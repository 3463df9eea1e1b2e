"""Registered models, made once, and a copy of their registry for each test that changes it."""

import shutil
from pathlib import Path

import pytest
from promotion_world import World, make_registered


@pytest.fixture(scope="session")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("registered")
    make_registered(folder)
    return folder


@pytest.fixture
def world(registered: Path, tmp_path: Path) -> World:
    shutil.copy(registered / "mlflow.db", tmp_path)
    return World(tmp_path)
