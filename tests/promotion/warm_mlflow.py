"""Imported by the fork server of the kill tests: does once what else each of its children would spend a second on."""

import tempfile
from pathlib import Path

import kill_points  # noqa: F401
from promotion_world import World

with tempfile.TemporaryDirectory() as folder:
    World(Path(folder)).registry().versions()
