"""The counts of a worker set as JSON (spec section 4) and in Prometheus' text format."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from serving.metrics import BOUNDS_MS, Counts, summed

SHARED_GAUGES = (
    "log_lag_seconds",
    "log_spool_bytes",
    "log_failing",
    "log_damaged_files",
    "snapshot_failing",
    "event_loop_delay_seconds",
)


def percentile_ms(buckets: list[int], share: float) -> float | None:
    """A percentile, linear within its bucket; None without observations."""
    wanted, below = share * sum(buckets), 0.0
    if not wanted:
        return None
    for place, count in enumerate(buckets):
        if count and below + count >= wanted:
            low = BOUNDS_MS[place - 1] if place else 0.0
            high = BOUNDS_MS[min(place, len(BOUNDS_MS) - 1)]
            return round(low + (high - low) * (wanted - below) / count, 4)
        below += count
    return BOUNDS_MS[-1]


def as_json(workers: list[Counts]) -> dict[str, float | int | None]:
    """Totals since the start; rates, percentiles and the error rate (5xx) over the last minute."""
    buckets = summed(counts.window.buckets for counts in workers)
    requests = sum(counts.window.requests for counts in workers)
    seconds = max(counts.window.seconds for counts in workers)
    return {
        "requests_total": sum(sum(counts.requests.values()) for counts in workers),
        "requests_per_second": round(requests / seconds, 3) if seconds else 0.0,
        "latency_p50_ms": percentile_ms(buckets, 0.50),
        "latency_p99_ms": percentile_ms(buckets, 0.99),
        "error_rate": round(sum(counts.window.errors for counts in workers) / requests, 6) if requests else 0.0,
        "predictions_total": sum(v.items for counts in workers for v in counts.versions.values()),
    }


@dataclass(frozen=True)
class Served:
    """What is served, for its gauges."""

    model_version: str
    loaded_at: datetime
    snapshot_cutoff: datetime


def as_prometheus(workers: list[Counts], served: Served | None) -> bytes:
    """The text format."""
    registry = CollectorRegistry()
    registry.register(_Collector(list(_families(workers, served))))
    return generate_latest(registry)


class _Collector:
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _families(workers: list[Counts], served: Served | None) -> Iterator[Metric]:
    requests = CounterMetricFamily("feedrank_requests", "Answers.", labels=["route", "status"])
    for key, number in _merged(counts.requests for counts in workers).items():
        requests.add_metric(key.split(), number)
    yield requests
    for name, text, label, parts in (
        ("errors", "Errors.", "kind", [counts.errors for counts in workers]),
        ("reloads", "Loads of a model or snapshot.", "result", [counts.reloads for counts in workers]),
    ):
        family = CounterMetricFamily(f"feedrank_{name}", text, labels=[label])
        for key, number in _merged(parts).items():
            family.add_metric([key], number)
        yield family
    yield from _version_families(workers)
    for key, number in _merged(counts.log_counts for counts in workers).items():
        yield CounterMetricFamily(f"feedrank_log_{key}", f"Prediction log: {key.replace('_', ' ')}.", value=number)
    for key, value in _gauges(workers).items():
        yield GaugeMetricFamily(f"feedrank_{key}", f"{key.replace('_', ' ').capitalize()}.", value=value)
    if served is not None:
        yield InfoMetricFamily("feedrank_model", "The served model.", value={"model_version": served.model_version})
        for name, text, moment in (
            ("model_loaded", "When it was loaded.", served.loaded_at),
            ("snapshot_cutoff", "Up to when the online features count.", served.snapshot_cutoff),
        ):
            yield GaugeMetricFamily(f"feedrank_{name}_timestamp_seconds", text, value=moment.timestamp())


def _version_families(workers: list[Counts]) -> Iterator[Metric]:
    versions = sorted({version for counts in workers for version in counts.versions})
    of = {v: [counts.versions[v] for counts in workers if v in counts.versions] for v in versions}
    for name, text in (
        ("rankings", "Rankings answered."),
        ("items", "Items scored."),
        ("unknown_users", "Rankings for a user that the model has no embedding of."),
        ("unknown_items", "Scored items that the snapshot knows and the model has no embedding of."),
        ("unseen_items", "Scored items that the snapshot has no history of."),
    ):
        family = CounterMetricFamily(f"feedrank_{name}", text, labels=["model_version"])
        for version, parts in of.items():
            family.add_metric([version], sum(getattr(part, name) for part in parts))
        yield family
    histogram = HistogramMetricFamily(
        "feedrank_ranking_seconds", "From the request to the ranking.", labels=["model_version"]
    )
    for version, parts in of.items():
        running, buckets = 0, []
        bounds = [*(str(bound / 1000) for bound in BOUNDS_MS), "+Inf"]
        for bound, count in zip(bounds, summed(part.buckets for part in parts), strict=True):
            running += count
            buckets.append((bound, running))
        histogram.add_metric([version], buckets, sum_value=sum(part.latency_seconds for part in parts))
    yield histogram


def _merged(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for key, number in part.items():
            total[key] = total.get(key, 0) + number
    return dict(sorted(total.items()))


def _gauges(workers: list[Counts]) -> dict[str, float]:
    """Sums over the workers, but the worst of what all of them share."""
    total: dict[str, float] = {}
    for counts in workers:
        for key, value in counts.gauges.items():
            worst = key in SHARED_GAUGES
            total[key] = max(total.get(key, 0.0), value) if worst else total.get(key, 0.0) + value
    return total
