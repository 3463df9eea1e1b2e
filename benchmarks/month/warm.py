"""Runs commands of the platform in children of a process that has imported what they need, to save 10 s for each.

Reads a JSON line {"argv", "environment", "output"} for each command and answers it with its exit code and the seconds.
The child runs the command line itself, `feedrank.cli.main`, with these arguments and that environment and output.
"""

import importlib
import json
import os
import sys
import time
import traceback

IMPORTED = (
    "feedrank.cli",
    "feedrank.data.ingest",
    "feedrank.data.validation",
    "feedrank.evaluation.report",
    "feedrank.features.offline",
    "feedrank.model.training",
    "feedrank.model.refit",
    "feedrank.monitoring.run",
    "feedrank.monitoring.engines",
    "feedrank.promotion.retrain",
    "feedrank.promotion.served",
    "feedrank.registry",
    "feedrank.upkeep",
    "alibi_detect.cd",
    "great_expectations",
    "mlflow.pyfunc",
    "mlflow.tracking",
    "sqlalchemy.dialects.sqlite",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "torch",
    "matplotlib.pyplot",
)


def main() -> None:
    """Answers until the input ends."""
    os.environ.setdefault("MPLBACKEND", "agg")
    for name in IMPORTED:
        importlib.import_module(name)
    print(json.dumps({"code": 0}), flush=True)
    for line in sys.stdin:
        command, started = json.loads(line), time.monotonic()
        child = os.fork()
        if child == 0:
            _run(command["argv"], environment=command["environment"], output=command["output"])
        _, status, used = os.wait4(child, 0)
        answer = {
            "code": os.waitstatus_to_exitcode(status),
            "seconds": time.monotonic() - started,
            "cpu_seconds": used.ru_utime + used.ru_stime,
        }
        print(json.dumps(answer), flush=True)


def _run(argv: list[str], *, environment: dict[str, str], output: str) -> None:
    """The command, in the child; ends it."""
    from feedrank.cli import main as feedrank

    sink = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(sink, descriptor)
    os.environ.update(environment)
    sys.argv, code = ["feedrank", *argv], 0
    try:
        feedrank()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
