"""A benchmark that needs another program says so before it makes anything."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_without_wrk_the_predictors_benchmark_ends_at_once_with_how_to_get_it(tmp_path):
    environment = os.environ | {"PATH": "", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "benchmarks.predict"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "wrk is missing: apt-get install wrk\n")
    assert not list(tmp_path.iterdir())
