"""`feedrank monitor`, `retrain`, `promote` and `rollback`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from feedrank.cli.console import DEFAULT_RUN, RunDirectory, console, run_config, timed
from feedrank.cli.on_cluster import on_cluster
from feedrank.config import Config
from feedrank.project import project_module

if TYPE_CHECKING:
    from feedrank.monitoring.results import TriggerDecision
    from feedrank.monitoring.triggers import RetrainingLog
    from feedrank.promotion.changes import Record
    from feedrank.promotion.promote import Promoter
    from feedrank.promotion.retrain import LocalRetrainings, RetrainingResult, Retrainings

Why = Annotated[str, typer.Option(envvar="FEEDRANK_WHY", help="The reason, kept with the model.")]
Who = Annotated[str | None, typer.Option(envvar="FEEDRANK_WHO", help="Who decided; the user by default.")]
Url = Annotated[str | None, typer.Option(help="The predictor that must answer; promotion_config.yaml if not given.")]


def promote(
    version: Annotated[
        str | None,
        typer.Argument(
            envvar="FEEDRANK_PROMOTE_VERSION", help="Such as v1.2.3; the challenger, if it is better, if not given."
        ),
    ] = None,
    why: Why = "promoted by hand",
    who: Who = None,
    url: Url = None,
    run_dir: RunDirectory = DEFAULT_RUN,
    force: Annotated[
        bool,
        typer.Option(
            envvar="FEEDRANK_PROMOTE_FORCE", help="Also a VERSION that missed a gate or was not found better."
        ),
    ] = False,
    if_none: Annotated[
        bool, typer.Option(help="Only if nothing is served; then the registry's champion, if it has one.")
    ] = False,
) -> None:
    """Make a version the champion and serve it; undone unless it answers."""
    from feedrank.promotion.served import configured_promoter
    from feedrank.registry import CHAMPION

    promoter = configured_promoter(run_config(run_dir), url=url)
    if if_none:
        served = promoter.target.current_version()
        if served is not None:
            console.print(f"{served} is served: nothing to do", highlight=False)
            return
        champion = promoter.registry.alias(CHAMPION)
        version = champion.model_version if version is None and champion is not None else version
    with timed("promoted"):
        _print(promoter.promote(version, why=why, who=who, force=force))


def rollback(
    to: Annotated[
        str | None, typer.Option(envvar="FEEDRANK_ROLLBACK_TO", help="A version such as v1.2.3, instead of steps.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, envvar="FEEDRANK_ROLLBACK_STEPS", help="How many champions back.")] = 1,
    why: Why = "rolled back by hand",
    who: Who = None,
    url: Url = None,
    run_dir: RunDirectory = DEFAULT_RUN,
) -> None:
    """Serve the previous champion again; works without MLflow, which is told later."""
    from feedrank.promotion.served import configured_promoter

    promoter = configured_promoter(run_config(run_dir), url=url)
    with timed("rolled back"):
        _print(promoter.rollback(to=to, steps=steps, why=why, who=who))


def monitor(
    run_dir: RunDirectory = DEFAULT_RUN,
    predictions: Annotated[
        str | None, typer.Option(help="The prediction log, a folder or s3://…; serving_config.yaml's if absent.")
    ] = None,
    feedback: Annotated[
        str | None, typer.Option(help="Interactions, a folder or s3://…; those of the run if absent.")
    ] = None,
    at: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%dT%H:%M:%S%z"], help="Instead of now; with a zone.")
    ] = None,
    retraining: Annotated[bool, typer.Option(help="Start the retraining that a trigger asks for.")] = True,
) -> None:
    """Look for drift and decay since the last run, send alerts, and retrain if that is called for."""
    from feedrank.monitoring.rows import Sources
    from feedrank.monitoring.run import monitor as run_monitor
    from feedrank.monitoring.triggers import NOT_STARTED
    from feedrank.promotion.served import alerting, champion_bundle, configured_promoter, repair_before_watching

    config, output, now = run_config(run_dir), run_dir / "monitoring", at or datetime.now(UTC)
    promoter = configured_promoter(config)
    wanted: list[TriggerDecision] = []
    with timed("monitored"):
        with alerting(output, config=config.monitoring, now=now):
            _print_repair(repair_before_watching(promoter, config=config))
            bundle = champion_bundle(promoter, cache=output / "champion")
        result = run_monitor(
            reference_directory=bundle.reference_directory,
            sources=Sources(predictions or config.serving.log.directory, feedback or run_dir / "interactions"),
            output=output,
            config=config.monitoring,
            now=now,
            # Started below, after the monitor has given back its lock.
            start_retraining=wanted.append,
        )
    console.print(result.headline, highlight=False)
    for alarm in result.alarms:
        console.print(f"- {alarm.reason}", highlight=False)
    for warning in [*result.warnings, *result.latest.warnings]:
        console.print(f"warning: {warning}", style="yellow", highlight=False)
    console.print(f"report: {result.report}", highlight=False)
    with alerting(output, config=config.monitoring, now=now):
        retrainings = _retrainings(config, promoter, run_dir)
        for trigger in wanted:
            if retraining:
                retrainings.start(trigger)
            else:
                _record(config, run_dir).finish(trigger.request_id, outcome=NOT_STARTED, now=now)


def retrain(
    run_dir: RunDirectory = DEFAULT_RUN,
    why: Why = "asked for by hand",
    force: Annotated[
        bool,
        typer.Option(
            envvar="FEEDRANK_RETRAIN_FORCE",
            help="Also within the cool-down of the last one; with --who even on broken feedback.",
        ),
    ] = False,
    who: Annotated[str, typer.Option(envvar="FEEDRANK_WHO", help="Who asks, kept with the decision.")] = "",
    if_due: Annotated[bool, typer.Option(help="Of a schedule: a retraining that may not start is no failure.")] = False,
) -> None:
    """Train on recent data and promote the result if it is better than the champion; one at a time."""
    from feedrank.monitoring.triggers import given_trigger
    from feedrank.promotion.changes import PromotionError
    from feedrank.promotion.served import configured_promoter

    config = run_config(run_dir)
    promoter = configured_promoter(config)
    _print_repair(promoter.repair())
    retrainings = _local_retrainings(config, promoter, run_dir)
    trigger = given_trigger() or retrainings.record.decide([why], now=datetime.now(UTC), force=force, who=who)
    if not trigger.start:
        refused = f"no retraining: {trigger.refused_because}"
        if not if_due:
            raise PromotionError(refused)
        console.print(refused, highlight=False)
        return
    with timed("retrained"):
        retrainings.start(trigger)


def _retrainings(config: Config, promoter: "Promoter", run_dir: Path) -> "Retrainings":
    """On the configured KFP server, as Jobs of the configured CronJob, or here."""
    record = _record(config, run_dir)
    if config.pipelines.host:
        retrainings: Retrainings = project_module("pipelines.server").ServerRetrainings(config.pipelines, record)
        return retrainings
    if config.monitoring.retraining.cron_job:
        in_jobs: Retrainings = project_module("pipelines.job_retrainings").JobRetrainings(
            config.monitoring.retraining, record
        )
        return in_jobs
    return _local_retrainings(config, promoter, run_dir)


def _record(config: Config, run_dir: Path) -> "RetrainingLog":
    from feedrank.monitoring.triggers import RetrainingLog

    return RetrainingLog(run_dir / "monitoring", config=config.monitoring.retraining)


def _local_retrainings(config: Config, promoter: "Promoter", run_dir: Path) -> "LocalRetrainings":
    from feedrank.promotion.retrain import LocalRetrainings

    return LocalRetrainings(
        interactions=run_dir / "interactions",
        output=run_dir / "retraining",
        record=_record(config, run_dir),
        config=config,
        promoter=promoter,
        on_result=_print_retraining,
    )


def _print_repair(repaired: "Record | None") -> None:
    if repaired is not None:
        console.print("an interrupted change of the champion was ended:", style="yellow")
        _print(repaired)


def _print(record: "Record") -> None:
    change = record.change
    served = change.to.model_version if record.outcome == "done" else change.served_before
    text = f"{change.kind} to {change.to.model_version} {record.outcome}: {served or 'nothing'} is served"
    console.print(f"{text} ({change.who}: {change.why})", highlight=False)
    if record.note:
        console.print(record.note, style="yellow", highlight=False)


def _print_retraining(result: "RetrainingResult") -> None:
    verdict = "promoted" if result.promoted else "not promoted"
    console.print(f"{result.decision.challenger} {verdict}: {'; '.join(result.decision.reasons)}", highlight=False)


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(monitor)
    for command in (retrain, promote, rollback):
        app.command()(on_cluster(command))
