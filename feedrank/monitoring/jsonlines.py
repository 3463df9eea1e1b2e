"""JSON Lines files that outlive crashes."""

import json
import os
from pathlib import Path


def append_json_line(path: Path, content: object) -> None:
    """Appends one line to a JSON Lines file, on a line of its own even after one that a crash cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            separator = b"" if file.read(1) == b"\n" else b"\n"
        else:
            separator = b""
        file.write(separator + json.dumps(content).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[str]:
    """The lines of a file, none without one; a damaged byte spoils its own line only."""
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
