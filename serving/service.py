"""The predictor without its protocols: one worker's model, log, metrics and readiness."""

import hmac
import logging
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from feedrank import schema
from feedrank.clock import wall_clock
from feedrank.config import Config
from feedrank.errors import ConfigError
from feedrank.prediction_log import PredictionLog
from feedrank.scoring import Ranking
from serving.loader import Loaded, ModelLoader
from serving.metrics import Metrics
from serving.pulse import LoopDelay
from serving.requests import RankRequest, RefusedError
from serving.sources import SnapshotSource, model_source

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 0.25
_DEVICES = {device: index for index, device in enumerate(schema.DEVICES)}


@dataclass(frozen=True, slots=True)
class Answer:
    """A ranking and the model that made it."""

    ranking: Ranking
    loaded: Loaded
    latency_ms: float


class Service:
    """What all protocols call. `rank` belongs to the event loop's thread; the rest is safe anywhere."""

    def __init__(self, config: Config, *, runtime: Path) -> None:
        self.config = config.serving
        self.token = self._read_token()
        shared = self.config.workers > 1
        self.metrics = Metrics(runtime if shared else None)
        self.log = PredictionLog(self.config.log)
        cache = self.config.reload.cache_directory
        self.loader = ModelLoader(
            model_source(
                self.config.model,
                tracking_uri=config.model.registry.tracking_uri,
                cache=cache,
                keep=config.upkeep.rollback_steps + 1,
            ),
            None if self.config.snapshot is None else SnapshotSource(self.config.snapshot, cache),
            config=self.config.reload,
            runtime=runtime,
            on_reload=self.metrics.reloaded,
        )
        self.loop_delay = LoopDelay()
        self.listening = False
        """Whether the ports are open; the server's matter."""
        self.draining = False
        self._started = time.monotonic()
        self._now_us = wall_clock()
        self._stop = threading.Event()

    def start(self) -> None:
        """Begins to load the model, and to publish metrics."""
        self.loader.start()
        threading.Thread(target=self._refresh, name="metrics", daemon=True).start()

    def _read_token(self) -> bytes | None:
        if self.config.token_file is None:
            return None
        try:
            return self.config.token_file.read_bytes().strip()
        except OSError as error:
            raise ConfigError(f"serving.token_file: {error.filename}: {error.strerror}") from error

    def close(self) -> None:
        """Writes the log to its end."""
        self._stop.set()
        self.loader.stop()
        status = self.log.close(timeout_seconds=self.config.drain.timeout_seconds)
        logger.info(
            "prediction log closed",
            extra={"fields": {"rows": status.rows_queued, "pending": status.rows_pending, "error": status.error}},
        )

    @property
    def ready(self) -> bool:
        """New requests should be sent here."""
        return self.loader.current is not None and self.listening and not self.draining

    def authorized(self, header: bytes | None) -> bool:
        """Whether an Authorization header is good enough."""
        return self.token is None or (header is not None and hmac.compare_digest(header, b"Bearer " + self.token))

    def rank(self, request: RankRequest, *, started: float) -> Answer:
        """Ranks, logs and counts; `started` is `time.perf_counter()` when the request was met.

        Raises:
            RefusedError: 503 without a model or while the log has no room.
        """
        loaded = self.loader.current
        if loaded is None:
            raise RefusedError("no model is loaded yet", status=503, kind="no_model")
        if self.log.sheds:
            raise RefusedError("the prediction log has no room", status=503, kind="log_full")
        received_us, context = self._now_us(), request.context
        moment = None if context is None else context.timestamp
        device = None if context is None else context.device
        ranking = loaded.model.scorer.rank(
            request.user_id,
            request.item_ids,
            time_us=received_us if moment is None else microseconds(moment),
            device=None if device is None else _DEVICES[device],
        )
        latency_ms = (time.perf_counter() - started) * 1000
        version = loaded.model.version
        self.log.record(ranking, received_us=received_us, model_version=version, latency_ms=latency_ms)
        self.metrics.ranked(ranking, version=version, latency_ms=latency_ms)
        return Answer(ranking, loaded, latency_ms)

    def problems(self) -> list[str]:
        """What an operator should look at."""
        log = self.log.status()
        parts = {
            "model": self.loader.problem,
            "snapshot": self.loader.snapshot_problem,
            "prediction log": log.error,
        }
        found = [f"{part}: {problem}" for part, problem in parts.items() if problem]
        if log.rows_dropped:
            found.append(f"prediction log: {log.rows_dropped} rows dropped")
        if log.files_damaged:
            found.append(f"prediction log: {log.files_damaged} damaged files kept aside in the spool")
        return found

    def health(self) -> dict[str, Any]:
        """The body of `GET /health`."""
        loaded, problems, last = self.loader.current, self.problems(), self.metrics.last_prediction
        status = "degraded" if problems else "healthy"
        if loaded is None:
            status = "not_ready"
        if self.draining:
            status = "draining"
        return {
            "status": status,
            "model_version": None if loaded is None else loaded.model.version,
            "model_loaded_at": None if loaded is None else _text(loaded.loaded_at),
            "uptime_seconds": round(time.monotonic() - self._started, 3),
            "last_prediction": None if last is None else _text(datetime.fromtimestamp(last, UTC)),
            "snapshot_cutoff": None if loaded is None else loaded.model.snapshot_cutoff.isoformat(),
            "problems": problems,
        }

    def _refresh(self) -> None:
        while not self._stop.wait(REFRESH_SECONDS):
            try:
                self.refresh()
            except OSError:
                logger.exception("can't refresh the metrics")

    def refresh(self) -> None:
        """Brings metrics and the token up to date."""
        gauges = {
            "ready_workers": float(self.ready),
            "event_loop_delay_seconds": self.loop_delay.worst(),
            "snapshot_failing": float(self.loader.snapshot_problem is not None),
        }
        self.metrics.refresh(self.log.status(), gauges)
        if self.config.token_file is not None:
            self.token = self.config.token_file.read_bytes().strip()


def microseconds(moment: datetime) -> int:
    """Since 1970, UTC, exactly."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
