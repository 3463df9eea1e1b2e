"""`feedrank train`, `evaluate`, `register` and `models`."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from feedrank import stages
from feedrank.cli.console import DEFAULT_RUN, RunDirectory, console, progress_bar, run_config, timed
from feedrank.config import load_config
from feedrank.data.split import load_split
from feedrank.evaluation.evaluate import Evaluation, Metrics

if TYPE_CHECKING:
    from feedrank.model.training import Epoch


def train(
    run_dir: RunDirectory = DEFAULT_RUN,
    as_of_version: Annotated[
        int | None,
        typer.Option(min=0, help="Compute the features again first, from this version of the table validated/clean."),
    ] = None,
) -> None:
    """Fit the ranker (model_config.yaml) on the features; an interrupted training goes on where it was."""
    if as_of_version is not None:
        clean, config = run_dir / "validated" / "clean", load_config()
        with timed(f"computed features of version {as_of_version}"):
            stages.build_features(clean, output=run_dir / "features", config=config, version=as_of_version)
    rows = load_split(run_dir / "features").train.rows
    with timed("trained"), progress_bar("epoch 1", total=rows) as bar:
        task = bar.task_ids[0]

        def on_epoch(epoch: "Epoch") -> None:
            console.print(
                f"epoch {epoch.epoch}: train loss {epoch.train_loss:.4f}, validation loss "
                f"{epoch.validation_loss:.4f}, AUC {epoch.validation_auc:.4f}, {epoch.seconds:.1f} s",
                highlight=False,
            )
            bar.reset(task, description=f"epoch {epoch.epoch + 1}")

        metadata = stages.train_ranker(
            run_dir / "features",
            output=run_dir / "model",
            config=load_config(),
            on_epoch=on_epoch,
            on_batch=lambda done, _loss: bar.update(task, completed=done),
        )
    console.print(f"{metadata.model_type} {metadata.model_id} in {run_dir / 'model'}", highlight=False)
    if metadata.trained_on is not None:
        table = metadata.trained_on
        console.print(f"trained on {table.location}, version {table.version}", highlight=False)


def evaluate(
    run_dir: RunDirectory = DEFAULT_RUN,
    oracle: Annotated[bool, typer.Option(help="The interactions came from `generate`: show their truth.")] = False,
) -> None:
    """Judge the model on the test rows: metrics, slices, baselines, gates and a report."""
    config = load_config()
    with timed("evaluated"):
        evaluation = stages.evaluate_ranker(
            run_dir / "model",
            run_dir / "features",
            output=run_dir / "evaluation",
            config=config.model,
            truth=config.data.generator if oracle else None,
            on_step=lambda step: console.print(f"  {step}", style="dim", highlight=False),
        )
    console.print(evaluation_table(evaluation))
    console.print(
        f"gates {'passed' if evaluation.passed else 'MISSED'}; report: {run_dir / 'evaluation' / 'report.html'}"
    )


def register_model(run_dir: RunDirectory = DEFAULT_RUN) -> None:
    """Fit the evaluated model again on all rows and register that as the challenger (the first good one: champion)."""
    from feedrank.registry import Registry

    config = run_config(run_dir).model
    with timed("fitted again"):
        metadata = stages.refit_ranker(
            run_dir / "model",
            run_dir / "features",
            output=run_dir / "refitted",
            gates=config.gates,
            on_epoch=lambda epoch: console.print(f"epoch {epoch.epoch}, {epoch.seconds:.1f} s", highlight=False),
        )
    console.print(metadata.fit_sentence, highlight=False)
    with timed("registered"):
        registered = Registry(config.registry).register(
            run_dir / "refitted",
            evaluation_folder=run_dir / "evaluation",
            evaluation=stages.load_evaluation(run_dir / "evaluation"),
            config=config,
        )
    aliases = ", ".join(registered.aliases) or "none"
    console.print(f"{config.registry.model_name} {registered.model_version}, aliases: {aliases}", highlight=False)


def models(run_dir: RunDirectory = DEFAULT_RUN) -> None:
    """List the registered versions, the newest first, and who made them champion and why."""
    from feedrank.promotion.promote import changes_in
    from feedrank.registry import Registry

    registry = Registry(run_config(run_dir).model.registry)
    names = ("gates", "aliases", "GAUC", "AUC", "log loss", "champion by", "why", "run")
    table = Table(Column("version", no_wrap=True), *(Column(name, overflow="fold") for name in names))
    for version in registry.versions():
        if version.metadata is None:
            console.print(version.foreign(registry.config.model_name), style="yellow", highlight=False)
            continue
        change = next(reversed(changes_in(registry.tags(version.number))), None)
        table.add_row(
            version.model_version,
            "passed" if version.passed_gates else "missed",
            ", ".join(version.aliases),
            *(_figure(version.metadata.metrics.get(name)) for name in ("gauc", "auc", "log_loss")),
            *(("", "") if change is None else (f"{change.who} {change.at:%Y-%m-%d %H:%M}", change.why)),
            version.run_id,
        )
    console.print(table)


def _figure(value: float | None) -> str:
    """Empty where an earlier release did not measure it."""
    return "" if value is None else f"{value:.4f}"


def evaluation_table(evaluation: Evaluation) -> Table:
    """The ranker beside the baselines and the oracle."""
    table = Table("predictor", "GAUC", "AUC", "log loss", "precision@10", "NDCG@10", "calibration error")
    predictors: dict[str, Metrics] = {**evaluation.baselines, "ranker": evaluation.ranker}
    if evaluation.oracle is not None:
        predictors["oracle"] = evaluation.oracle
    for name, m in predictors.items():
        values = (m.gauc, m.auc, m.log_loss, m.precision_at_10, m.ndcg_at_10, m.calibration_error)
        style = "bold" if name == "ranker" else ""
        table.add_row(name.replace("_", " "), *(f"{value:.4f}" for value in values), style=style)
    return table


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(train)
    app.command()(evaluate)
    app.command("register")(register_model)
    app.command()(models)
