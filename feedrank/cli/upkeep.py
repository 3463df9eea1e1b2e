"""`feedrank upkeep`."""

from datetime import UTC, datetime

import typer
from rich.table import Table

from feedrank.cli.console import DEFAULT_RUN, RunDirectory, console, errors, run_config, timed

MIB = 1 << 20


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command()(upkeep)


def upkeep(run_dir: RunDirectory = DEFAULT_RUN) -> None:
    """Keep tables, log, versions and reports within their limits (upkeep_config.yaml); safe beside all that runs."""
    from feedrank.upkeep import run_upkeep

    with timed("upkeep done"):
        report = run_upkeep(run_dir, config=run_config(run_dir), now=datetime.now(UTC))
    table = Table("what", "MiB before", "MiB after", "what was done")
    for freed in report.freed:
        sizes = (f"{size / MIB:,.1f}" for size in (freed.bytes_before, freed.bytes_after))
        table.add_row(freed.name, *sizes, "; ".join(freed.done) or "nothing to do")
    console.print(table)
    for warning in report.warnings:
        errors.print(f"warning: {warning}", style="yellow", highlight=False, soft_wrap=True)
    if report.warnings:
        raise typer.Exit(1)
