"""Promotes and rolls back: the MLflow alias, the serving target and the history change together, or not at all.

A change is written to the journal before its first effect. Each step can be done twice, so after a crash the next
command does the step again on which the journal stands and goes on. A promotion that fails is undone; the target serves
one version at any time. A rollback is an emergency: it switches the target first, needs no MLflow for that, and keeps
the old version even when the predictor is down or the registry can't be told yet.
"""

import contextlib
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import NoReturn

from feedrank import storage
from feedrank.errors import FeedrankError, StorageError
from feedrank.promotion.changes import Change, ChangeLog, Journal, Kind, PromotionError, Record, Step, Version, lineage
from feedrank.promotion.serving_target import ServingTarget, UnreachableError
from feedrank.registered_model import RegisteredModel
from feedrank.registry import CHALLENGER, CHAMPION, Registry
from feedrank.user import current_user

REJECTED_TAG = "rejected_because"
"""Tag of a registered version that its comparison with the champion speaks against."""
BETTER_TAG = "better_than"
"""Tag of a registered version that won its comparison: the champion that it was compared with."""
CHANGE_TAG = "champion_change."
"""Begins the tags of a registered version that tell how it became the champion; the time follows."""
STEPS: dict[Kind, tuple[Step, ...]] = {
    "promotion": ("alias", "target", "smoke", "record"),
    "rollback": ("target", "smoke", "alias", "record"),
}


def changes_in(tags: Mapping[str, str]) -> list[Change]:
    """The changes that made a version the champion, oldest first, from its tags in MLflow."""
    return [Change.model_validate_json(tags[key]) for key in sorted(tags) if key.startswith(CHANGE_TAG)]


def _version(found: RegisteredModel) -> Version:
    return Version(number=found.number, model_version=found.model_version, run_id=found.run_id)


@dataclass(frozen=True)
class Promoter:
    """Changes the champion of one registry, served by one target."""

    connect: Callable[[], Registry]
    """Called when the registry is needed, which takes seconds and may fail."""
    target: ServingTarget
    directory: Path
    """Of journal and history; shared by all who promote."""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    @cached_property
    def registry(self) -> Registry:
        """Connected at the first use."""
        return self.connect()

    @property
    def log(self) -> ChangeLog:
        """Journal and history."""
        return ChangeLog(self.directory)

    def promote(
        self, model_version: str | None = None, *, why: str, who: str | None = None, force: bool = False
    ) -> Record:
        """Makes a version (the challenger by default) the served champion.

        Args:
            model_version: such as v1.2.3.
            why: the reason, kept with the model.
            who: the user by default.
            force: also a version that missed a gate, was not found better or never compared; then it must be named.

        Raises:
            PromotionError: there is no challenger, it is not good enough, or it did not answer and was undone.
            FeedrankError: registry, bundle or folder can't be used; what was served is still served.
        """
        if force and model_version is None:
            raise PromotionError("--force is for a version that you name, such as `feedrank promote v1.2.3 --force`")
        with self._alone():
            self._repair()
            found = self.registry.alias(CHALLENGER) if model_version is None else self.registry.find(model_version)
            if found is None:
                raise PromotionError("there is no challenger; register one, or name a version")
            candidate, champion = _version(found), self._champion()
            if not force:
                self._check_quality(found, champion)
            if champion == candidate and self.target.current_version() == candidate.model_version:
                raise PromotionError(f"{candidate.model_version} is already the champion, and served")
            return self._change("promotion", candidate, champion_before=champion, why=why, who=who)

    def rollback(self, *, to: str | None = None, steps: int = 1, why: str, who: str | None = None) -> Record:
        """Brings back an earlier champion: the one `steps` before, or the version `to`.

        To end an interrupted rollback, or to undo an interrupted promotion, is the first step back.

        Raises:
            PromotionError: there is no such earlier champion, or it did not answer.
            FeedrankError: as in `promote`.
        """
        with self._alone():
            first_step = self._step_back_from_interrupted()
            if first_step is not None:
                steps -= 1
                if (to is None and not steps) or to == self.target.current_version():
                    return first_step
            line = lineage(self.log.history())
            wanted = self._earlier(line, to=to, steps=steps)
            if self.target.current_version() == wanted.model_version:
                raise PromotionError(f"{wanted.model_version} is served already")
            before = line[-1] if line else self._champion()
            return self._change("rollback", wanted, champion_before=before, why=why, who=who)

    def repair(self) -> Record | None:
        """Ends what a crash cut off; None when there is nothing.

        Raises:
            FeedrankError: it can't be ended yet; it stays in the journal.
        """
        with self._alone():
            return self._repair()

    def _repair(self) -> Record | None:
        journal = self.log.open_change()
        if journal is None:
            return None
        try:
            return self._undo(journal, journal.problem) if journal.step == "undo" else self._carry_out(journal)
        except PromotionError:
            if self.log.open_change() is not None:
                raise
            return self.log.history()[-1]

    def _step_back_from_interrupted(self) -> Record | None:
        """Ends what a crash cut off the way that leads back; None when that was no step back."""
        journal = self.log.open_change()
        if journal is None:
            return None
        if journal.change.kind == "promotion" and journal.step != "record":
            return self._undo(journal, journal.problem or "a rollback was asked for")
        ended = self._repair()
        return ended if journal.change.kind == "rollback" else None

    def _check_quality(self, found: RegisteredModel, champion: Version | None) -> None:
        """A version that won its comparison with the champion need not have passed its gates: that was judged there."""
        if champion is not None and champion.number == found.number:
            return
        tags = self.registry.tags(found.number)
        better_than, reasons = tags.get(BETTER_TAG), tags.get(REJECTED_TAG)
        if reasons is not None:
            raise PromotionError(f"{found.model_version} was not found better: {reasons}; use --force to promote it")
        if not found.passed_gates and better_than is None:
            raise PromotionError(f"{found.model_version} missed a gate; train a better one, or use --force")
        if champion is not None and better_than != champion.model_version:
            before = "never compared" if better_than is None else f"compared with {better_than}, not"
            raise PromotionError(
                f"{found.model_version} was {before} with the champion {champion.model_version}; `feedrank retrain` "
                f"trains and compares, `feedrank promote {found.model_version} --force` promotes it unseen"
            )

    def _earlier(self, line: list[Version], *, to: str | None, steps: int) -> Version:
        if to is None and 1 <= steps < len(line):
            return line[-1 - steps]
        if to is None:
            names = ", ".join(version.model_version for version in line) or "none"
            raise PromotionError(f"there is no champion {steps} step(s) back; known, oldest first: {names}; use --to")
        known = next((version for version in reversed(line) if version.model_version == to), None)
        if known is not None:
            return known
        return _version(self.registry.find(to))

    def _champion(self) -> Version | None:
        found = self.registry.alias(CHAMPION)
        return None if found is None else _version(found)

    def _change(self, kind: Kind, to: Version, *, champion_before: Version | None, why: str, who: str | None) -> Record:
        change = Change(
            change_id=str(uuid.uuid4()),
            kind=kind,
            at=self.clock(),
            who=who or current_user(),
            why=why,
            champion_before=champion_before,
            served_before=self.target.current_version(),
            to=to,
        )
        if not self.target.has(to):
            with tempfile.TemporaryDirectory() as folder:
                self.target.stage(self.registry.download(to.number, Path(folder)), to)
        return self._carry_out(Journal(change=change, step=STEPS[kind][0]))

    def _carry_out(self, journal: Journal) -> Record:
        """Does the journal's step and all after it."""
        change, steps, note = journal.change, STEPS[journal.change.kind], ""
        for step in steps[steps.index(journal.step) :]:
            journal = Journal(change=change, step=step)
            self.log.write(journal)
            try:
                self._do(step, change)
            except (FeedrankError, OSError) as error:
                if step == "record" or (step == "alias" and change.kind == "rollback"):
                    raise PromotionError(
                        f"{change.to.model_version} is served, but the registry can't be told yet ({error}); "
                        "the next promote, rollback or monitor does that"
                    ) from error
                if not isinstance(error, UnreachableError) or change.kind == "promotion":
                    self._fail(journal, error)
                note = f"not confirmed, the predictor is down: {error}"
        record = Record(change=change, outcome="done", note=note)
        self.log.close(record)
        return record

    def _do(self, step: Step, change: Change) -> None:
        number = change.to.number
        if step == "target":
            self.target.switch(change.to.model_version)
        elif step == "smoke":
            self.target.smoke(change.to.model_version)
        elif step == "alias":
            self.registry.set_alias(CHAMPION, number)
        else:
            self.registry.set_tag(number, f"{CHANGE_TAG}{change.at:%Y%m%dT%H%M%S.%fZ}", change.model_dump_json())
            challenger = self.registry.alias(CHALLENGER)
            if challenger is not None and challenger.number == number:
                self.registry.set_alias(CHALLENGER, None)

    def _fail(self, journal: Journal, error: Exception) -> NoReturn:
        """Undoes the change and says why."""
        change = journal.change
        before = change.served_before or "nothing"
        text = f"{change.to.model_version} can't be served, {before} is served as before: {error}"
        try:
            self._undo(journal, str(error))
        except (FeedrankError, OSError) as second:
            raise PromotionError(f"{text}; the next command goes on undoing it ({second})") from error
        raise PromotionError(text) from error

    def _undo(self, journal: Journal, problem: str) -> Record:
        """Puts the target and the alias back to what they were."""
        change = journal.change
        self.log.write(Journal(change=change, step="undo", problem=problem))
        self.target.switch(change.served_before)
        note = problem
        if change.served_before is not None:
            try:
                self.target.smoke(change.served_before)
            except PromotionError as error:
                note = f"{problem}; {change.served_before} does not answer either: {error}"
        before = change.champion_before
        self.registry.set_alias(CHAMPION, None if before is None else before.number)
        record = Record(change=change, outcome="undone", note=note)
        self.log.close(record)
        return record

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(storage.exclusive(self.directory / "promotion"))
            except StorageError as error:
                raise PromotionError(f"{self.directory}: another promotion or rollback runs; wait for it") from error
            yield
