"""`feedrank erase`."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from feedrank.cli.console import DEFAULT_RUN, RunDirectory, console, errors, run_config, timed
from feedrank.cli.on_cluster import on_cluster
from feedrank.user import current_user


def register(app: typer.Typer) -> None:
    """Adds the command to the command line."""
    app.command()(on_cluster(erase))


def erase(
    user: Annotated[
        list[str] | None,
        typer.Option(
            "--user",
            envvar="FEEDRANK_ERASE_USERS",
            help="The id as clients send it, a number or the text that a mapping hashes; may be given several times.",
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", envvar="FEEDRANK_ERASE_VERIFY", help="Only look where the id is still found."),
    ] = False,
    who: Annotated[str | None, typer.Option(envvar="FEEDRANK_WHO", help="Who decided; the user by default.")] = None,
    run_dir: RunDirectory = DEFAULT_RUN,
) -> None:
    """Take a person out of all tables, snapshots, samples and models, and refuse their rows from then on.

    Without --user it ends an erasure that was cut off.
    """
    from feedrank.erasure.run import erase as erase_users
    from feedrank.erasure.run import verify_erasure

    config = run_config(run_dir)
    if verify:
        with timed("looked through everything"):
            left = verify_erasure(user or (), run_dir=run_dir, config=config)
    else:
        with timed("erased"):
            report = erase_users(
                user or (), run_dir=run_dir, config=config, who=who or current_user(), now=datetime.now(UTC)
            )
        left = report.left
        table = Table("place", "found", "what was done")
        for erased in report.erased:
            table.add_row(erased.place, f"{erased.rows:,}", erased.done)
        if report.erased:
            console.print(table)
        else:
            console.print("found nowhere; rows of that id are refused from now on", highlight=False)
        for remark in report.remarks:
            console.print(f"note: {remark}", highlight=False, soft_wrap=True)
    for place in left:
        whose = place.why or ("" if place.ours else "not ours: erase it there")
        errors.print(f"still found: {place.place}: {place.rows:,}{f' ({whose})' if whose else ''}", soft_wrap=True)
    if any(place.ours or verify for place in left):
        raise typer.Exit(1)
    if verify:
        console.print("found nowhere", highlight=False)
