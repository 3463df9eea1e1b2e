"""`feedrank run` and `feedrank pipelines`: the KFP pipelines of the project's folder `pipelines/`."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from feedrank.cli.console import DEFAULT_RUN, RunDirectory, console, timed
from feedrank.config import load_config
from feedrank.errors import ConfigError
from feedrank.project import project_module

pipelines_app = typer.Typer(help="Compile the KFP pipelines, or upload them to a server.", no_args_is_help=True)


def run(
    pipeline: Annotated[str, typer.Argument(help="Name of the pipeline, e.g. etl_and_feature_engineering.")],
    run_dir: RunDirectory = DEFAULT_RUN,
    input_: Annotated[list[str] | None, typer.Option("--input", help="Your own interactions, for the ETL.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="How their columns map to ours.")] = None,
    parameter: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE of a pipeline parameter.")] = None,
) -> None:
    """Run a pipeline on this machine through kfp.local."""
    parameters: dict[str, Any] = dict(_parameter(text) for text in parameter or [])
    if input_:
        parameters["input_paths"] = [_absolute(path) for path in input_]
    if mapping is not None:
        parameters["mapping"] = mapping.read_text(encoding="utf-8") if mapping.is_file() else _missing(mapping)
    with timed(f"ran {pipeline}"):
        outcome = project_module("pipelines.local").run_local(pipeline, root=run_dir, parameters=parameters)
    for name, path in outcome.artifacts.items():
        console.print(f"{name}: {path}", highlight=False)


def _parameter(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator:
        raise ConfigError(f"--set {text}: expected NAME=VALUE")
    return name, yaml.safe_load(value)


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).resolve())


def _missing(path: Path) -> str:
    raise ConfigError(f"{path}: no such mapping file; see config/mappings/ for examples")


@pipelines_app.command("compile")
def compile_pipelines(
    output: Annotated[Path, typer.Option(help="Folder of the compiled YAML.")] = Path("build/pipelines"),
) -> None:
    """Write every pipeline as the YAML that a KFP server takes."""
    with timed("compiled"):
        files = project_module("pipelines.compile").compile_all(output)
    for file in files:
        console.print(str(file), highlight=False)


@pipelines_app.command("upload")
def upload(
    host: Annotated[str | None, typer.Option(help="KFP's API; pipelines_config.yaml's if absent.")] = None,
    optional: Annotated[bool, typer.Option(help="Only say so when the server can't be reached.")] = False,
) -> None:
    """Upload the pipelines to a KFP server and set their schedules; what is there already stays as it is."""
    config = load_config().pipelines
    if host is not None:
        config = config.model_copy(update={"host": host})
    if not config.host:
        raise ConfigError("no KFP server: give --host, or set `host` in pipelines_config.yaml")
    server = project_module("pipelines.server")
    try:
        with timed("uploaded"):
            scheduled = server.PipelineServer(config.host, config=config).install()
    except server.PipelineServerError as error:
        if not optional:
            raise
        console.print(f"nothing was uploaded: {error}", highlight=False)
        return
    for name, recurring_run in scheduled.items():
        console.print(f"{name}: {getattr(config.schedules, name)} UTC ({recurring_run})", highlight=False)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(run)
    app.add_typer(pipelines_app, name="pipelines")
