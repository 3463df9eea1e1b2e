"""Runs an erasure in this process, which dies (SIGKILL) at a moment: erase_kills.py RUN MOMENT."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from erase_world import NOW, WHO, config_of
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from feedrank.delta import erasing
from feedrank.erasure import run as erasure
from feedrank.model import forget

MOMENTS: dict[str, tuple[Any, str, int]] = {
    "before the files of a day that was rewritten go": (erasing, "_remove", 2),
    "while a bundle's files are renamed": (Path, "replace", 0),
    "before a registered model is stored again": (LocalArtifactRepository, "log_artifacts", 1),
}
"""What is called, and at which call."""


def main() -> None:
    run, moment = Path(sys.argv[1]), sys.argv[2]
    owner, name, number = MOMENTS[moment]
    if owner is Path:
        _die_between_renames()
    else:
        _die_at(owner, name, number)
    erasure.erase([WHO], run_dir=run, config=config_of(run), who="tester", now=NOW)


def _die_at(owner: Any, name: str, number: int) -> None:
    effect, calls = getattr(owner, name), 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return effect(*args, **kwargs)

    setattr(owner, name, counted)


def _die_between_renames() -> None:
    replace: Callable[..., Any] = Path.replace

    def once(path: Path, target: Path) -> Any:
        if forget.WORK in path.parts and forget.WORK not in target.parts:
            Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        return replace(path, target)

    Path.replace = once


if __name__ == "__main__":
    main()
