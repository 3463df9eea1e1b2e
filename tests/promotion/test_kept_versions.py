"""Upkeep of versions: the served one and those that a rollback goes back to stay."""

from datetime import UTC, datetime, timedelta

import pytest
from promotion_world import World, make_registered

from feedrank.config import Config
from feedrank.config.upkeep import UpkeepConfig
from feedrank.errors import StorageError
from feedrank.storage import exclusive
from feedrank.upkeep.folders import keep_own_days, keep_served_versions, needed_versions
from feedrank.upkeep.run import keep_registered_versions


def folders_in(versions):
    return {path.name for path in versions.glob("[!.]*")}


def test_served_versions_and_those_a_rollback_goes_back_to_stay(world):
    promoter = world.promoter()
    for version in ("v1.0.0", "v1.0.1", "v1.0.2"):
        promoter.promote(version, why="test", force=True)
    versions = world.target.folders.directory
    served = world.target.link.readlink()
    world.target.link.unlink()
    assert keep_served_versions(promoter, versions, steps=1) is None, "nobody knows what is served"
    world.target.link.symlink_to(served)
    keep_served_versions(promoter, versions, steps=5)
    assert folders_in(versions) == {"v1.0.0", "v1.0.1", "v1.0.2"}
    assert needed_versions(promoter, steps=1) == {"v1.0.1", "v1.0.2"}
    keep_served_versions(promoter, versions, steps=1)
    assert folders_in(versions) == {"v1.0.1", "v1.0.2"}
    promoter.rollback(why="bad")
    assert world.target.current_version() == "v1.0.1"
    with exclusive(promoter.directory / "promotion"), pytest.raises(StorageError, match="another run"):
        keep_served_versions(promoter, versions, steps=1)
    keep_served_versions(promoter, versions, steps=1)
    promoter.rollback(why="a version that was removed is fetched from the registry again")
    assert world.target.current_version() == "v1.0.0"


def test_the_first_days_of_models_that_no_rollback_goes_back_to_go(world, tmp_path):
    promoter, folder = world.promoter(), tmp_path / "own_days"
    for version in ("v0.9.0", "v1.0.0", "v1.0.1", "v1.0.2"):
        (folder / version).mkdir(parents=True)
    assert keep_own_days(promoter, folder, name="own days", steps=1) is None, "nobody knows what is served"
    for version in ("v1.0.0", "v1.0.1", "v1.0.2"):
        promoter.promote(version, why="test", force=True)
    keep_own_days(promoter, folder, name="own days", steps=1)
    assert folders_in(folder) == {"v1.0.1", "v1.0.2"}


def test_registered_versions_go_when_they_are_old_and_neither_the_newest_nor_named_nor_in_a_rollbacks_way(tmp_path):
    make_registered(tmp_path)
    promoter = World(tmp_path).promoter()
    registry, now = promoter.registry, datetime.now(UTC)
    for version in ("v1.0.0", "v1.0.1"):
        promoter.promote(version, why="test", force=True)

    def left(*, days, steps):
        config = Config(upkeep=UpkeepConfig(rollback_steps=steps))
        keep_registered_versions(promoter, config=config, now=now + timedelta(days=days))
        return [version.model_version for version in registry.versions()]

    assert left(days=89, steps=1) == ["v1.0.2", "v1.0.1", "v1.0.0"], "none is old"
    assert left(days=91, steps=2) == ["v1.0.2", "v1.0.1", "v1.0.0"], "a rollback may go back to the oldest"
    promoter.promote("v1.0.2", why="test", force=True)
    registry.set_alias("kept", registry.versions()[2].number)
    assert left(days=91, steps=1) == ["v1.0.2", "v1.0.1", "v1.0.0"], "it has an alias"
    registry.set_alias("kept", None)
    assert left(days=91, steps=1) == ["v1.0.2", "v1.0.1"]
