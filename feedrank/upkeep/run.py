"""One upkeep: all tables, folders and registered versions of a run folder."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from feedrank import storage
from feedrank.config import Config
from feedrank.data.validation.record import load_record
from feedrank.erasure.run import finish_erasure
from feedrank.errors import FeedrankError
from feedrank.project import project_module
from feedrank.promotion.promote import Promoter
from feedrank.promotion.served import configured_promoter
from feedrank.registered_model import RegisteredModel
from feedrank.upkeep.folders import (
    keep_own_days,
    keep_recent,
    keep_served_versions,
    keep_stored_versions,
    needed_versions,
)
from feedrank.upkeep.report import Freed, UpkeepReport
from feedrank.upkeep.tables import keep_log, keep_table

REPORT_FILE = "upkeep.json"
CHAMPION_DAYS = 7
"""Copies of the champion that the monitor made are fetched again when one is needed."""
Step = Callable[[], Freed | None]


def run_upkeep(run_dir: Path, *, config: Config, now: datetime) -> UpkeepReport:
    """Brings everything within its limits; a step that fails is a warning, and the next upkeep does it.

    `run_dir` holds the interactions, `validated` and `monitoring`; the report is written there. The prediction log,
    the served versions and the registry are the configured ones.

    Raises:
        StorageError: another upkeep runs.
    """
    report = UpkeepReport(freed=[], warnings=[])
    with storage.exclusive(run_dir / REPORT_FILE):
        for name, step in _steps(run_dir, config=config, now=now, warnings=report.warnings):
            try:
                freed = step()
            except (FeedrankError, OSError) as error:
                report.warnings.append(f"{name}: {error}")
            else:
                report.freed += [] if freed is None else [freed]
        storage.write_text(run_dir / REPORT_FILE, report.model_dump_json(indent=2))
    return report


def _steps(run_dir: Path, *, config: Config, now: datetime, warnings: list[str]) -> Iterator[tuple[str, Step]]:
    upkeep, today = config.upkeep, now.astimezone(UTC).date()
    promoter = configured_promoter(config)

    def log() -> Freed | None:
        freed, problems = keep_log(config.serving.log.directory, config=upkeep.log, today=today)
        warnings.extend(problems)
        return freed

    def table(name: str) -> Freed | None:
        location, waiting = run_dir / name, load_record(run_dir / "validated").waiting
        if "quarantine" in name:
            return keep_table(location, name=name, config=upkeep.quarantine, today=today, waiting=waiting)
        learned_from = learned_versions(location, promoter.registry.versions())
        return keep_table(
            location, name=name, config=upkeep.interactions, today=today, waiting=waiting, versions=learned_from
        )

    yield "erasure", partial(finish_erasure, run_dir, config=config, now=now)
    yield "prediction log", log
    for folder in ("interactions", "interactions/_quarantine", "validated/clean", "validated/quarantine"):
        yield folder, partial(table, folder)
    target, steps = config.promotion.target, upkeep.rollback_steps
    versions = target.directory / "versions"
    yield "served versions", partial(keep_served_versions, promoter, versions, steps=steps)
    if target.storage_uri:
        store = project_module("serving.object_store").ObjectStore(target.storage_uri)
        yield "served versions in the store", partial(keep_stored_versions, promoter, store, steps=steps)
    for folder, days in (("monitoring/runs", upkeep.monitoring_run_days), ("monitoring/champion", CHAMPION_DAYS)):
        yield folder, partial(keep_recent, run_dir / folder, name=folder, now=now, days=days)
    folder = "monitoring/own_days"
    yield folder, partial(keep_own_days, promoter, run_dir / folder, name=folder, steps=steps)
    yield "registered versions", partial(keep_registered_versions, promoter, config=config, now=now)


def learned_versions(table: Path, registered: Sequence[RegisteredModel]) -> list[int]:
    """The versions of a table that registered models learned from."""
    sources = [model.metadata.trained_on for model in registered if model.metadata is not None]
    here = table.resolve()
    return sorted({source.version for source in sources if source and Path(source.location).resolve() == here})


def keep_registered_versions(promoter: Promoter, *, config: Config, now: datetime) -> Freed | None:
    """Removes old versions that have no alias and that no rollback goes back to; never the newest."""
    needed = needed_versions(promoter, steps=config.upkeep.rollback_steps)
    limit = now - timedelta(days=config.upkeep.version_days)
    freed = Freed(name="registered versions", bytes_before=0, bytes_after=0, done=[])
    for version in promoter.registry.versions()[1:]:
        ours = version.metadata
        if ours is None or version.aliases or version.model_version in needed or ours.training_date >= limit:
            continue
        freed.bytes_before += promoter.registry.delete(version)
        freed.done.append(f"removed {version.model_version}")
    return freed
