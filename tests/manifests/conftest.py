"""Tests of chart and manifests need helm and kubectl, which the kind cluster brings; they are skipped without."""

import os
import shutil
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cluster" / "bin"


@pytest.fixture(autouse=True)
def _tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the cluster's programs on the PATH."""
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{CACHE}")
    for program in ("helm", "kubectl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not here; ../shared/cluster/up brings it")
