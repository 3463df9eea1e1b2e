"""Structured logs: one JSON object a line on standard error, and none for a request."""

import json
import logging
import sys
import warnings
from datetime import UTC, datetime

QUIET = ("kserve.trace", "uvicorn.access", "uvicorn.error", "mlflow", "alembic")


class JsonFormatter(logging.Formatter):
    """time, level, logger, message, process and what a caller passes as `extra={"fields": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def _not_per_request(record: logging.LogRecord) -> bool:
    """KServe logs every gRPC call, and a trace for each bad input: both are counted in the metrics instead."""
    return not record.pathname.endswith("interceptors.py") or "Internal server error" in record.msg


def configure() -> None:
    """Sets up logging for the process, before KServe would do it its own way."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(_not_per_request)
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(True)
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")  # KServe's, not ours to change
    # KServe configures its logger unless it has a handler already.
    kserve = logging.getLogger("kserve")
    kserve.addHandler(handler)
    kserve.propagate = False
    kserve.setLevel(logging.WARNING)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    access = logging.getLogger("uvicorn.access")
    access.propagate = False  # uvicorn asks for handlers, not for the level
