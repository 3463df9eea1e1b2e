"""Commands that also run on a cluster: with `--kube-context` as the Job of the release's CronJob, started from here."""

import functools
import getpass
import inspect
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import typer

from feedrank.project import project_module

PANEL = "On a cluster"
WHO = "FEEDRANK_WHO"
Context = Annotated[str, typer.Option(help="Run there: a context of the kubeconfig.", rich_help_panel=PANEL)]
Namespace = Annotated[
    str, typer.Option(help="Of the release; the context's if not given.", rich_help_panel=PANEL, show_default=False)
]
Release = Annotated[str, typer.Option(help="The release's name.", rich_help_panel=PANEL)]


def on_cluster(command: Callable[..., None], *, cron_job: str = "") -> Callable[..., None]:
    """The command with options that say where it runs; the Job gets its parameters by their environment variables.

    Args:
        command: of the command line.
        cron_job: what the suspended CronJob's name ends in; the command's name if empty.
    """
    suffix = cron_job or command.__name__.replace("_", "-")

    @functools.wraps(command)
    def anywhere(context: typer.Context, *, kube_context: str, namespace: str, release: str, **options: Any) -> None:
        if kube_context:
            code: int = project_module("pipelines.cluster_jobs").run_job(
                f"{release}-{suffix}",
                kube_context=kube_context,
                namespace=namespace,
                environment=_environment(context),
            )
            raise typer.Exit(code)
        for name in ("namespace", "release"):
            if _given(context, name):
                raise typer.BadParameter(f"--{name} is of a cluster; name that by --kube-context")
        command(**options)

    where = {"kube_context": (Context, ""), "namespace": (Namespace, ""), "release": (Release, "feedrank")}
    kind = inspect.Parameter.KEYWORD_ONLY
    own = [p.replace(kind=kind) for p in inspect.signature(command, eval_str=True).parameters.values()]
    added = [inspect.Parameter(name, kind, annotation=a, default=d) for name, (a, d) in where.items()]
    first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    anywhere.__signature__ = inspect.Signature([first, *own, *added])  # type: ignore[attr-defined]
    return anywhere


def _environment(context: typer.Context) -> dict[str, str]:
    """What was given, and who gave it where the pod's user would be taken."""
    found = {}
    for parameter in context.command.params:
        name, value, variable = str(parameter.name), context.params.get(str(parameter.name)), parameter.envvar
        if name in ("kube_context", "namespace", "release"):
            continue
        if variable == WHO and value is None:
            found[WHO] = getpass.getuser()
        elif _given(context, name):
            if variable is None:
                raise typer.BadParameter(f"{parameter.opts[0]} is of this machine; leave it out with --kube-context")
            found[str(variable)] = " ".join(map(_text, value)) if isinstance(value, list | tuple) else _text(value)
    return found


def _text(value: object) -> str:
    return f"{value:%Y-%m-%d}" if isinstance(value, datetime) else str(value)


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP")
