"""Runs a pipeline on this machine through kfp.local: each task is a process in the same environment."""

import contextlib
import io
import json
import re
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from kfp import local
from kfp.local.pipeline_orchestrator import run_local_pipeline

from feedrank.errors import ConfigError, FeedrankError
from feedrank.task_log import ERROR, PROGRESS
from pipelines import PIPELINES

EXECUTOR_OUTPUT = "executor_output.json"
_ERROR = re.compile(rf"^\s*{ERROR}(.*)")
_COLOR = re.compile(r"\x1b\[\d+m")
_STARTED = re.compile(r"Executing task '(.*)'")
_ENDED = re.compile(r"Task '(.*)' finished with status (\w+)")


@dataclass(frozen=True)
class LocalRun:
    """What a run left: artifacts by their names in the components, seconds by task, and all that was printed."""

    artifacts: dict[str, Path]
    task_seconds: dict[str, float]
    log: Path


def run_local(
    name: str,
    *,
    root: Path,
    parameters: Mapping[str, Any],
    on_step: Callable[[str], None] = lambda _: None,
) -> LocalRun:
    """Runs a pipeline once, without retries; its outputs go to a new folder below `root`/pipelines.

    `on_step` gets a line when a task starts or ends, and what it says of its progress.

    Raises:
        ConfigError: there is no such pipeline or parameter.
        FeedrankError: a task failed, with the message of the task.
    """
    pipeline = _pipeline(name, parameters)
    outputs = (root / "pipelines").resolve()
    outputs.mkdir(parents=True, exist_ok=True)
    before = set(outputs.iterdir())
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(outputs))
    log = outputs / f"{name}.log"
    with log.open("w", encoding="utf-8") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="kfp")
        watch = _Watch(file, on_step, sys.stdout)
        try:
            with contextlib.redirect_stdout(watch):
                run_local_pipeline(pipeline, dict(parameters))
        except RuntimeError as error:
            raise FeedrankError(watch.failure or f"{error}; see {log}") from error
    (folder,) = set(outputs.iterdir()) - before - {log}
    return LocalRun(_artifacts(folder), watch.seconds, log)


def _pipeline(name: str, parameters: Mapping[str, Any]) -> Any:
    """The compiled specification without retries: an error that comes again would only come later."""
    if name not in PIPELINES:
        raise ConfigError(f"no pipeline '{name}'; there are {', '.join(PIPELINES)}")
    inputs = PIPELINES[name].component_spec.inputs or {}
    unknown = sorted(set(parameters) - set(inputs))
    missing = sorted(key for key, spec in inputs.items() if not spec.optional and key not in parameters)
    if unknown or missing:
        problem = f"no parameter '{unknown[0]}'" if unknown else f"the parameter '{missing[0]}' is missing"
        raise ConfigError(f"pipeline {name}: {problem}; its parameters are {', '.join(inputs)}")
    specification = type(PIPELINES[name].pipeline_spec)()
    specification.CopyFrom(PIPELINES[name].pipeline_spec)
    for component in (specification.root, *specification.components.values()):
        for task in component.dag.tasks.values():
            task.ClearField("retry_policy")
    return specification


def _artifacts(folder: Path) -> dict[str, Path]:
    """The outputs of all tasks, from what KFP's executor wrote in each task's folder."""
    found = {}
    for file in sorted(folder.glob(f"*/{EXECUTOR_OUTPUT}")):
        for artifact, entry in json.loads(file.read_text(encoding="utf-8")).get("artifacts", {}).items():
            path = Path(entry["artifacts"][0]["uri"])
            if path.exists():
                found[artifact] = path
    return found


@dataclass
class _Watch(io.TextIOBase):
    """Stands in for the standard output: keeps all in a log and picks out what a person wants to know."""

    log: TextIO
    on_step: Callable[[str], None]
    terminal: TextIO
    failure: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    _line: str = ""
    _started: dict[str, float] = field(default_factory=dict)

    def write(self, text: str) -> int:
        self.log.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            with contextlib.redirect_stdout(self.terminal):
                self._read(_COLOR.sub("", line))
        return len(text)

    def flush(self) -> None:
        self.log.flush()

    def _read(self, line: str) -> None:
        if said := re.match(rf"\s*{PROGRESS}(.*)", line):
            self.on_step(said[1])
        elif error := _ERROR.match(line):
            self.failure = error[1]
        elif started := _STARTED.search(line):
            self._started[started[1]] = time.perf_counter()
            self.on_step(f"{started[1].replace('-', ' ')} …")
        elif (ended := _ENDED.search(line)) and ended[1] in self._started:
            self.seconds[ended[1]] = time.perf_counter() - self._started[ended[1]]
