"""`feedrank serve`, `feedrank predict` and `feedrank log export`."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from feedrank.cli.console import DEFAULT_RUN, RunDirectory, console, run_config, timed
from feedrank.config import load_config
from feedrank.errors import ConfigError, FeedrankError

Url = Annotated[str, typer.Option(help="Where the predictor listens.")]
TIME_WITH_ZONE = "%Y-%m-%dT%H:%M:%S%z"
DAY_OR_TIME = ["%Y-%m-%d", TIME_WITH_ZONE]


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(serve)
    app.command()(predict)
    log = typer.Typer(help="The prediction log.", no_args_is_help=True)
    log.command("export")(export)
    app.add_typer(log, name="log")


def serve(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option(help="A model folder, or models:/NAME@ALIAS; the champion if not given.")
    ] = None,
    run_dir: RunDirectory = DEFAULT_RUN,
) -> None:
    """Start the predictor; further options are those of `python -m serving --help`."""
    if model is None:
        config = run_config(run_dir).model.registry
        model = f"models:/{config.model_name}@champion"
        os.environ["FEEDRANK__MODEL__REGISTRY__TRACKING_URI"] = config.tracking_uri
    command = [sys.executable, "-m", "serving", "--model", model, *context.args]
    if subprocess.run([sys.executable, "-c", "import serving"], capture_output=True, check=False).returncode:
        raise FeedrankError("the serving package is not here; run this in the project's folder")
    os.execv(sys.executable, command)  # signals then reach the predictor itself


def predict(
    user: Annotated[int, typer.Option(help="The user to rank for.")],
    items: Annotated[str, typer.Option(help="1 to 100 items, separated by commas.")],
    device: Annotated[str | None, typer.Option(help="mobile, desktop or tablet.")] = None,
    timestamp: Annotated[
        datetime | None, typer.Option(formats=[TIME_WITH_ZONE], help="With a zone; now if absent.")
    ] = None,
    url: Url = "http://localhost:8080",
    token: Annotated[str | None, typer.Option(envvar="FEEDRANK_TOKEN", help="Bearer token.")] = None,
) -> None:
    """Rank items for a user with a running predictor."""
    from feedrank.client import Client

    with Client(url, token=token) as client:
        ranking = client.rank(user, _ids(items), device=device, timestamp=timestamp)  # type: ignore[arg-type]
    table = Table("rank", "item", "click probability")
    for item in ranking.predictions:
        table.add_row(str(item.rank), str(item.item_id), f"{item.score:.4f}")
    console.print(table)
    console.print(
        f"user {ranking.user_id}, model {ranking.model_version}, {ranking.latency_ms:.2f} ms", highlight=False
    )


def export(
    output: Annotated[Path, typer.Argument(help="The CSV file to write.")],
    log: Annotated[str | None, typer.Option(help="Folder or URI of the log; the configured one if absent.")] = None,
    start: Annotated[datetime | None, typer.Option(formats=DAY_OR_TIME, help="First time of arrival (UTC).")] = None,
    end: Annotated[datetime | None, typer.Option(formats=DAY_OR_TIME, help="Time to stop before (UTC).")] = None,
) -> None:
    """Export the prediction log as CSV; the features are a JSON object in one column."""
    from feedrank.prediction_log import export_csv

    location = load_config().serving.log.directory if log is None else log
    first, stop = _utc(start), _utc(end)
    if first is not None and stop is not None and first >= stop:
        raise ConfigError(f"--start {first:%Y-%m-%d %H:%M} is not before --end {stop:%Y-%m-%d %H:%M} (UTC)")
    with timed(f"wrote {output}"):
        rows = export_csv(location, output, start=first, end=stop)
    console.print(f"{rows:,} rows", highlight=False)


def _ids(text: str) -> list[int]:
    try:
        return [int(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: give item ids such as 1001,1002", param_hint="--items") from error


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
