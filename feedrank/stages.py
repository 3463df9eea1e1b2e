"""What the pipelines' steps do, from folder to folder: the one place that the CLI and the KFP components call.

Folders of a run:

    interactions/  raw interactions            features/    feature table, split.json and snapshot/
    validated/     clean/, quarantine/, report  model/       the bundle of the held-out fit, which is judged
    evaluation/    evaluation.json, plots, report
    refitted/      the bundle of the fit on all rows, which is registered and served
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel

from feedrank import delta, schema, storage
from feedrank.config import Config
from feedrank.config.data import DataConfig, GeneratorConfig
from feedrank.config.feed import Feed
from feedrank.config.model import Gates, ModelConfig
from feedrank.data.generator import World, generate
from feedrank.data.ingest_facts import NO_FACTS, facts_of
from feedrank.data.links import link_file, link_tree
from feedrank.data.split import Split, load_split, save_split, split_by_time
from feedrank.errors import ConfigError, DataError
from feedrank.evaluation.evaluate import Evaluation, evaluate
from feedrank.features.events import devices_of, event_columns
from feedrank.features.offline import compute_features
from feedrank.features.snapshot import TableVersion, load_info, load_snapshot, save_snapshot, take_snapshot
from feedrank.interactions import open_interactions, write_interactions
from feedrank.model.bundle import (
    EPOCHS_FILE,
    REFERENCE_FOLDER,
    SNAPSHOT_FOLDER,
    EvaluatedFit,
    ModelMetadata,
    load_bundle,
    seal,
    write_bundle,
)
from feedrank.model.lineage import metadata_of, span_of
from feedrank.registered_model import RegisteredModel
from feedrank.registry import Registry
from feedrank.tables import (
    date_range,
    read_partitioned,
    timestamps_us,
    write_partitioned,
)

EVALUATION_FILE = "evaluation.json"

Model = TypeVar("Model", bound=BaseModel)


class Summary(BaseModel):
    """What a step did, for a person and for the next step."""

    output: Path
    rows: int
    start: str
    end: str
    remarks: tuple[str, ...] = ()
    """Sentences for a person."""


def generate_interactions(
    output: delta.Location, *, config: GeneratorConfig, progress: Callable[[int], None] | None = None
) -> None:
    """Writes synthetic interactions in the place of what the table at `output` holds."""
    write_interactions(generate(config, progress=progress), output, note=NO_FACTS.note())


def summary_of(interactions: delta.Location) -> Summary:
    """What is in a table of interactions, by its log.

    Raises:
        DataError: nothing is.
    """
    table = open_interactions(interactions)
    days = list(table.days())
    if not days:
        raise DataError(f"{interactions}: there is no interaction in it")
    return Summary(output=Path(interactions), rows=table.rows, start=days[0].isoformat(), end=days[-1].isoformat())


def generate_or_ingest(
    output: Path, *, input_paths: Sequence[str], mapping: str, data_date: date | None = None, config: DataConfig
) -> Summary:
    """Writes the interactions of the inputs, read through a mapping (the YAML text; "" without); of the generator if
    there is no input. Those of days after `data_date` stay out: the output is what it was in the night after that day.

    Raises:
        DataError: there is no interaction up to `data_date`.
    """
    from feedrank.data.ingest import ingest

    remarks: tuple[str, ...] = ()
    if input_paths:
        with tempfile.TemporaryDirectory() as folder:
            mapping_file = Path(folder) / "mapping.yaml"
            mapping_file.write_text(mapping, encoding="utf-8")
            ingested = ingest(
                input_paths, output=output, mapping=mapping_file if mapping else None, config=config.ingest
            )
        remarks = (ingested.sentence, *(f"warning: {warning}" for warning in ingested.warnings))
    else:
        generate_interactions(output, config=config.generator)
    if data_date is not None:
        _remove_later_days(output, data_date)
    return summary_of(output).model_copy(update={"remarks": remarks})


def parsed_date(text: str) -> date:
    """A data date.

    Raises:
        ConfigError: it is no date.
    """
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"data_date: '{text}' is no date; expected YYYY-MM-DD") from error


def _remove_later_days(interactions: delta.Location, data_date: date) -> None:
    table = open_interactions(interactions)
    days = list(table.days())
    if not days or days[0] > data_date:
        first = f"; the first is of {days[0]}" if days else ""
        raise DataError(f"there is no interaction up to {data_date}{first}")
    if days[-1] > data_date:
        unread = (facts_of(table) or NO_FACTS).model_copy(update={"files": {}})  # a later ingestion reads them again
        table.delete(f"{schema.DATE} > CAST('{data_date.isoformat()}' AS DATE)", note=unread.note())


def build_features(
    interactions: Path,
    *,
    output: Path,
    config: Config,
    now: datetime | None = None,
    version: int | None = None,
) -> Summary:
    """Writes the feature table, its temporal split and the online snapshot as of the last midnight.

    `version` is that of the table of interactions; the newest if absent. It is noted in the snapshot.

    Raises:
        DataError: there are no interactions, or not that version (any more).
    """
    if version is None and delta.is_table(interactions):
        version = delta.open_table(interactions).version
    table = read_partitioned(interactions, columns=event_columns(config.feed), version=version)
    features = compute_features(table, feed=config.feed)
    split = split_by_time(features, config=config.data.split)
    cutoff = snapshot_cutoff(date_range(features)[1], now=now or datetime.now(UTC))
    source = None if version is None else TableVersion(location=str(interactions), version=version)
    snapshot = take_snapshot(table, cutoff=cutoff, feed=config.feed).from_source(source)
    with storage.new_directory(output) as fresh:
        write_partitioned(features, fresh)
        save_split(split, fresh)
        (fresh / SNAPSHOT_FOLDER).mkdir()
        save_snapshot(snapshot, fresh / SNAPSHOT_FOLDER)
    start, end = date_range(features)
    return Summary(output=output, rows=features.num_rows, start=start.isoformat(), end=end.isoformat())


def snapshot_cutoff(last_day: date, *, now: datetime) -> datetime:
    """The midnight (UTC) after the last day with events, or the latest one while that day is not over."""
    after = datetime.combine(last_day + timedelta(days=1), time(), UTC)
    return min(after, datetime.combine(now.astimezone(UTC).date(), time(), UTC))


def load_features(directory: Path) -> tuple[Split, pa.Table, pa.Table, pa.Table]:
    """The split with the train, validation and test rows that `build_features` wrote."""
    split, columns = load_split(directory), load_info(directory / SNAPSHOT_FOLDER).feed.table.names
    features = read_partitioned(directory)
    if features.schema.names != columns:
        raise DataError(
            f"{directory}: columns {features.schema.names} are not those that its snapshot declares ({columns}); "
            "compute the features again"
        )
    return split, *split.tables(features)


def train_ranker(
    features: Path,
    *,
    output: Path,
    config: Config,
    on_epoch: Callable[[Any], None] = lambda _: None,
    on_batch: Callable[[int, float], None] = lambda _rows, _loss: None,
) -> ModelMetadata:
    """Fits the configured ranker and writes its bundle with the snapshot of the features and monitoring's reference.

    An interrupted run goes on from `.<output>.<number of the half-life>.checkpoint` beside the output.
    """
    from feedrank.model.training import train_best

    started = perf_counter()
    _, train, validation, test = load_features(features)
    snapshot = load_snapshot(features / SNAPSHOT_FOLDER)
    half_lives = len(config.model.training.half_life_days)
    checkpoints = [output.with_name(f".{output.name}.{number}.checkpoint") for number in range(half_lives)]
    with storage.new_directory(output) as fresh:
        trained = train_best(
            config.model,
            snapshot.feed,
            train=train,
            validation=validation,
            checkpoints=checkpoints,
            on_epoch=on_epoch,
            on_batch=on_batch,
        )
        metadata = metadata_of(
            train,
            snapshot=snapshot.info,
            config=config.model,
            epochs=trained.best_epoch,
            half_life_days=trained.half_life_days,
            seconds=perf_counter() - started,
        )
        write_bundle(fresh, metadata=metadata, config=config.model, arrays=trained.arrays, snapshot=snapshot)
        storage.write_text(fresh / EPOCHS_FILE, json.dumps([e.model_dump() for e in trained.epochs], indent=2))
        seal(fresh)
        _write_reference(fresh, earlier=pa.concat_tables([train, validation]), test=test, config=config)
        seal(fresh)
    for checkpoint in checkpoints:
        checkpoint.unlink(missing_ok=True)
    return metadata


def _write_reference(bundle_directory: Path, *, earlier: pa.Table, test: pa.Table, config: Config) -> None:
    from feedrank.evaluation.evaluate import measure
    from feedrank.monitoring.reference import build_reference

    bundle = load_bundle(bundle_directory)
    scores = bundle.score_table(test)
    metrics = measure(test, scores, config=config.model.evaluation)
    (bundle_directory / REFERENCE_FOLDER).mkdir()
    build_reference(
        earlier,
        test,
        scores,
        model_version=bundle.metadata.model_version,
        metrics={"auc": metrics.auc, "log_loss": metrics.log_loss},
        feed=bundle.feed,
        config=config.monitoring,
        directory=bundle_directory / REFERENCE_FOLDER,
    )


def evaluate_ranker(
    model: Path,
    features: Path,
    *,
    output: Path,
    config: ModelConfig,
    truth: GeneratorConfig | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Judges a bundle on the test rows of a feature table, with the oracle if `truth` made the interactions."""
    from feedrank.evaluation.importance import permutation_importance
    from feedrank.evaluation.report import write_report

    bundle = load_bundle(model)
    bundle.check_features(load_info(features / SNAPSHOT_FOLDER), features)
    _, train, _, test = load_features(features)
    scores = bundle.score_table(test)
    oracle = None if truth is None else oracle_scores(truth, bundle.feed)
    evaluation = evaluate(
        scores,
        train=train,
        test=test,
        feed=bundle.feed,
        config=config.evaluation,
        gates=config.gates,
        oracle=oracle,
        on_step=on_step,
    )
    on_step("feature importance")
    importance = permutation_importance(bundle, test, config=config.evaluation)
    evaluation = evaluation.model_copy(update={"importance": importance})
    epochs = json.loads((model / EPOCHS_FILE).read_text(encoding="utf-8"))
    with storage.new_directory(output) as fresh:
        storage.write_text(fresh / EVALUATION_FILE, evaluation.model_dump_json(indent=2))
        write_report(
            evaluation,
            epochs=epochs,
            targets=test[schema.TARGET].to_numpy(),
            scores=scores,
            metadata=bundle.metadata,
            config=config.evaluation,
            directory=fresh,
        )
    return evaluation


def load_evaluation(directory: Path) -> Evaluation:
    """Reads `evaluation.json`.

    Raises:
        DataError: it is missing or not valid.
    """
    path = directory / EVALUATION_FILE
    try:
        return Evaluation.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't be read ({error}); evaluate the model again") from error


def refit_ranker(
    model: Path,
    features: Path,
    *,
    output: Path,
    gates: Gates,
    on_epoch: Callable[[Any], None] = lambda _: None,
) -> ModelMetadata:
    """Fits a ranker again on all rows of its features, so that what is served knows the latest day.

    Same settings and seed, the epochs and the half-life that were best. The reference and the figures stay those of the
    held-out fit.

    Raises:
        DataError: on the test rows, which it has now seen, it is worse than the held-out fit.
    """
    from feedrank.model.refit import check_refit
    from feedrank.model.training import Trainer

    held_out = load_bundle(model)
    held_out.check_features(load_info(features / SNAPSHOT_FOLDER), features)
    with storage.new_directory(output) as fresh:
        started, (_, train, validation, test) = perf_counter(), load_features(features)
        rows = pa.concat_tables([train, validation, test])
        if (fit := held_out.metadata.fit) is None:
            raise DataError(f"{model}: trained by a release that did not record the epochs; train it again")
        config = held_out.config.with_epochs(fit.epochs)
        checkpoint = output.with_name(f".{output.name}.checkpoint")
        trained = Trainer(
            config,
            held_out.feed,
            train=rows,
            validation=None,
            half_life_days=fit.half_life_days,
            checkpoint=checkpoint,
            on_epoch=on_epoch,
        ).run()
        metadata = metadata_of(
            rows,
            snapshot=held_out.snapshot.info,
            config=held_out.config,
            epochs=trained.best_epoch,
            half_life_days=trained.half_life_days,
            seconds=perf_counter() - started,
            evaluated=EvaluatedFit(model_id=held_out.metadata.model_id, fit=fit, tested_on=span_of(test)),
        )
        write_bundle(
            fresh, metadata=metadata, config=held_out.config, arrays=trained.arrays, snapshot=held_out.snapshot
        )
        link_file(model / EPOCHS_FILE, fresh / EPOCHS_FILE)
        link_tree(held_out.reference_directory, fresh / REFERENCE_FOLDER)
        seal(fresh)
        check_refit(load_bundle(fresh), held_out, test, gates=gates)
    checkpoint.unlink(missing_ok=True)
    return metadata


def register_ranker(model: Path, evaluation: Path, *, config: ModelConfig) -> RegisteredModel:
    """Registers an evaluated bundle in MLflow; its metadata get the version, the run and the metrics."""
    return Registry(config.registry).register(
        model, evaluation_folder=evaluation, evaluation=load_evaluation(evaluation), config=config
    )


def oracle_scores(truth: GeneratorConfig, feed: Feed) -> Callable[[pa.Table], NDArray[np.float64]]:
    """The true click probabilities of a feature table's rows, in the world of a generator configuration."""
    world = World(truth)

    def scores(features: pa.Table) -> NDArray[np.float64]:
        return world.click_probability(
            features[schema.USER_ID].to_numpy(),
            features[schema.ITEM_ID].to_numpy(),
            timestamps_us(features),
            devices_of(features, feed),
        )

    return scores
