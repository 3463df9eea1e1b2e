"""Alerts: one message per run, no alert twice within its cool-down, nothing lost, and never an error of its own.

What needs a person is told again after each cool-down. What the platform answers by retrainings is not, as long as it
goes on: the champion that no challenger beats on drifted data would have it told twice a day for weeks.

A message that no channel takes goes to `dead_letters.jsonl` and is sent again by the next run; every alert is also
logged. Delivery is at least once: a kill between sending and remembering repeats a message.
"""

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from feedrank import storage
from feedrank.config.monitoring import AlertConfig
from feedrank.monitoring.channels import Channel, DeliveryError, Message
from feedrank.monitoring.jsonlines import append_json_line, read_lines
from feedrank.monitoring.results import AlertReport

STATE_FILE, DEAD_LETTER_FILE = "alerts.json", "dead_letters.jsonl"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alert:
    """Something that a person should know; alerts with the same key are the same."""

    key: str
    text: str
    answered: bool = False
    """Whether the platform itself does what can be done: while it goes on, people are reminded of it only."""


@dataclass(frozen=True)
class _Sent:
    """When an alert was sent last, and when it was last the case."""

    sent_at: datetime
    seen_at: datetime


_STATE = TypeAdapter(dict[str, _Sent])


class Alerter:
    """Sends alerts over channels, remembering in a folder what it sent."""

    def __init__(
        self,
        directory: Path,
        *,
        channels: Sequence[Channel],
        config: AlertConfig,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Touches nothing yet."""
        self._state_path = directory / STATE_FILE
        self._dead_letters = directory / DEAD_LETTER_FILE
        self._channels, self._config, self._sleep = channels, config, sleep

    def send(self, alerts: Sequence[Alert], *, title: str, now: datetime) -> AlertReport:
        """Sends the alerts that are due as one message, after earlier ones that failed."""
        try:
            return self._send(alerts, title=title, now=now)
        except Exception as error:
            # A full or missing folder is explained in a sentence; anything else is a fault of ours.
            details = None if isinstance(error, OSError) else error
            log.error(  # noqa: TRY400
                "alerts could not be processed (%s): %s", error, [alert.key for alert in alerts], exc_info=details
            )
            return AlertReport(failed=[alert.key for alert in alerts])

    def _send(self, alerts: Sequence[Alert], *, title: str, now: datetime) -> AlertReport:
        self._redeliver()
        known = self._read_state()
        due = [alert for alert in alerts if self._is_due(alert, known.get(alert.key), now=now)]
        suppressed = [alert.key for alert in alerts if alert not in due]
        known |= {key: replace(known[key], seen_at=now) for key in suppressed}
        if not due:
            self._write_state(known, now=now)
            return AlertReport(suppressed=suppressed)
        message = Message(title=title, text="\n".join(f"- {alert.text}" for alert in due))
        log.warning("%s\n%s", message.title, message.text)
        delivered = self._deliver(message)
        if not delivered:
            append_json_line(self._dead_letters, asdict(message))
        # A dead letter counts as sent: the next run sends it from the file.
        self._write_state(known | {alert.key: _Sent(now, now) for alert in due}, now=now)
        keys = [alert.key for alert in due]
        return (
            AlertReport(sent=keys, suppressed=suppressed)
            if delivered
            else AlertReport(failed=keys, suppressed=suppressed)
        )

    @property
    def _cool_down(self) -> timedelta:
        return timedelta(minutes=self._config.cool_down_minutes)

    @property
    def _break(self) -> timedelta:
        return timedelta(hours=self._config.break_hours)

    def _is_due(self, alert: Alert, last: _Sent | None, *, now: datetime) -> bool:
        if last is None:
            return True
        goes_on = alert.answered and now - last.seen_at < self._break
        pause = timedelta(days=self._config.remind_days) if goes_on else self._cool_down
        return now - last.sent_at >= pause

    def _deliver(self, message: Message) -> bool:
        """Whether a channel took the message; without any channel, the log did."""
        outcomes = [self._try(channel, message) for channel in self._channels]
        return any(outcomes) or not outcomes

    def _try(self, channel: Channel, message: Message) -> bool:
        pause = self._config.backoff_seconds
        for attempt in range(1, self._config.attempts + 1):
            try:
                channel.send(message)
            except DeliveryError as error:
                log.warning("%s: attempt %d of %d failed: %s", channel.name, attempt, self._config.attempts, error)
                if error.permanent:
                    return False
            else:
                return True
            if attempt < self._config.attempts:
                self._sleep(pause)
                pause *= 2
        return False

    def _redeliver(self) -> None:
        """Sends the dead letters; those that fail again are kept."""
        if not self._channels or not self._dead_letters.exists():
            return
        kept: list[str] = []
        for line in read_lines(self._dead_letters):
            try:
                message = Message(**json.loads(line))
            except (ValueError, TypeError):
                log.warning("%s: a line that is no message is left out: %.80s", self._dead_letters, line)
                continue
            # After one failure the channels are down: trying each letter would only take time.
            if kept or not self._deliver(message):
                kept.append(line)
        storage.write_text(self._dead_letters, "".join(f"{line}\n" for line in kept))

    def _read_state(self) -> dict[str, _Sent]:
        try:
            return _STATE.validate_json(self._state_path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValidationError:
            log.warning("%s: not readable, so alerts may repeat", self._state_path)
            return {}

    def _write_state(self, known: dict[str, _Sent], *, now: datetime) -> None:
        longest = max(self._cool_down, self._break)
        recent = {key: sent for key, sent in sorted(known.items()) if now - sent.seen_at <= longest}
        storage.write_text(self._state_path, _STATE.dump_json(recent, indent=2).decode())
