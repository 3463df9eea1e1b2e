"""Killed (SIGKILL) before any effect of any command, one champion is served, and the next command ends the change."""

import multiprocessing
import os
import shutil
import signal
import sys
from dataclasses import replace

import kill_points
import pytest

from feedrank.model.bundle import load_bundle
from feedrank.promotion.promote import Promoter
from feedrank.promotion.serving_target import LocalTarget

MAX_EFFECTS = 30


@pytest.fixture(scope="module")
def processes():
    """Children of a process that has imported all that a command needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "warm_mlflow"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        yield context


def killed_worlds(processes, world, command):
    """A copy of the world for each effect before which the command can be killed, after the kill."""
    for kill_before in range(MAX_EFFECTS):
        copy = replace(world, folder=world.folder / f"killed-{kill_before}")
        shutil.copytree(world.folder, copy.folder, symlinks=True, ignore=shutil.ignore_patterns("killed-*"))
        process = processes.Process(target=kill_points.run_and_kill, args=(command, copy, kill_before))
        process.start()
        process.join(60)
        if process.exitcode != -signal.SIGKILL:
            assert kill_before > 5, "the command ended before its effects were counted"
            return
        yield copy
    raise AssertionError("more effects than expected")


def assert_one_champion(world, allowed: set[str]) -> None:
    assert world.target.current_version() in allowed
    assert load_bundle(world.target.link).metadata.model_version == world.target.current_version()


def assert_ended(world, promoter: Promoter, allowed: set[str]) -> None:
    assert_one_champion(world, allowed)
    assert world.champion() == world.target.current_version()
    assert promoter.log.open_change() is None
    records = promoter.log.history()
    assert len({record.change.change_id for record in records}) == len(records)


@pytest.fixture
def smoke_as_in_the_killed_process(monkeypatch):
    monkeypatch.setattr(LocalTarget, "smoke", LocalTarget.smoke)
    kill_points.make_bad_versions_fail()


def test_a_killed_promotion_is_finished_by_the_next_command(processes, world):
    world.promoter().promote("v1.0.0", why="first")
    outcomes = []
    for copy in killed_worlds(processes, world, kill_points.promote_good):
        assert_one_champion(copy, {"v1.0.0", "v1.0.1"})
        promoter = copy.promoter()
        promoter.repair()
        assert_ended(copy, promoter, {"v1.0.0", "v1.0.1"})
        outcomes.append(copy.target.current_version())
    # Until the journal is written nothing has begun; from then on the next command goes on to the end.
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {"v1.0.0", "v1.0.1"}


def test_a_killed_promotion_of_a_bad_version_is_undone_by_the_next_command(
    processes, world, smoke_as_in_the_killed_process
):
    world.promoter().promote("v1.0.0", why="first")
    for copy in killed_worlds(processes, world, kill_points.promote_bad):
        promoter = copy.promoter()
        promoter.repair()
        assert_ended(copy, promoter, {"v1.0.0"})


def test_a_killed_rollback_given_again_goes_back_one_step_in_all(processes, world):
    for version in ("v1.0.0", "v1.0.1", "v1.0.2"):
        world.promoter().promote(version, why="test", force=True)
    for copy in killed_worlds(processes, world, kill_points.rollback):
        assert_one_champion(copy, {"v1.0.1", "v1.0.2"})
        promoter = copy.promoter()
        if promoter.log.open_change() is not None or copy.target.current_version() == "v1.0.2":
            promoter.rollback(why="again")
        assert_ended(copy, promoter, {"v1.0.1"})


def test_a_rollback_after_a_killed_promotion_brings_back_what_was_served_before(processes, world):
    for version in ("v1.0.2", "v1.0.0"):
        world.promoter().promote(version, why="test", force=True)
    for copy in killed_worlds(processes, world, kill_points.promote_good):
        promoter = copy.promoter()
        interrupted = promoter.log.open_change()
        if interrupted is None:
            continue
        promoter.rollback(why="it hung")
        assert_ended(copy, promoter, {"v1.0.0"})
