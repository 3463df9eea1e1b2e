"""What one worker counts.

A worker counts in plain Python numbers. In a set of several it also writes them to a file four times a second, so
that whichever worker is scraped answers for all.
"""

import bisect
import os
import threading
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import msgspec

from feedrank.prediction_log import LogStatus
from feedrank.scoring import Ranking

BOUNDS_MS = (
    0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 500.0, 1000.0, 2500.0, 5000.0,
)  # fmt: skip
"""Upper bounds of the latency buckets; one more bucket holds the rest."""
WINDOW_SECONDS, MARK_SECONDS = 60.0, 5.0
STALE_SECONDS = 5.0


class VersionCounts(msgspec.Struct):
    """What one model version has answered."""

    rankings: int = 0
    items: int = 0
    unknown_users: int = 0
    unknown_items: int = 0
    unseen_items: int = 0
    latency_seconds: float = 0.0
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))


class Totals(msgspec.Struct):
    """What rates and percentiles of a window are made of."""

    requests: int = 0
    errors: int = 0
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))
    seconds: float = 0.0


class Counts(msgspec.Struct):
    """All that a worker publishes."""

    requests: dict[str, int] = msgspec.field(default_factory=dict)
    """By 'route status'."""
    errors: dict[str, int] = msgspec.field(default_factory=dict)
    """By kind."""
    versions: dict[str, VersionCounts] = msgspec.field(default_factory=dict)
    reloads: dict[str, int] = msgspec.field(default_factory=dict)
    log_counts: dict[str, int] = msgspec.field(default_factory=dict)
    gauges: dict[str, float] = msgspec.field(default_factory=dict)
    window: Totals = msgspec.field(default_factory=Totals)
    time: float = 0.0


class Metrics:
    """The counts of this process."""

    def __init__(self, directory: Path | None) -> None:
        self.counts = Counts()
        self.last_prediction: float | None = None
        self._lock = threading.Lock()
        self._directory = directory
        self._file = None if directory is None else directory / f"metrics-{os.getpid()}-{time.time_ns()}.json"
        self._marks: deque[tuple[float, Totals]] = deque([(time.monotonic(), Totals())])

    def answered(self, route: str, status: int) -> None:
        """Counts an HTTP or gRPC answer."""
        key = f"{route} {status}"
        requests = self.counts.requests
        requests[key] = requests.get(key, 0) + 1

    def failed(self, kind: str) -> None:
        """Counts an error."""
        self.counts.errors[kind] = self.counts.errors.get(kind, 0) + 1

    def ranked(self, ranking: Ranking, *, version: str, latency_ms: float) -> None:
        """Counts a ranking."""
        counts = self.counts.versions.get(version)
        if counts is None:
            counts = self.counts.versions[version] = VersionCounts()
        counts.rankings += 1
        counts.items += len(ranking.item_ids)
        counts.unknown_users += ranking.unknown_user
        counts.unknown_items += ranking.unknown_items
        counts.unseen_items += ranking.unseen_items
        counts.latency_seconds += latency_ms / 1000
        counts.buckets[bisect.bisect_left(BOUNDS_MS, latency_ms)] += 1
        self.last_prediction = time.time()

    def reloaded(self, succeeded: bool) -> None:
        """Counts a load of a model."""
        key = "ok" if succeeded else "failed"
        self.counts.reloads[key] = self.counts.reloads.get(key, 0) + 1

    def refresh(self, log: LogStatus, gauges: dict[str, float]) -> None:
        """Takes over the log's state and other gauges, moves the window on, and publishes to the other workers."""
        with self._lock:  # a scrape and the publishing thread
            counts = self.counts
            counts.log_counts = {
                "rows_queued": log.rows_queued,
                "rows_written": log.rows_written,
                "rows_recovered": log.rows_recovered,
                "rows_dropped": log.rows_dropped,
            }
            counts.gauges = {
                "log_queue_requests": log.queue_requests,
                "log_spool_bytes": log.spool_bytes,
                "log_lag_seconds": log.lag_seconds,
                "log_failing": float(log.error is not None),
                "log_damaged_files": log.files_damaged,
                **gauges,
            }
            counts.time = time.time()
            self._move_window()
            if self._file is not None:
                aside = self._file.with_suffix(".new")
                aside.write_bytes(msgspec.json.encode(counts))
                aside.replace(self._file)

    def everywhere(self) -> list[Counts]:
        """The counts of all workers of the set; those of dead ones without their gauges and window."""
        if self._directory is None:
            return [self.counts]
        found = [self.counts]
        for file in self._directory.glob("metrics-*.json"):
            if file != self._file:
                other = msgspec.json.decode(file.read_bytes(), type=Counts)
                if time.time() - other.time > STALE_SECONDS:
                    other.gauges, other.window = {}, Totals()
                found.append(other)
        return found

    def _totals(self) -> Totals:
        requests = dict(self.counts.requests)  # a copy: requests go on in another thread
        versions = list(self.counts.versions.values())
        return Totals(
            requests=sum(requests.values()),
            errors=sum(number for key, number in requests.items() if key.split()[1] >= "500"),
            buckets=summed(counts.buckets for counts in versions),
        )

    def _move_window(self) -> None:
        now, totals = time.monotonic(), self._totals()
        if now - self._marks[-1][0] >= MARK_SECONDS:
            self._marks.append((now, totals))
        while len(self._marks) > 1 and now - self._marks[1][0] >= WINDOW_SECONDS:
            self._marks.popleft()
        start, before = self._marks[0]
        self.counts.window = Totals(
            requests=totals.requests - before.requests,
            errors=totals.errors - before.errors,
            buckets=[after - earlier for after, earlier in zip(totals.buckets, before.buckets, strict=True)],
            seconds=now - start,
        )


def summed(lists: Iterable[list[int]]) -> list[int]:
    """Sum of some bucket lists."""
    total = [0] * (len(BOUNDS_MS) + 1)
    for numbers in lists:
        total = [a + b for a, b in zip(total, numbers, strict=True)]
    return total
