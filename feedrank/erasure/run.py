"""One erasure: who is to go is noted first, the doors are closed, then all places are cleaned and looked through.

    RUN/erasure.json         who is being erased, until nothing is left of them
    RUN/erasures.jsonl       what was found and done, when and by whom; without the ids

A run that was cut off, or that had to leave something, is ended by the next `feedrank erase` or `feedrank upkeep`.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ValidationError

from feedrank import delta, storage
from feedrank.config import Config
from feedrank.data.ingest_facts import read_facts
from feedrank.erasure.days import settle_days
from feedrank.erasure.folders import erase_below, erase_table, left_below, left_in_table, rows_of
from feedrank.erasure.person import People
from feedrank.erasure.places import nobody_writes, others_folders, our_folders
from feedrank.erasure.refused import Door
from feedrank.erasure.registered import erase_registered, left_registered, lost_versions
from feedrank.erasure.report import Erased, ErasureReport, Left
from feedrank.erasure.spool import erase_spooled, left_spooled
from feedrank.errors import ConfigError, StorageError
from feedrank.monitoring.jsonlines import append_json_line
from feedrank.monitoring.triggers import RetrainingLog
from feedrank.promotion.promote import Promoter
from feedrank.promotion.served import configured_promoter

JOURNAL, RECORD, WORK = "erasure.json", "erasures.jsonl", ".erasing"
ROUNDS = 3
"""Something may come in while a place is cleaned that was on its way before; then it is cleaned again."""


class Erasure(BaseModel):
    """`erasure.json`."""

    users: tuple[str, ...]
    who: str
    asked_at: datetime


def erase(users: Iterable[str], *, run_dir: Path, config: Config, who: str, now: datetime) -> ErasureReport:
    """Takes people, by their ids as clients send them, out of a run folder, the log, the registry and what is served.

    Ids of an erasure that was not ended are erased with them; there may be no others then.

    Raises:
        ConfigError: no id is given, and there is no erasure to end; or there is no such run folder.
        StorageError: another erasure, a retraining or a command that writes runs; the same command ends it later.
        FeedrankError: a place can't be read or written; the same.
    """
    if not run_dir.is_dir():
        raise ConfigError(f"{run_dir}: no such run folder; give the one that holds the interactions (--run-dir)")
    with storage.exclusive(run_dir / JOURNAL):
        erasure = _begun(run_dir, users, who=who, now=now)
        people = People.of(erasure.users)
        storage.write_text(run_dir / JOURNAL, erasure.model_dump_json(indent=2))
        _close_doors(people, config)
        _check_retraining(run_dir, config=config, now=now)
        report = ErasureReport()
        for _ in range(ROUNDS):
            report.erased += _clean(people, run_dir=run_dir, config=config)
            report.left = list(_left(people, run_dir=run_dir, config=config))
            if report.is_complete:
                break
        report.remarks = list(_remarks(run_dir, config=config))
        append_json_line(run_dir / RECORD, {"who": erasure.who, "at": now.isoformat(), **report.model_dump()})
        if report.is_complete:
            (run_dir / JOURNAL).unlink()
    return report


def finish_erasure(run_dir: Path, *, config: Config, now: datetime) -> None:
    """Ends an erasure that was not ended, if there is one.

    Raises:
        FeedrankError: it can't be ended yet.
    """
    if (run_dir / JOURNAL).exists():
        report = erase((), run_dir=run_dir, config=config, who="", now=now)
        if not report.is_complete:
            places = ", ".join(left.place for left in report.left if left.ours)
            raise StorageError(f"an erasure is not ended; something is left in {places}")


def verify_erasure(users: Iterable[str], *, run_dir: Path, config: Config) -> list[Left]:
    """Looks through everything and gives the places where one of the ids is still found; changes nothing.

    Raises:
        ConfigError: no id is given.
        FeedrankError: a place can't be read, so nobody knows.
    """
    people = People.of(users)
    found = list(_left(people, run_dir=run_dir, config=config))
    if (run_dir / JOURNAL).exists():
        found.append(Left(place=str(run_dir / JOURNAL), rows=1, why="an erasure that is not ended: run it again"))
    return found


def _begun(run_dir: Path, users: Iterable[str], *, who: str, now: datetime) -> Erasure:
    path, wanted = run_dir / JOURNAL, tuple(users)
    try:
        begun = Erasure.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Erasure(users=People.of(wanted).texts, who=who, asked_at=now)
    except (OSError, ValidationError) as error:
        raise StorageError(f"{path}: can't be read ({error}); remove it and erase its users again") from error
    return begun.model_copy(update={"users": People.of((*begun.users, *wanted)).texts, "who": who or begun.who})


def _doors(config: Config) -> list[Door]:
    return [Door.at(config.data.ingest.erased_users), Door(config.serving.log.directory)]


def _close_doors(people: People, config: Config) -> None:
    """From here on, ingestion and the log's compactor refuse their rows."""
    for door in _doors(config):
        door.refuse(people.numbers)


def _check_retraining(run_dir: Path, *, config: Config, now: datetime) -> None:
    running = RetrainingLog(run_dir / "monitoring", config=config.monitoring.retraining).under_way(now)
    if running:
        raise StorageError(
            f"{running}, and its model would know the user; run the same command when it has ended (or leave it to the "
            "next upkeep). The user's rows are refused already"
        )


def _clean(people: People, *, run_dir: Path, config: Config) -> Iterator[Erased]:
    """One round over all places."""
    promoter = configured_promoter(config)
    yield from _clean_folders(people, run_dir=run_dir, config=config)
    yield from erase_spooled(config.serving.log, people)
    yield from _erase_remote_log(people, config)
    yield from erase_registered(promoter.registry, people, work=run_dir / WORK)


def _clean_folders(people: People, *, run_dir: Path, config: Config) -> list[Erased]:
    versions = config.promotion.target.directory / "versions"
    with nobody_writes(run_dir):
        settle_days(run_dir / "interactions", run_dir / "validated", people)
        found = [erased for folder in our_folders(run_dir, config) for erased in erase_below(folder, people)]
        for version in sorted(path for path in versions.glob("[!.]*") if path.is_dir()):
            configured_promoter(config).target.renew(version.name)
    return found


def _erase_remote_log(people: People, config: Config) -> Iterator[Erased]:
    log = config.serving.log.directory
    if not delta.is_local(log) and delta.is_table(log):
        yield from erase_table(log, rows_of(people))


def _left(people: People, *, run_dir: Path, config: Config) -> Iterator[Left]:
    for folder in our_folders(run_dir, config):
        yield from left_below(folder, people)
    ours = {run_dir / name for name in (JOURNAL, RECORD)}
    for path in others_folders(run_dir):
        if path not in ours and path != run_dir / WORK:
            yield from left_below(path, people, ours=False)
    log = config.serving.log.directory
    if not delta.is_local(log) and delta.is_table(log):
        yield from left_in_table(log, people)
    yield from left_spooled(config.serving.log, people)
    yield from left_registered(configured_promoter(config).registry, people)


def _remarks(run_dir: Path, *, config: Config) -> Iterator[str]:
    promoter: Promoter = configured_promoter(config)
    yield from lost_versions(promoter.registry.versions())
    facts = read_facts(run_dir / "interactions")
    if facts is not None and facts.files:
        yield (
            f"the {len(facts.files)} files that interactions were read from are yours: erase the user there, too "
            "(ingestion refuses their rows from now on)"
        )
    log = config.serving.log
    if not log.spool_directory.is_dir():
        yield (
            "predictors elsewhere have spools of their own: the user's rows are refused when they are committed, "
            f"within {log.commit_interval_seconds + log.file_interval_seconds:.0f} s"
        )
    if config.promotion.target.storage_uri:
        yield "the predictor's pods have the version as they fetched it: restart them (kubectl rollout restart)"
