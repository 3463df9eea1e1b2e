"""Keeps the served model up to date: loads aside, switches by one assignment, and keeps the old one on failure."""

import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import filelock

from feedrank.config.serving import ReloadConfig
from feedrank.errors import FeedrankError
from feedrank.model.bundle import CHECKSUMS_FILE
from serving.online_snapshot import OnlineSnapshot
from serving.served_model import ServedModel, read
from serving.sources import SNAPSHOT_FILE, RegistrySource, Revision, SnapshotSource, Source

logger = logging.getLogger(__name__)

BUILD_TIMEOUT_SECONDS = 600
KEPT_BUILDS = 2


class UnusableModelError(FeedrankError):
    """The wanted model can't be served."""


@dataclass(frozen=True)
class Loaded:
    """The model that answers."""

    model: ServedModel
    key: str
    loaded_at: datetime


@dataclass(frozen=True)
class _Build:
    """The file of a model, and when what it was made of was changed last."""

    path: Path
    sources: tuple[tuple[Path, int], ...]

    @staticmethod
    def of(path: Path, model: Revision, snapshot: Revision | None) -> "_Build":
        files = [model.directory / CHECKSUMS_FILE]
        files += [] if snapshot is None else [snapshot.directory / SNAPSHOT_FILE]
        return _Build(path, tuple((file, _mtime(file)) for file in files))

    def is_up_to_date(self) -> bool:
        return all(_mtime(file) == changed for file, changed in self.sources)


class ModelLoader:
    """Holds the served model. Requests read `current`; one thread at a time replaces it."""

    def __init__(
        self,
        model: Source,
        snapshot: SnapshotSource | None,
        *,
        config: ReloadConfig,
        runtime: Path,
        on_reload: Callable[[bool], None],
    ) -> None:
        self.current: Loaded | None = None
        self.problem: str | None = None
        """Why the wanted model is not the served one."""
        self._model = model
        self._online: OnlineSnapshot | None = None
        if snapshot is not None:
            backoff = config.max_backoff_seconds
            self._online = OnlineSnapshot(snapshot, max_backoff_seconds=backoff, on_failure=lambda: on_reload(False))
        self._config = config
        self._runtime = runtime
        self._built: list[_Build] = []
        """Of the served model, and of the one before, which a rollback finds ready."""
        self._on_reload = on_reload
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failures = 0
        self._bump = _mtime(self._bump_file)

    @property
    def snapshot_problem(self) -> str | None:
        """Why the model is served without the published snapshot."""
        return None if self._online is None else self._online.problem

    @property
    def _bump_file(self) -> Path:
        return self._runtime / "reload"

    def start(self) -> None:
        """Loads, and goes on watching, in a thread."""
        threading.Thread(target=self._watch, name="model-loader", daemon=True).start()

    def stop(self) -> None:
        """Ends the watching."""
        self._stop.set()

    def reload(self, *, now: bool = True) -> bool:
        """Looks for a new model now, in this thread; True if the served model was replaced.

        A snapshot that can't be used is tried again, too, `now` or when its back-off is over.

        Raises:
            FeedrankError: the wanted model can't be used; the old one goes on.
        """
        with self._lock:
            try:
                replaced = self._refresh(now=now)
            except (FeedrankError, OSError) as error:
                self._failures += 1
                if self.problem != str(error):
                    logger.warning("can't load the model: %s", error)
                self.problem = str(error)
                self._on_reload(False)
                raise UnusableModelError(str(error)) from error
            self.problem, self._failures = None, 0
            if replaced:
                self._on_reload(True)
            return replaced

    def tell_other_workers(self) -> None:
        """Makes the loaders of the same worker set look now."""
        self._bump_file.touch()
        self._bump = _mtime(self._bump_file)

    def _watch(self) -> None:
        told = True
        while not self._stop.is_set():
            try:
                self.reload(now=told)
            except UnusableModelError:
                pass  # noted, logged and counted
            except Exception:
                logger.exception("the model loader failed")
            told = self._wait()

    def _wait(self) -> bool:
        """Until it is time to look again; True if told to look now."""
        poll = self._config.poll_seconds
        seconds = self._config.registry_poll_seconds if isinstance(self._model, RegistrySource) else poll
        if self._failures:
            seconds = min(2.0 ** (self._failures - 1), self._config.max_backoff_seconds)
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self._stop.wait(min(left, poll)):
            bump = _mtime(self._bump_file)
            if bump != self._bump:
                self._bump = bump
                return True
        return False

    def _refresh(self, *, now: bool) -> bool:
        self._remove_outdated()
        model = self._model.revision()
        failed: dict[Revision, str] = {}
        for snapshot in [None] if self._online is None else self._online.candidates(now=now):
            try:
                replaced = self._use(model, snapshot)
            except (FeedrankError, OSError) as error:
                if snapshot is None:
                    raise  # with its own snapshot, too, so it is the model
                failed[snapshot] = str(error)
                continue
            if self._online is not None:
                self._online.settled(snapshot, failed)
            return replaced
        raise AssertionError("the last candidate is the model's own snapshot")

    def _use(self, model: Revision, snapshot: Revision | None) -> bool:
        """Serves the model with the snapshot, or its own; False if that is what is served."""
        key = model.key if snapshot is None else f"{model.key}|{snapshot.key}"
        if self.current is not None and self.current.key == key:
            return False
        started = time.monotonic()
        path = self._runtime / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.model"
        with filelock.FileLock(path.with_suffix(".lock")):
            if not path.exists():
                self._build(model, snapshot, path)
            served = read(path)
        self.current = Loaded(served, key, datetime.now(UTC))
        earlier = [build for build in self._built if build.path != path]
        self._built = [_Build.of(path, model, snapshot), *earlier][:KEPT_BUILDS]
        self._remove_others()
        logger.info(
            "model loaded",
            extra={
                "fields": {
                    "model_version": served.version,
                    "snapshot_cutoff": served.snapshot_cutoff.isoformat(),
                    "seconds": round(time.monotonic() - started, 2),
                }
            },
        )
        return True

    def _build(self, model: Revision, snapshot: Revision | None, path: Path) -> None:
        first = self.current is None
        command = [sys.executable, "-m", "serving.build", "--bundle", str(model.directory), "--output", str(path)]
        threads = str(os.cpu_count() or 1) if first else "1"
        environment = os.environ | dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), threads)
        if snapshot is not None:
            command += ["--snapshot", str(snapshot.directory)]
        if not first:
            command = ["nice", "-n", "10", *command]  # the requests come first
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, timeout=BUILD_TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise UnusableModelError(f"{model.directory}: not loaded within {BUILD_TIMEOUT_SECONDS} s") from error
        if done.returncode:
            raise UnusableModelError(_reason(done))

    def _remove_outdated(self) -> None:
        """A model whose folder has changed, as by `feedrank erase`, is not one that a rollback goes back to."""
        useful = [build for build in self._built[1:] if build.is_up_to_date()]
        if self._built[1:] != useful:
            self._built[1:] = useful
            self._remove_others()

    def _remove_others(self) -> None:
        for other in self._runtime.glob("*.model"):
            if other not in {build.path for build in self._built}:
                other.unlink(missing_ok=True)


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    try:
        return str(json.loads(done.stdout)["error"])
    except (ValueError, KeyError):
        logger.warning("the model build crashed: %s", done.stderr.decode(errors="replace")[-2000:])
        return f"the model build ended with {done.returncode}; the server's log has more"


def _mtime(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
