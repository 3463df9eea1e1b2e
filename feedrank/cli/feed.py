"""Commands about the declaration of the feed."""

from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Column, Table

from feedrank import delta
from feedrank.cli.console import DEFAULT_RUN, RunDirectory, console, timed
from feedrank.config import config_dir, file_name, load_config
from feedrank.data.validation.stored import CLEAN
from feedrank.features.events import event_columns
from feedrank.features.explanation import explain

feed = typer.Typer(help="The declaration of the feed, config/feed.yaml.", no_args_is_help=True)


@feed.command()
def check(
    run_dir: RunDirectory = DEFAULT_RUN,
    days: Annotated[int, typer.Option(min=1, help="Latest days of validated interactions that values are from.")] = 30,
) -> None:
    """Say what each declared feature is and costs, with its values on the validated interactions of a run."""
    declared, clean = load_config().feed, run_dir / "validated" / CLEAN
    with timed(f"checked {config_dir() / file_name('feed')}"):
        interactions = None
        if delta.is_table(clean) and (known := [*(table := delta.open_table(clean)).days()]):
            start = known[-1] - timedelta(days=days - 1)
            interactions = table.read(columns=event_columns(declared), start=start)
        explained = list(explain(declared, interactions))
    shown = Table(
        Column("feature", no_wrap=True), "declared", "state", "online", "inputs", f"values ({run_dir}, latest day)"
    )
    for one in explained:
        shown.add_row(one.name, one.declared, one.state, one.online, str(one.inputs), one.values or "no interactions")
    console.print(shown)
    console.print(
        f"{len(explained)} features, {sum(one.inputs for one in explained)} network inputs, fingerprint "
        f"{declared.fingerprint}",
        highlight=False,
    )


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.add_typer(feed, name="feed")
