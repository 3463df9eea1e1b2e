"""Whether a retraining starts: one at a time, no broken feedback, not within the cool-down, each decision recorded.

`retraining.jsonl` holds one event per line: `requested` and `refused` with their reasons, `began`, `finished`; and
the monitor's `feedback_broken` and `feedback_mended`, so that all who ask for a retraining get the same answer.
A retraining that died doesn't block the next one for ever: a local one holds an operating-system lock that dies with
it, one on a cluster has a lease that runs out.
"""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import filelock
from pydantic import BaseModel, ConfigDict, ValidationError

from feedrank.config.monitoring import RetrainingConfig
from feedrank.errors import ConfigError, FeedrankError, StorageError
from feedrank.monitoring.jsonlines import append_json_line, read_lines
from feedrank.monitoring.results import TriggerDecision
from feedrank.storage import exclusive

FILE = "retraining.jsonl"
LOCK_TIMEOUT_SECONDS = 10.0
SUCCEEDED = "succeeded"
NOT_STARTED = "not started"
"""Outcome of a request whose start failed; it doesn't count for the cool-down."""

TRIGGER_ENV = "FEEDRANK_TRIGGER"
"""Carries a decision, as JSON, to a `feedrank retrain` that a monitor started elsewhere."""


def given_trigger() -> TriggerDecision | None:
    """The decision that this process was started for, if a monitor made one.

    Raises:
        ConfigError: the variable holds something else.
    """
    text = os.environ.get(TRIGGER_ENV)
    try:
        return TriggerDecision.model_validate_json(text) if text else None
    except ValidationError as error:
        raise ConfigError(f"{TRIGGER_ENV}: no decision of a monitor ({error}); unset it") from error


Cause = Literal["asked", "alarm", "follow_up"]
"""Of a retraining: a schedule or a person, alarms, or alarms of some days ago."""


class Event(BaseModel):
    """One line of the record."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    event: Literal["requested", "refused", "began", "finished", "feedback_broken", "feedback_mended"]
    request_id: str
    at: datetime
    reasons: list[str] = []
    cause: Cause = "asked"
    feedback_until: datetime | None = None
    """How far the feedback reached, if the monitor asked."""
    refused_because: str = ""
    outcome: str = ""


class RetrainingLog:
    """The record of all retrainings in a folder that their runs share."""

    def __init__(self, directory: Path, *, config: RetrainingConfig) -> None:
        """Touches nothing yet."""
        self._path = directory / FILE
        self._run = directory / "retraining.run"
        self._config = config

    def decide(
        self,
        reasons: Sequence[str],
        *,
        now: datetime,
        cause: Cause = "asked",
        feedback_until: datetime | None = None,
        force: bool = False,
        who: str = "",
    ) -> TriggerDecision:
        """Decides on a retraining and records it; without a reason nothing is recorded.

        Args:
            reasons: what speaks for it.
            now: the present time.
            cause: what the reasons are.
            feedback_until: how far the feedback reaches; an earlier retraining that had all of it is not repeated.
            force: a person wants it within the cool-down, too; still not beside one that runs.
            who: their name; with `force` they answer for a training on broken feedback.

        Raises:
            StorageError: the record can't be locked or written.
        """
        why = [*reasons, f"asked for by {who}"] if reasons and who else list(reasons)
        decision = TriggerDecision(request_id=str(uuid.uuid4()), decided_at=now, start=False, reasons=why)
        if not reasons:
            return decision
        with self._locked():
            self._bury_crashed(now)
            obstacle = (
                self.under_way(now)
                or ("" if force and who else self._broken_feedback())
                or ("" if force else self._cooling_down(now, cause=cause) or self._nothing_new(feedback_until))
            )
            event: Literal["requested", "refused"] = "refused" if obstacle else "requested"
            self._append(
                Event(
                    event=event,
                    request_id=decision.request_id,
                    at=now,
                    reasons=decision.reasons,
                    cause=cause,
                    feedback_until=feedback_until,
                    refused_because=obstacle,
                )
            )
        return decision.model_copy(update={"start": not obstacle, "refused_because": obstacle})

    def follow_up(self, *, now: datetime, feedback_until: datetime | None = None) -> TriggerDecision:
        """Decides on one more retraining after an alarm: once new feedback has come, and the cool-down is over.

        What a first one learns of a shift is a day of it. Where none is due nothing is recorded.
        """
        with self._locked():
            alarms = [event for event in self.events() if event.cause == "alarm"]
        recent = alarms and now - alarms[-1].at < timedelta(days=self._config.follow_up_days)
        waits = self.under_way(now) or self._cooling_down(now, cause="follow_up") or self._nothing_new(feedback_until)
        if not recent or waits:
            return self.decide([], now=now)
        why = f"newer rows since the alarm of {alarms[-1].at:%F %H:%M} UTC: {alarms[-1].reasons[0]}"
        return self.decide([why], now=now, cause="follow_up", feedback_until=feedback_until)

    def note_feedback(self, broken: str, *, now: datetime) -> None:
        """Records what is wrong with the feedback, "" if nothing is; until that changes no retraining starts."""
        with self._locked():
            known = self._feedback()
            if broken != ("" if known is None else known.refused_because):
                event: Literal["feedback_broken", "feedback_mended"] = (
                    "feedback_broken" if broken else "feedback_mended"
                )
                self._append(Event(event=event, request_id="", at=now, refused_because=broken))

    @contextlib.contextmanager
    def running(self, request_id: str, *, clock: Callable[[], datetime]) -> Iterator[None]:
        """Holds the right to retrain in this process, and records the beginning and the end.

        Raises:
            StorageError: another retraining runs.
        """
        with exclusive(self._run):
            with self._locked():
                self._append(Event(event="began", request_id=request_id, at=clock()))
            try:
                yield
            except BaseException as error:
                self.finish(request_id, outcome=f"failed: {type(error).__name__}: {error}", now=clock())
                raise
            self.finish(request_id, outcome=SUCCEEDED, now=clock())

    @contextlib.contextmanager
    def starting(self, request_id: str, *, clock: Callable[[], datetime]) -> Iterator[None]:
        """Notes a start elsewhere that fails: it doesn't count, so the next monitor may ask again."""
        try:
            yield
        except FeedrankError:
            self.finish(request_id, outcome=NOT_STARTED, now=clock())
            raise

    def finish(self, request_id: str, *, outcome: str, now: datetime) -> None:
        """Records the end of a retraining, and so frees the way for the next one."""
        with self._locked():
            self._append(Event(event="finished", request_id=request_id, at=now, outcome=outcome))

    def events(self) -> list[Event]:
        """All events; a line that a crash cut off is left out."""
        events = []
        for line in read_lines(self._path):
            with contextlib.suppress(ValidationError):
                events.append(Event.model_validate_json(line))
        return events

    def _open_request(self) -> Event | None:
        """The latest request, if it has no end."""
        events = self.events()
        finished = {event.request_id for event in events if event.event == "finished"}
        requests = [event for event in events if event.event == "requested" and event.request_id not in finished]
        return requests[-1] if requests else None

    def under_way(self, now: datetime) -> str:
        """Which retraining runs, and since when; "" if none does."""
        request, lease = self._open_request(), timedelta(hours=self._config.lease_hours)
        if request is not None and now - request.at < lease:
            return f"retraining {request.request_id} runs since {request.at:%Y-%m-%d %H:%M} UTC"
        return ""

    def _feedback(self) -> Event | None:
        """What the monitor said of the feedback last, if it ever did."""
        noted = [event for event in self.events() if event.event in ("feedback_broken", "feedback_mended")]
        return noted[-1] if noted else None

    def _broken_feedback(self) -> str:
        noted = self._feedback()
        if noted is None or noted.event == "feedback_mended":
            return ""
        return (
            f"a model trained on broken feedback is worse: {noted.refused_because} "
            f"(seen {noted.at:%Y-%m-%d %H:%M} UTC); mend it, and the next run of the monitor allows retrainings again; "
            "`feedrank retrain --force --who NAME` trains all the same"
        )

    def _cooling_down(self, now: datetime, *, cause: Cause) -> str:
        """A follow-up waits for all others; nothing else waits for a follow-up, which answers earlier alarms."""
        hours = self._config.cool_down_hours
        started = self._last_start(with_follow_ups=cause == "follow_up")
        if started is None or now - started >= timedelta(hours=hours):
            return ""
        return (
            f"cool-down: the last retraining started {started:%Y-%m-%d %H:%M} UTC, less than {hours:g} h ago; "
            "`feedrank retrain --force` does not wait"
        )

    def _nothing_new(self, feedback_until: datetime | None) -> str:
        """Whether an earlier retraining had all the feedback that there is; one that failed had none.

        Where feedback comes once a night, this and a cool-down of half a day let one start with each delivery.
        """
        if feedback_until is None:
            return ""
        learnt = self._requests(but_for=lambda outcome: outcome not in ("", SUCCEEDED))
        had = [event for event in learnt if event.feedback_until and event.feedback_until >= feedback_until]
        if not had:
            return ""
        return (
            f"the retraining of {had[-1].at:%Y-%m-%d %H:%M} UTC had all feedback that there is, which reaches to "
            f"{feedback_until:%Y-%m-%d %H:%M} UTC; another one learns nothing new"
        )

    def _last_start(self, *, with_follow_ups: bool) -> datetime | None:
        requests = self._requests(but_for=lambda outcome: outcome == NOT_STARTED)
        return max((e.at for e in requests if with_follow_ups or e.cause != "follow_up"), default=None)

    def _requests(self, *, but_for: Callable[[str], bool]) -> list[Event]:
        """The requests in order, without those of some outcomes."""
        events = self.events()
        left_out = {event.request_id for event in events if but_for(event.outcome)}
        return [event for event in events if event.event == "requested" and event.request_id not in left_out]

    def _bury_crashed(self, now: datetime) -> None:
        """Records the end of a local retraining whose process is gone: it began, but nobody holds its lock."""
        request = self._open_request()
        if request is None or not any(
            event.event == "began" and event.request_id == request.request_id for event in self.events()
        ):
            return
        with contextlib.suppress(StorageError), exclusive(self._run):
            self._append(Event(event="finished", request_id=request.request_id, at=now, outcome="crashed"))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(f"{self._path}.lock", timeout=LOCK_TIMEOUT_SECONDS):
                yield
        except filelock.Timeout as error:
            raise StorageError(f"{self._path}: locked by another process for {LOCK_TIMEOUT_SECONDS:g} s") from error

    def _append(self, event: Event) -> None:
        append_json_line(self._path, event.model_dump(mode="json"))
