"""Alerts over a real SMTP server and a real HTTP sink, with peers that misbehave."""

import json
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from feedrank.config.monitoring import AlertConfig, SmtpConfig
from feedrank.monitoring.alerts import DEAD_LETTER_FILE, STATE_FILE, Alert, Alerter
from feedrank.monitoring.channels import (
    Channel,
    DeliveryError,
    EmailChannel,
    Message,
    SlackChannel,
    configured_channels,
)

NOW = datetime(2024, 3, 1, 4, tzinfo=UTC)
DRIFT = Alert(key="v1:item_ctr", text="item_ctr moved")
MESSAGE = Message(title="Model v1: drift", text="- item_ctr moved")
TIMEOUT = 0.5


class Sink(ThreadingHTTPServer):
    """An HTTP server that keeps the bodies it gets and answers with the statuses it is given, then 200."""

    def __init__(self, statuses: list[int]) -> None:
        self.bodies: list[dict[str, str]] = []
        self.statuses = statuses
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook/secret"


class Handler(BaseHTTPRequestHandler):
    server: Sink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if status == 200:
            self.server.bodies.append(json.loads(body))
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def sink(*statuses: int) -> Iterator[Sink]:
    server = Sink(list(statuses))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@contextmanager
def peer(behave: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP server that treats each connection as `behave` does; yields its port."""
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=behave, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield server.getsockname()[1]
    server.close()


def silent(connection: socket.socket) -> None:
    time.sleep(5)
    connection.close()


def trickling(connection: socket.socket) -> None:
    """One byte at a time, so that no single read ever times out."""
    try:
        for byte in b"HTTP/1.1 200 OK" + b" " * 100:
            connection.sendall(bytes([byte]))
            time.sleep(0.1)
    except OSError:
        pass


def half_closing(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)
    time.sleep(1)
    connection.close()


def resetting(connection: socket.socket) -> None:
    connection.close()


PEERS = {"silent": silent, "trickling": trickling, "half-closing": half_closing, "resetting": resetting}


class Mailbox:
    """Handler of aiosmtpd that keeps messages."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []

    async def handle_DATA(self, _server: object, _session: object, envelope) -> str:  # type: ignore[no-untyped-def]  # noqa: N802
        self.messages.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


@contextmanager
def mail_server(*, password: str = "") -> Iterator[tuple[Mailbox, int]]:
    box = Mailbox()

    def check(_server: object, _session: object, _envelope: object, _mechanism: str, data: object) -> AuthResult:
        return AuthResult(success=getattr(data, "password", b"") == password.encode(), handled=False)

    options = {"authenticator": check, "auth_require_tls": False, "auth_required": True} if password else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # aiosmtpd warns of a log-in without TLS
        controller = Controller(box, hostname="127.0.0.1", port=free_port(), **options)
        controller.start()
    yield box, controller.port
    controller.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def email(port: int, *, timeout_seconds: float = 10.0, **credentials: str) -> EmailChannel:
    config = SmtpConfig(
        host="127.0.0.1", port=port, starttls=False, sender="feedrank@example.org", recipients=("oncall@example.org",)
    )
    return EmailChannel(config=config, timeout_seconds=timeout_seconds, **credentials)


def slack(url: str, *, timeout_seconds: float = 10.0) -> SlackChannel:
    return SlackChannel(url=url, timeout_seconds=timeout_seconds)


def alerter(directory: Path, *channels: Channel, sleeps: list[float] | None = None) -> Alerter:
    config = AlertConfig(cool_down_minutes=60, break_hours=30, attempts=3, backoff_seconds=1)
    return Alerter(directory, channels=channels, config=config, sleep=(sleeps if sleeps is not None else []).append)


def test_slack_gets_title_and_text() -> None:
    with sink() as server:
        slack(server.url).send(MESSAGE)
        assert server.bodies == [{"text": "*Model v1: drift*\n- item_ctr moved"}]


def test_mail_gets_title_and_text() -> None:
    with mail_server() as (box, port):
        email(port).send(Message(title="Model v1:\ndrift", text="Größe: 0,3"))
        (mail,) = box.messages
        assert mail["Subject"] == "Model v1: drift"
        assert mail["To"] == "oncall@example.org"
        assert "Größe" in mail.get_content()


def test_mail_logs_in_and_a_wrong_password_is_permanent() -> None:
    with mail_server(password="right") as (box, port):
        email(port, user="u", password="right").send(MESSAGE)
        assert len(box.messages) == 1
        with pytest.raises(DeliveryError, match="refused user or password") as caught:
            email(port, user="u", password="wrong").send(MESSAGE)
        assert caught.value.permanent


@pytest.mark.parametrize("behaviour", PEERS)
@pytest.mark.parametrize("kind", ["slack", "email"])
def test_a_misbehaving_peer_is_a_delivery_error_within_the_deadline(behaviour: str, kind: str) -> None:
    with peer(PEERS[behaviour]) as port:
        url = f"http://127.0.0.1:{port}/hook"
        channel = slack(url, timeout_seconds=TIMEOUT) if kind == "slack" else email(port, timeout_seconds=TIMEOUT)
        begin = time.monotonic()
        with pytest.raises(DeliveryError):
            channel.send(MESSAGE)
        assert time.monotonic() - begin < TIMEOUT + 1


@pytest.mark.parametrize("kind", ["slack", "email"])
def test_a_refused_connection_is_a_delivery_error(kind: str) -> None:
    port = free_port()
    channel = slack(f"http://127.0.0.1:{port}/hook/secret") if kind == "slack" else email(port)
    with pytest.raises(DeliveryError) as caught:
        channel.send(MESSAGE)
    assert "secret" not in str(caught.value)
    assert not caught.value.permanent


@pytest.mark.parametrize(("status", "permanent"), [(404, True), (429, False), (500, False)])
def test_only_client_errors_are_permanent(status: int, permanent: bool) -> None:
    with sink(status) as server, pytest.raises(DeliveryError) as caught:
        slack(server.url).send(MESSAGE)
    assert caught.value.permanent == permanent
    assert "secret" not in str(caught.value)


def test_an_address_that_is_no_url_is_refused_without_being_shown() -> None:
    with pytest.raises(DeliveryError, match="not an http") as caught:
        slack("file:///etc/passwd").send(MESSAGE)
    assert "passwd" not in str(caught.value)


def test_the_configuration_and_the_environment_choose_the_channels() -> None:
    smtp = SmtpConfig(host="h", sender="a@b", recipients=("c@d",))
    environ = {"FEEDRANK_SLACK_WEBHOOK": "https://hooks.example.org/x", "FEEDRANK_SMTP_PASSWORD": "p"}
    names = [channel.name for channel in configured_channels(AlertConfig(smtp=smtp), environ=environ)]
    assert names == ["slack", "email"]
    assert not configured_channels(AlertConfig(), environ={})


def test_a_failing_webhook_is_tried_again_with_growing_pauses(tmp_path: Path) -> None:
    sleeps: list[float] = []
    with sink(500, 429) as server:
        report = alerter(tmp_path, slack(server.url), sleeps=sleeps).send([DRIFT], title="t", now=NOW)
        assert len(server.bodies) == 1
    assert report.sent == [DRIFT.key]
    assert sleeps == [1, 2]


def test_the_same_alert_is_sent_again_only_after_the_cool_down(tmp_path: Path) -> None:
    other = Alert(key="v1:auc", text="AUC fell")
    with sink() as server:
        for minutes, alerts in ((0, [DRIFT]), (30, [DRIFT, other]), (60, [DRIFT, other])):
            report = alerter(tmp_path, slack(server.url)).send(alerts, title="t", now=NOW + timedelta(minutes=minutes))
        texts = [body["text"] for body in server.bodies]
    assert texts == ["*t*\n- item_ctr moved", "*t*\n- AUC fell", "*t*\n- item_ctr moved"]
    assert report.suppressed == [other.key]


def test_what_retrainings_answer_is_a_reminder_after_days_while_it_goes_on_and_news_after_a_break(
    tmp_path: Path,
) -> None:
    answered = replace(DRIFT, answered=True)
    with sink() as server:

        def sent(hours: float, *alerts: Alert) -> bool:
            now = NOW + timedelta(hours=hours)
            return bool(alerter(tmp_path, slack(server.url)).send(alerts, title="t", now=now).sent)

        going_on = [hour for hour in np.arange(0, 8 * 24, 0.5) if sent(hour, answered)]
        assert going_on == [0, 7 * 24]
        assert not sent(8 * 24), "it is over"
        assert not sent(9 * 24, answered), "for a day a new champion was judged less: no break"
        assert sent(9 * 24 + 30, answered)


def test_when_all_channels_fail_the_message_is_kept_and_the_next_run_sends_it(tmp_path: Path) -> None:
    dead = f"http://127.0.0.1:{free_port()}/hook/secret"
    report = alerter(tmp_path, slack(dead), email(free_port())).send([DRIFT], title="t", now=NOW)
    assert report.failed == [DRIFT.key]
    letters = (tmp_path / DEAD_LETTER_FILE).read_text()
    assert json.loads(letters) == {"title": "t", "text": "- item_ctr moved"}
    with sink() as server:
        alerter(tmp_path, slack(server.url)).send([DRIFT], title="t", now=NOW + timedelta(minutes=1))
        assert [body["text"] for body in server.bodies] == ["*t*\n- item_ctr moved"]
    assert (tmp_path / DEAD_LETTER_FILE).read_text() == ""


def test_one_working_channel_is_enough(tmp_path: Path) -> None:
    with mail_server() as (box, port):
        channels = slack(f"http://127.0.0.1:{free_port()}/hook"), email(port)
        assert alerter(tmp_path, *channels).send([DRIFT], title="t", now=NOW).sent == [DRIFT.key]
        assert len(box.messages) == 1
    assert not (tmp_path / DEAD_LETTER_FILE).exists()


def test_letters_that_fail_again_are_kept_in_order(tmp_path: Path) -> None:
    dead = slack(f"http://127.0.0.1:{free_port()}/hook")
    for index in range(3):
        alerter(tmp_path, dead).send([Alert(key=str(index), text=str(index))], title="t", now=NOW)
    texts = [json.loads(line)["text"] for line in (tmp_path / DEAD_LETTER_FILE).read_text().splitlines()]
    assert texts == ["- 0", "- 1", "- 2"]


def test_a_broken_state_or_folder_never_raises(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / STATE_FILE).write_text("[1, 2")
    (tmp_path / DEAD_LETTER_FILE).write_bytes(b"no json\n\xff\xfe\n")
    with sink() as server:
        assert alerter(tmp_path, slack(server.url)).send([DRIFT], title="t", now=NOW).sent == [DRIFT.key]
    (tmp_path / "file").write_text("")
    assert alerter(tmp_path / "file" / "below").send([DRIFT], title="t", now=NOW).failed == [DRIFT.key]
    assert "alerts could not be processed ([Errno 20] Not a directory" in caplog.text
    assert "Traceback" not in caplog.text


def test_without_channels_the_log_gets_the_alert(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert alerter(tmp_path).send([DRIFT], title="t", now=NOW).sent == [DRIFT.key]
    assert "item_ctr moved" in caplog.text
