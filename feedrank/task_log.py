"""What a task of a pipeline prints: first what it does with which inputs, last what came of it or why it failed."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

from feedrank.errors import FeedrankError

PROGRESS = "feedrank: "
"""Starts the lines of a task's output that are meant for a person."""
ERROR = "error: "
"""Starts the last line of a task that failed as expected, as it does on the command line."""
QUIET = {"TQDM_DISABLE": "1", "MLFLOW_LOGGING_LEVEL": "WARNING"}


def say(text: str) -> None:
    """Prints a line of progress."""
    print(PROGRESS + text, flush=True)


@contextlib.contextmanager
def task(what: str) -> Iterator[None]:
    """Frames the work of a process that is one task: prints what it does; an expected error ends it in one sentence.

    The progress, information and warnings of libraries are turned off, up to the end of the process.
    """
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    os.environ.update(QUIET)
    say(what)
    try:
        yield
    except FeedrankError as error:
        print(f"{ERROR}{error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
