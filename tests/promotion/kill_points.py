"""Runs a promotion command and kills its process just before the n-th of the effects that it has."""

import os
import signal
from collections.abc import Callable
from typing import Any

from promotion_world import World

from feedrank.promotion import changes
from feedrank.promotion.changes import ChangeLog
from feedrank.promotion.promote import Promoter
from feedrank.promotion.serving_target import LocalTarget, NotServedError
from feedrank.registry import Registry

EFFECTS = (
    (LocalTarget, "stage"),
    (LocalTarget, "switch"),
    (LocalTarget, "smoke"),
    (Registry, "set_alias"),
    (Registry, "set_tag"),
    (ChangeLog, "write"),
    (ChangeLog, "close"),
    (changes, "append_json_line"),
)
BAD = "v1.0.2"
"""A version that never answers properly."""


def run_and_kill(command: Callable[[Promoter], object], world: World, kill_before: int) -> None:
    """Runs `command` in this process, which dies before effect `kill_before`, counted from 0."""
    done = 0

    def counted(effect: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            if done == kill_before:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            return effect(*args, **kwargs)

        return run

    make_bad_versions_fail()
    for owner, name in EFFECTS:
        setattr(owner, name, counted(getattr(owner, name)))
    command(world.promoter())


def make_bad_versions_fail() -> None:
    """Replaces the smoke test, for want of a predictor that serves `BAD`."""

    def smoke(_: LocalTarget, model_version: str) -> None:
        if model_version == BAD:
            raise NotServedError(f"{model_version} answers nonsense")

    LocalTarget.smoke = smoke  # type: ignore[method-assign]


def promote_good(promoter: Promoter) -> None:
    """To a version that answers."""
    promoter.promote("v1.0.1", why="killed test")


def promote_bad(promoter: Promoter) -> None:
    """To a version that does not, so the command undoes itself."""
    promoter.promote(BAD, why="killed test")


def rollback(promoter: Promoter) -> None:
    """One step."""
    promoter.rollback(why="killed test")
