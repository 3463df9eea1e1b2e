"""Upkeep of versions: the served one and those that a rollback goes back to stay."""

import pytest

from feedrank.errors import StorageError
from feedrank.storage import exclusive
from feedrank.upkeep.folders import keep_served_versions, needed_versions


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
