"""curl and wget."""

import gzip
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .script import TIMEOUT_SECONDS, Exchange, Reply, Sender
from .toolchains import AbsentError, tool

LARGE_BODY_BYTES = 200_000
"""Padded with spaces; many segments, and still within `limits.max_body_bytes`."""
_LAST_STATUS = re.compile(rb"^ *HTTP/1\.\d (\d{3})", re.MULTILINE)


def by_curl(*options: str, header: str = "Accept: */*", large: bool = False, gzipped: bool = False) -> Sender:
    """All exchanges by one curl, so that it keeps the connection; the header goes with every POST."""

    def send(url: str, exchanges: Sequence[Exchange]) -> list[Reply]:
        command = [tool("curl")]
        if "--http2" in options and "HTTP2" not in subprocess.check_output([*command, "--version"], text=True):
            raise AbsentError("curl is built without HTTP/2.")
        with tempfile.TemporaryDirectory() as folder:
            for number, exchange in enumerate(exchanges):
                answer = Path(folder) / f"{number}.answer"
                command += ["--next"] if number else []
                command += ["--silent", "--show-error", "--max-time", str(TIMEOUT_SECONDS), *options]
                command += ["--write-out", "%{http_code}\n", "--output", str(answer), url + exchange.path]
                if exchange.method == "POST":
                    body = exchange.body.ljust(LARGE_BODY_BYTES) if large else exchange.body
                    given = Path(folder) / f"{number}.body"
                    given.write_bytes(gzip.compress(body) if gzipped else body)
                    command += ["--data-binary", f"@{given}", "--header", header]
                    command += ["--header", "Content-Type: application/json"]
                    command += ["--header", "Content-Encoding: gzip"] if gzipped else []
                elif exchange.method == "HEAD":
                    command += ["--head"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"exit code {done.returncode}: {done.stderr[:300]}")
            statuses = [int(line) for line in done.stdout.split()]
            return [
                Reply(status, b"" if exchange.method == "HEAD" else (Path(folder) / f"{number}.answer").read_bytes())
                for number, (exchange, status) in enumerate(zip(exchanges, statuses, strict=True))
            ]  # of a HEAD, curl writes the headers

    return send


def by_wget(url: str, exchanges: Sequence[Exchange]) -> list[Reply]:
    """One wget for each exchange."""
    command = [tool("wget"), "--quiet", "--server-response", "--content-on-error", "--tries=1", "--output-document=-"]
    replies = []
    with tempfile.TemporaryDirectory() as folder:
        for exchange in exchanges:
            options = [f"--timeout={TIMEOUT_SECONDS}", f"--method={exchange.method}"]
            if exchange.method == "POST":
                given = Path(folder) / "body"
                given.write_bytes(exchange.body)
                options += [f"--body-file={given}", "--header=Content-Type: application/json"]
            done = subprocess.run([*command, *options, url + exchange.path], capture_output=True, check=False)
            statuses = _LAST_STATUS.findall(done.stderr)
            if not statuses:
                raise RuntimeError(f"exit code {done.returncode}: {done.stderr.decode()[-300:]}")
            replies.append(Reply(int(statuses[-1]), done.stdout))
    return replies
