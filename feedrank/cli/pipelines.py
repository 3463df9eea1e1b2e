"""`feedrank run`, `backfill` and `pipelines`: the KFP pipelines of the project's folder `pipelines/`."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from feedrank.cli.console import DEFAULT_RUN, RunDirectory, console, run_overrides, timed
from feedrank.config import load_config
from feedrank.errors import ConfigError
from feedrank.project import project_module

DAY = "%Y-%m-%d"
pipelines_app = typer.Typer(help="Compile the KFP pipelines, or upload them to a server.", no_args_is_help=True)


def run(
    pipeline: Annotated[str, typer.Argument(help="Name of the pipeline, e.g. etl_and_feature_engineering.")],
    run_dir: RunDirectory = DEFAULT_RUN,
    input_: Annotated[list[str] | None, typer.Option("--input", help="Your own interactions, for the ETL.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="How their columns map to ours.")] = None,
    parameter: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE of a pipeline parameter.")] = None,
) -> None:
    """Run a pipeline on this machine through kfp.local."""
    inputs = project_module("pipelines").PIPELINES.get(pipeline)
    kinds = {} if inputs is None else {k: v.type for k, v in (inputs.component_spec.inputs or {}).items()}
    parameters = dict(_parameter(text, kinds) for text in parameter or []) | _interactions_of(input_, mapping)
    parameters = _in_run(run_dir, parameters)
    with timed(f"ran {pipeline}"):
        outcome = project_module("pipelines.local").run_local(pipeline, root=run_dir, parameters=parameters)
    for name, path in outcome.artifacts.items():
        console.print(f"{name}: {path}", highlight=False)


def _in_run(run_dir: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a pipeline, whose models are registered where those of the run are."""
    overrides = run_overrides(run_dir.resolve()) | parameters.get("config_overrides", {})
    return {**parameters, "config_overrides": overrides} if overrides else dict(parameters)


def _interactions_of(inputs: list[str] | None, mapping: Path | None) -> dict[str, Any]:
    """Parameters of the pipelines that read interactions."""
    parameters: dict[str, Any] = {}
    if inputs:
        parameters["input_paths"] = [_absolute(path) for path in inputs]
    if mapping is not None:
        parameters["mapping"] = mapping.read_text(encoding="utf-8") if mapping.is_file() else _missing(mapping)
    return parameters


def _parameter(text: str, kinds: Mapping[str, str]) -> tuple[str, Any]:
    """A parameter by its kind in the pipeline: text stays as it is, anything else is YAML."""
    name, separator, value = text.partition("=")
    if not separator:
        raise ConfigError(f"--set {text}: expected NAME=VALUE")
    kind = kinds.get(name, "String").partition("[")[0]
    if kind == "String":
        return name, value
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {name}: '{value}' is no YAML ({str(error).splitlines()[0]})") from error
    expected = {"Boolean": bool, "List": list, "Dict": dict}.get(kind, object)
    if not isinstance(parsed, expected):
        example = {"Boolean": "true or false", "List": "a list: [a, b]", "Dict": "a mapping: {key: value}"}[kind]
        raise ConfigError(f"--set {name}: expected {example}, got '{value}'")
    return name, parsed


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).resolve())


def _missing(path: Path) -> str:
    raise ConfigError(f"{path}: no such mapping file; see config/mappings/ for examples")


def backfill(
    first: Annotated[datetime, typer.Option("--from", formats=[DAY], help="First data date.")],
    last: Annotated[datetime, typer.Option("--to", formats=[DAY], help="Last data date.")],
    run_dir: RunDirectory = DEFAULT_RUN,
    input_: Annotated[list[str] | None, typer.Option("--input", help="Your own interactions.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="How their columns map to ours.")] = None,
    train: Annotated[bool, typer.Option(help="Train and register a model for each date, too.")] = False,
    host: Annotated[str | None, typer.Option(help="A KFP server's API, whose runs they are; else here.")] = None,
) -> None:
    """Run the ETL once for every data date of a range, as in the night after it: with what had happened by then."""
    days = [first.date() + timedelta(days=day) for day in range((last - first).days + 1)]
    if not days:
        raise ConfigError(f"--from {first:{DAY}} is after --to {last:{DAY}}; there is no date between them")
    parameters = _interactions_of(input_, mapping) | {"start_training": train}
    if host is not None:
        server = project_module("pipelines.server").PipelineServer(host, config=load_config().pipelines)
        for day, run_id in server.backfill(days, parameters=parameters).items():
            console.print(f"{day}: run {run_id}", highlight=False)
        return
    parameters = _in_run(run_dir, parameters)
    for day in days:
        with timed(f"ran {day}"):
            outcome = project_module("pipelines.local").run_local(
                "etl_and_feature_engineering",
                root=run_dir / "backfill" / f"date={day}",
                parameters=parameters | {"data_date": day.isoformat()},
            )
        console.print(f"features: {outcome.artifacts['features']}", highlight=False)


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
    """Upload the pipelines to a KFP server and set their schedules; what is as wanted already, or paused, stays so."""
    config = load_config().pipelines
    if host is not None:
        config = config.model_copy(update={"host": host})
    if not config.host:
        raise ConfigError("no KFP server: give --host, or set `host` in pipelines_config.yaml")
    server = project_module("pipelines.server")
    try:
        with timed("uploaded"):
            connected = server.PipelineServer(config.host, config=config)
            scheduled = connected.install()
    except server.PipelineServerError as error:
        if not optional:
            raise
        console.print(f"nothing was uploaded: {error}", highlight=False)
        return
    paused = connected.paused()
    for name, recurring_run in scheduled.items():
        state = ", paused" if recurring_run in paused else ""
        console.print(f"{name}: {getattr(config.schedules, name)} UTC ({recurring_run}){state}", highlight=False)
    namespace = project_module("pipelines.release").namespace_of(config.host) or "kubeflow"
    if warning := project_module("pipelines.retry_policy").check_retries(namespace):
        console.print(warning, style="yellow", highlight=False)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(run)
    app.command()(backfill)
    app.add_typer(pipelines_app, name="pipelines")
