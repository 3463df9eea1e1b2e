"""Where a run's data lie: its folder, and what the configuration has elsewhere. And the right to write there."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from feedrank import delta, storage
from feedrank.config import Config
from feedrank.errors import StorageError
from feedrank.features.snapshot import CURRENT

OF_A_RUN = (
    "interactions",
    "validated",
    "features",
    "model",
    "evaluation",
    "refitted",
    "retraining",
    "monitoring",
    "pipelines",
    "backfill",
    "served",
    "online",
    "model-cache",
    "predictions",
)
"""Folders of a run folder that commands write; anything else there is its owner's."""
MLFLOW = "mlflow-artifacts"
WRITTEN = ("interactions", "validated", "features", "model", "refitted", "monitoring/monitor")
"""Locks of commands that write, also before they did for the first time."""
WAIT_SECONDS = 120.0
"""For a command that is running; a longer one must end first."""
OTHERS = ("promotion", "upkeep.json", "erasure.json")
"""Locks of what may run beside an erasure."""


def our_folders(run_dir: Path, config: Config) -> list[Path]:
    """The folders, and files such as checkpoints, that may hold users; each once, none within another."""
    log, snapshot = config.serving.log.directory, config.serving.snapshot
    found = [path for path in run_dir.glob("*") if _is_ours(path.name)]
    found += [config.promotion.target.directory / "versions", config.serving.reload.cache_directory]
    found += [Path(log)] if delta.is_local(log) else []
    if snapshot is not None and delta.is_local(snapshot) and Path(snapshot).name == CURRENT:
        found.append(Path(snapshot).parent)
    folders = sorted({path.resolve() for path in found if path.exists()})
    return [folder for folder in folders if not any(other in folder.parents for other in folders)]


def others_folders(run_dir: Path) -> list[Path]:
    """What people put into the run folder, such as files to ingest."""
    return sorted(path for path in run_dir.glob("*") if path.name != MLFLOW and not _is_ours(path.name))


def _is_ours(name: str) -> bool:
    """Also of what a writer keeps aside, such as `.features.new` and `.model.0.checkpoint`."""
    return name in OF_A_RUN or (name.startswith(".") and name[1:].partition(".")[0] in OF_A_RUN)


@contextlib.contextmanager
def nobody_writes(run_dir: Path) -> Iterator[None]:
    """Holds the right to write every output of a run.

    Raises:
        StorageError: a command that writes one runs, for longer than a while.
    """
    locks = {run_dir / name for name in WRITTEN}
    locks |= {lock.with_name(lock.name[1:].removesuffix(".lock")) for lock in run_dir.rglob(".*.lock")}
    with contextlib.ExitStack() as stack:
        for path in sorted(path for path in locks if path.name not in OTHERS and path.parent.is_dir()):
            try:
                stack.enter_context(storage.exclusive(path, wait_seconds=WAIT_SECONDS))
            except StorageError as error:
                raise StorageError(
                    f"{path}: another run is writing it, and would bring the user back; wait for it to end, then run "
                    "the same command again (or leave it to the next upkeep)"
                ) from error
        yield
