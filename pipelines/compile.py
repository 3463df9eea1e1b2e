"""Compiles the pipelines to the YAML that a KFP server takes."""

import tempfile
from pathlib import Path

from kfp.compiler import Compiler

from pipelines import PIPELINES


def compile_all(directory: Path) -> list[Path]:
    """Writes `directory`/NAME.yaml for every pipeline, all or none, and returns the files."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as aside:
        for name, pipeline in PIPELINES.items():
            Compiler().compile(pipeline, str(Path(aside) / f"{name}.yaml"))
        return [(Path(aside) / f"{name}.yaml").replace(directory / f"{name}.yaml") for name in PIPELINES]
