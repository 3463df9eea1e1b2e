"""Channels for alerts: a Slack-compatible webhook and e-mail, each with a deadline that a slow peer can't stretch."""

import json
import os
import smtplib
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Protocol

from feedrank.config.monitoring import AlertConfig, SmtpConfig

TOO_MANY_REQUESTS = 429
CLIENT_ERRORS = range(400, 500)


class DeliveryError(Exception):
    """A message was not delivered; `permanent` when another attempt can't help."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        """The message must not hold a secret, such as the webhook's address."""
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True)
class Message:
    """What a person gets."""

    title: str
    text: str


class Channel(Protocol):
    """One way to a person."""

    @property
    def name(self) -> str:
        """For logs and the dead-letter file."""

    def send(self, message: Message) -> None:
        """Delivers a message.

        Raises:
            DeliveryError: the peer refused it, failed or was too slow.
        """


@dataclass(frozen=True)
class SlackChannel:
    """Incoming webhook of Slack, Mattermost, Rocket.Chat and others: a POST of {"text": …}."""

    url: str
    timeout_seconds: float
    name: str = "slack"

    def send(self, message: Message) -> None:
        """See `Channel`."""
        _within(self.timeout_seconds, lambda: self._post(message))

    def _post(self, message: Message) -> None:
        if not self.url.startswith(("https://", "http://")):
            raise DeliveryError("the webhook's address is not an http(s) URL", permanent=True)
        body = json.dumps({"text": f"*{message.title}*\n{message.text}"}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url, data=body, headers=headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_seconds) as answer:
                answer.read(1)
        except urllib.error.HTTPError as error:
            permanent = error.code in CLIENT_ERRORS and error.code != TOO_MANY_REQUESTS
            raise DeliveryError(f"the webhook answered {error.code}", permanent=permanent) from error


@dataclass(frozen=True)
class EmailChannel:
    """E-mail over SMTP; user and password come from the environment variables that the configuration names."""

    config: SmtpConfig
    timeout_seconds: float
    user: str = ""
    password: str = ""
    name: str = "email"

    def send(self, message: Message) -> None:
        """See `Channel`."""
        _within(self.timeout_seconds, lambda: self._submit(message))

    def _submit(self, message: Message) -> None:
        mail = EmailMessage()
        mail["Subject"] = " ".join(message.title.split())
        mail["From"] = self.config.sender
        mail["To"] = ", ".join(self.config.recipients)
        mail.set_content(message.text)
        try:
            with smtplib.SMTP(self.config.host, self.config.port, timeout=self.timeout_seconds) as server:
                if self.config.starttls:
                    server.starttls(context=ssl.create_default_context())
                if self.user:
                    server.login(self.user, self.password)
                refused = server.send_message(mail)
        except smtplib.SMTPAuthenticationError as error:
            raise DeliveryError("the mail server refused user or password", permanent=True) from error
        if refused:
            raise DeliveryError(f"the mail server refused {', '.join(refused)}", permanent=True)


def configured_channels(config: AlertConfig, *, environ: Mapping[str, str] | None = None) -> list[Channel]:
    """The channels that the configuration and its secrets in the environment switch on."""
    environ = os.environ if environ is None else environ
    channels: list[Channel] = []
    webhook = environ.get(config.slack_webhook_env, "")
    if webhook:
        channels.append(SlackChannel(url=webhook, timeout_seconds=config.timeout_seconds))
    if config.smtp is not None:
        user, password = (environ.get(name, "") for name in (config.smtp.user_env, config.smtp.password_env))
        channels.append(
            EmailChannel(config=config.smtp, timeout_seconds=config.timeout_seconds, user=user, password=password)
        )
    return channels


def _within(seconds: float, send: Callable[[], None]) -> None:
    """Runs `send` with a deadline: a socket timeout alone starts anew with every byte of a trickling peer."""
    failures: list[Exception] = []

    def attempt() -> None:
        try:
            send()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise DeliveryError(f"no answer within {seconds:g} s")
    if failures:
        error = failures[0]
        if isinstance(error, DeliveryError):
            raise error
        raise DeliveryError(f"{type(error).__name__}: {error}") from error
