"""What people were told, and when: a stand-in for Slack's webhook, and the predictor's own `/health`."""

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Message:
    """One thing that was said."""

    at: datetime
    channel: str
    """`slack`, `health`, or `command` for what a command that a person started answers."""
    text: str


@dataclass
class Told:
    """All messages."""

    now: Callable[[], datetime]
    messages: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        told = self

        class Webhook(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                told.note("slack", body["text"])
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def note(self, channel: str, text: str) -> None:
        """Keeps a message of the present moment."""
        self.messages.append(Message(self.now(), channel, text))

    def first(self, pattern: str, *, since: datetime, until: datetime) -> Message | None:
        """The first message in a span of time in which the pattern is found."""
        found = (m for m in self.messages if since <= m.at <= until and re.search(pattern, m.text, re.IGNORECASE))
        return next(found, None)
