"""`feedrank generate`, `ingest`, `validate`, `accept-day`, `features` and `migrate`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from feedrank import schema, stages
from feedrank.cli.console import DEFAULT_RUN, RunDirectory, console, progress_bar, run_config, timed
from feedrank.cli.on_cluster import on_cluster
from feedrank.config import load_config
from feedrank.features.snapshot import publish_snapshot
from feedrank.interactions import refuse_old_folder
from feedrank.model.bundle import SNAPSHOT_FOLDER
from feedrank.user import current_user


def generate(run_dir: RunDirectory = DEFAULT_RUN) -> None:
    """Write synthetic interactions (data_config.yaml: generator)."""
    config = load_config().data.generator
    with timed("generated"), progress_bar("interactions", total=config.num_interactions) as bar:
        stages.generate_interactions(
            run_dir / "interactions", config=config, progress=lambda rows: bar.advance(bar.task_ids[0], rows)
        )
    _print(stages.summary_of(run_dir / "interactions"))


def ingest(
    inputs: Annotated[list[str], typer.Argument(help="Files, folders, globs, s3:// or gs:// addresses.")],
    run_dir: RunDirectory = DEFAULT_RUN,
    mapping: Annotated[Path | None, typer.Option(help="How the columns map to ours (config/mappings/).")] = None,
    infer: Annotated[
        bool, typer.Option("--infer", help="Only print a mapping for the first file, and its first rows through it.")
    ] = False,
) -> None:
    """Add your own interactions (Parquet, CSV, JSON Lines) to the run; a later version of one replaces it."""
    from feedrank.data.ingest import ingest as ingest_files

    if infer:
        _propose_mapping(inputs)
        return
    with timed("ingested"):
        summary = ingest_files(
            inputs, output=run_dir / "interactions", mapping=mapping, config=run_config(run_dir).data.ingest
        )
    console.print_json(summary.model_dump_json())
    _print_warnings(summary.warnings)


def _propose_mapping(inputs: list[str]) -> None:
    """The mapping goes to the standard output, for a file; the rows to the standard error, for a person."""
    from feedrank.data.ingest import infer_mapping
    from feedrank.data.ingest.files import find_files

    proposal = infer_mapping(find_files(inputs)[0], config=load_config().data.ingest)
    typer.echo(proposal.text, nl=False)
    rows = proposal.rows.drop_columns([schema.INTERACTION_ID, schema.TIME_OF_DAY, schema.DAY_OF_WEEK])
    table = Table(*rows.column_names, title="the first rows through it")
    for row in rows.to_pylist():
        table.add_row(*(str(cell) for cell in row.values()))
    remarks = Console(stderr=True, width=160)
    remarks.print(table)
    remarks.print(f"{proposal.read} rows looked at, {len(proposal.refused)} refused", highlight=False)
    for reason in dict.fromkeys(proposal.refused):
        remarks.print(f"refused: {reason}", highlight=False, markup=False)


def validate(
    run_dir: RunDirectory = DEFAULT_RUN,
    drift_expected: Annotated[
        bool, typer.Option(help="Days on which users behave otherwise are reported, and fail nothing.")
    ] = False,
) -> None:
    """Check the days that are new or changed, quarantine bad rows, hold back wrong days and write the report.

    A day that is held or missing is an ALARM once, and fails nothing: see `feedrank accept-day`.
    """
    from feedrank.data.validation import validate as validate_interactions

    output = run_dir / "validated"
    refuse_old_folder(run_dir / "interactions")
    with timed("validated"):
        summary = validate_interactions(
            run_dir / "interactions",
            output=output,
            config=load_config().data.validation,
            drift_expected=drift_expected,
        )
    console.print_json(summary.model_dump_json(exclude={"rules"}))
    if summary.first_import:
        console.print("first import: days unlike those before them are warnings", highlight=False)
    for alarm in summary.alarms:
        console.print(f"ALARM: {alarm}", highlight=False, markup=False)
    _print_warnings(summary.warnings)
    console.print(f"report: {output / 'report.html'}", highlight=False)


def accept_day(
    days: Annotated[
        list[datetime],
        typer.Argument(
            envvar="FEEDRANK_ACCEPT_DAYS",
            formats=["%Y-%m-%d"],
            metavar="DATE...",
            help="Days that are held or missing; in the environment with spaces between them.",
        ),
    ],
    why: Annotated[str, typer.Option(envvar="FEEDRANK_WHY", help="The reason, kept with the days.")],
    who: Annotated[str | None, typer.Option(envvar="FEEDRANK_WHO", help="Who decided; the user if not given.")] = None,
    run_dir: RunDirectory = DEFAULT_RUN,
) -> None:
    """Accept days that the validation holds or misses: the next `feedrank validate` takes their good rows in."""
    from feedrank.data.validation.accept import accept_days

    person = current_user() if who is None else who
    dates = [day.date() for day in days]
    for entry, day in zip(
        accept_days(run_dir / "validated", dates, why=why, who=person, now=datetime.now(UTC)), dates, strict=True
    ):
        console.print(f"{day} accepted by {entry.who} at {entry.at}: {entry.why}", highlight=False)


def features(
    run_dir: RunDirectory = DEFAULT_RUN,
    publish: Annotated[
        Path | None, typer.Option(help="Folder whose link `current` becomes the snapshot, for predictors to follow.")
    ] = None,
) -> None:
    """Compute the feature table, its split and the online snapshot from the validated interactions."""
    output = run_dir / "features"
    with timed("computed features"):
        summary = stages.build_features(run_dir / "validated" / "clean", output=output, config=load_config())
    _print(summary)
    if publish is not None:
        console.print(f"published: {publish_snapshot(output / SNAPSHOT_FOLDER, publish)}", highlight=False)


def migrate(run_dir: RunDirectory = DEFAULT_RUN) -> None:
    """Make Delta tables of an earlier release's interactions and prediction log; run twice, it does nothing."""
    from feedrank.migrate import migrate_interactions
    from feedrank.prediction_log.migrate import migrate_log

    interactions, log = run_dir / "interactions", load_config().serving.log.directory
    with timed("migrated"):
        found = {str(interactions): migrate_interactions(interactions), str(log): migrate_log(log)}
    for location, table in found.items():
        state = "nothing to migrate" if table is None else f"a table, version {table.version}, {table.rows:,} rows"
        console.print(f"{location}: {state}", highlight=False)


def _print_warnings(warnings: Sequence[str]) -> None:
    for warning in warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False)


def _print(summary: stages.Summary) -> None:
    console.print(f"{summary.rows:,} rows from {summary.start} to {summary.end} in {summary.output}", highlight=False)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (generate, ingest, validate, on_cluster(accept_day), features, migrate):
        app.command()(command)
