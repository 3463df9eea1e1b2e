"""A run folder with everything in it, of a feed whose clients send text ids; made once by the real commands."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.small_data import small_model
from feedrank import delta, schema, stages
from feedrank.config import Config, load_config
from feedrank.config.data import GeneratorConfig
from feedrank.config.feed import Feed
from feedrank.data.generator import generate
from feedrank.data.ingest import IngestSummary, ingest
from feedrank.data.validation import validate
from feedrank.erasure.person import People
from feedrank.features.snapshot import publish_snapshot
from feedrank.model.bundle import SNAPSHOT_FOLDER
from feedrank.monitoring.reference import feature_sample
from feedrank.prediction_log.table import create_log, layout_of
from feedrank.promotion.served import configured_promoter
from feedrank.promotion.window import choose_window
from feedrank.registry import Registry
from tests.promotion.promotion_world import EVALUATION

WHO = "reader-00037"
"""Has rows at all times, also bad ones."""
OTHER = "reader-00008"
MAPPING = "columns: {user_id: {from: person, hash: true}, item_id: {from: item_id}}\n"
GENERATOR = GeneratorConfig(num_users=40, num_items=60, num_interactions=3_000, end_date="2024-01-20")
NOW = datetime(2024, 1, 21, 3, tzinfo=UTC)


def config_of(run: Path) -> Config:
    """The shipped configuration with all places in the run folder, as the chart has them on its claim."""
    places = {
        "data.ingest.erased_users": run / "erased-users.json",
        "model.registry.tracking_uri": f"sqlite:///{run}/mlflow.db",
        "promotion.state_directory": run / "promotion",
        "promotion.target.directory": run / "served",
        "serving.snapshot": run / "online" / "current",
        "serving.log.directory": run / "predictions",
        "serving.log.spool_directory": run / "spool",
        "serving.reload.cache_directory": run / "model-cache",
        "model.gates.max_refit_bias": 5.0,  # a few hundred test rows say little about the mean score
    }
    config = load_config(overrides={key: str(value) for key, value in places.items()})
    return config.model_copy(update={"model": small_model(training={"batch_size": 64}).model_copy(
        update={"registry": config.model.registry, "gates": config.model.gates})})  # fmt: skip


def exported() -> pa.Table:
    """The product's interactions, users by their names."""
    rows = pa.concat_tables(generate(GENERATOR))
    names = pa.array([f"reader-{user:05d}" for user in rows[schema.USER_ID].to_pylist()])
    return rows.drop_columns([schema.USER_ID, schema.ACTION_TIME]).append_column("person", names)


def bad_rows() -> pa.Table:
    """Two rows that can't be cast, and one that breaks a rule."""
    rows = exported().slice(0, 3).to_pandas()
    rows["person"] = [WHO, OTHER, WHO]
    rows["interaction_id"] = [f"bad {number}" for number in range(3)]
    rows["click"] = ["?", "?", "0"]
    rows["dwell_time"] = [0.0, 0.0, 1e9]
    return pa.Table.from_pandas(rows, preserve_index=False)


def ingest_again(run: Path, config: Config) -> IngestSummary:
    """The nightly ingestion of all that the product has exported."""
    mapping = run.parent / "mapping.yaml"
    mapping.write_text(MAPPING)
    return ingest([str(run.parent / "export")], output=run / "interactions", mapping=mapping, config=config.data.ingest)


def make_run(run: Path) -> None:
    """Ingestion (twice), validation, features, a retraining's window, a model that is registered and served, a log."""
    config = config_of(run)
    export = run.parent / "export"
    export.mkdir(parents=True)
    rows = exported()
    for number, part in enumerate((rows.slice(0, 2_000), rows.slice(1_000))):  # what is exported again stays known
        pq.write_table(part, export / f"{number}.parquet")
        bad_rows().to_pandas().to_csv(export / "bad.csv", index=False)
        ingest_again(run, config)
    validate(run / "interactions", output=run / "validated", config=config.data.validation, now=NOW)
    stages.build_features(run / "validated" / "clean", output=run / "features", config=config, now=NOW)
    publish_snapshot(run / "features" / SNAPSHOT_FOLDER, run / "online")
    retraining = config.monitoring.retraining.model_copy(update={"recent_days": 5, "replay_share": 0.5})
    monitoring = config.monitoring.model_copy(update={"retraining": retraining})
    window = config.model_copy(update={"monitoring": monitoring})
    choose_window(run / "features", output=run / "retraining" / "features", config=window)
    stages.train_ranker(run / "retraining" / "features", output=run / "model", config=config)
    (run / "evaluation").mkdir()
    (run / "evaluation" / stages.EVALUATION_FILE).write_text(EVALUATION.model_dump_json())
    shutil.copytree(run / "model", run / "refitted")
    Registry(config.model.registry).register(
        run / "refitted", evaluation_folder=run / "evaluation", evaluation=EVALUATION, config=config.model
    )
    configured_promoter(config).promote(why="test")
    log_predictions(run)
    sample = run / "monitoring" / "own_days" / "v1.0.0" / "000"
    sample.mkdir(parents=True)
    features = stages.load_features(run / "features")[1]
    pq.write_table(features.select(feature_sample(Feed()).names), sample / "features.parquet")


def log_predictions(run: Path, *, location: str = "") -> None:
    """A row of the log for each interaction of the run's last days, an hour a commit; then they are compacted."""
    interactions = delta.open_table(run / "interactions").read().slice(0, 300)
    count = interactions.num_rows
    columns = {name: interactions[name] for name in (schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP)}
    columns[schema.RECEIVED_AT] = columns[schema.TIMESTAMP]
    columns[schema.PREDICTION_ID] = pa.array([f"boot-{number:010d}-001" for number in range(count)])
    columns[schema.MODEL_VERSION] = pa.array(["v1.0.0"] * count)
    filled = [
        columns[field.name].cast(field.type) if field.name in columns else pa.nulls(count, field.type)
        for field in Feed().log
    ]
    rows = pa.table(filled, schema=Feed().log)
    log = create_log(location or run / "predictions", Feed().log)
    for start in range(0, count, 100):
        log = log.append(rows.slice(start, 100), layout=layout_of(Feed().log))
    log.compact()


def traces(folder: Path, who: str) -> set[Path]:
    """Files below a folder with a trace of somebody, by an own look: rows, raw bytes of the number, the name."""
    people = People.of([who])
    found = set()
    for path in (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        if path.suffix == ".parquet" and schema.USER_ID in (names := pq.read_schema(path).names):
            users = set(pq.ParquetFile(path).read(columns=[schema.USER_ID])[schema.USER_ID].to_pylist())
            if users & set(people.ids.tolist()) or "record" in names:
                found.add(path)
        if any(needle in path.read_bytes() for needle in _needles(people)):
            found.add(path)
    return found


def _needles(people: People) -> Iterator[bytes]:
    for number in people.ids.tolist():
        yield np.int64(number).tobytes()
        yield str(number).encode()
    yield from (text.encode() for text in people.texts)
