"""What all commands print with, and the option they share."""

import contextlib
import sys
import time
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from feedrank.config import Config, load_config

LOG_WIDTH = 160
"""Characters of a line in what is no terminal, such as the log of a pod, where nothing says how wide it is shown."""
# No markup: brackets and colons are those of paths, reasons and messages.
console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH, markup=False, emoji=False)
errors = Console(stderr=True, markup=False, emoji=False)

# What belongs to a run and, unless it is configured, lies in the folder of one that is not the default run.
OF_A_RUN = {
    "data.ingest.erased_users": "{}/erased-users.json",
    "model.registry.tracking_uri": "sqlite:///{}/mlflow.db",
    "promotion.state_directory": "{}/promotion",
    "promotion.target.directory": "{}/served",
}
RunDirectory = Annotated[Path, typer.Option("--run-dir", help="Folder of all inputs and outputs of a run.")]
DEFAULT_RUN = Path("runs/local")


def run_overrides(run_dir: Path) -> dict[str, str]:
    """Registry, journal, served versions and erased users of a run: in its own folder, so that feeds don't mix; as
    configured, if they are configured, or for the default run."""
    if run_dir.resolve() == DEFAULT_RUN.resolve():
        return {}
    configured, default = load_config(), Config()
    return {
        key: place.format(run_dir)
        for key, place in OF_A_RUN.items()
        if attrgetter(key)(configured) == attrgetter(key)(default)
    }


def run_config(run_dir: Path) -> Config:
    """The configuration with registry, journal, served versions and erased users of a run."""
    return load_config(overrides=run_overrides(run_dir), source="--run-dir")


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Prints what was done and in how many seconds, once it is done."""
    started = time.perf_counter()
    yield
    console.print(f"{what} in {time.perf_counter() - started:.1f} s", highlight=False)


@contextlib.contextmanager
def progress_bar(description: str, *, total: int) -> Iterator[Progress]:
    """A progress bar with one task, on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        progress.add_task(description, total=total)
        yield progress
