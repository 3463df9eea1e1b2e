"""The command line. Commands call the library and print what they did, how long it took and where the output is."""

import errno
import sys
from typing import NoReturn

import typer

from feedrank.cli import data, erasure, feed, model, monitoring, pipelines, serving, simulation, upkeep
from feedrank.cli.console import errors
from feedrank.errors import FeedrankError

INTERRUPTED = 130
"""Exit code of a process that SIGINT ended, as shells have it."""

app = typer.Typer(
    help="Feed ranking: data in, a gated and registered ranker out, served and watched.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for commands in (data, erasure, feed, model, monitoring, pipelines, serving, simulation, upkeep):
    commands.register(app)


def main() -> None:
    """Runs the command line; an expected failure ends in one sentence and exit code 1."""
    try:
        app()  # ends the process, after a wrong option or argument with a sentence and exit code 2
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _say("interrupted; earlier outputs are unchanged, and the same command starts over or goes on")
        raise
    except FeedrankError as failure:
        _fail(str(failure))
    except OSError as failure:
        if failure.errno == errno.ENOSPC:
            _fail("no space left on the device; free some and run the same command again")
        path = failure.filename2 or failure.filename
        if path is None:
            raise
        _fail(f"{path}: {failure.strerror}; correct the path or its permissions")


def _fail(sentence: str) -> NoReturn:
    errors.print("error:", style="bold red", end=" ")
    _say(sentence)
    sys.exit(1)


def _say(sentence: str) -> None:
    errors.print(sentence, highlight=False, soft_wrap=True)
