"""The command line. Commands call the library and print what they did, how long it took and where the output is."""

import errno
import sys

import click
import typer

from feedrank.cli import data, model, monitoring, pipelines, serving, simulation
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
for commands in (data, model, monitoring, pipelines, serving, simulation):
    commands.register(app)


def main() -> None:
    """Runs the command line; an expected failure ends in one sentence and exit code 1."""
    try:
        exit_code = app(standalone_mode=False)  # click and typer return the code of an exit or an interruption
    except click.exceptions.Abort:
        exit_code = INTERRUPTED
    except click.ClickException as usage:
        usage.show()
        sys.exit(usage.exit_code)
    except FeedrankError as failure:
        errors.print(f"[bold red]error:[/] {failure}", markup=True, highlight=False, soft_wrap=True)
        sys.exit(1)
    except OSError as failure:
        if failure.errno != errno.ENOSPC:
            raise
        errors.print("error: no space left on the device; free some and run the same command again", soft_wrap=True)
        sys.exit(1)
    if exit_code == INTERRUPTED:
        errors.print("interrupted; earlier outputs are unchanged, and the same command starts over or goes on")
    sys.exit(exit_code if isinstance(exit_code, int) else 0)
