"""Alerts and dashboard ask for metrics that the predictor has, and the runbook explains each alert."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import yaml

from manifests.render import CHART, ROOT
from serving import exposition
from serving.metrics import Counts, VersionCounts

RULES: list[dict[str, Any]] = yaml.safe_load((CHART / "alerts.yaml").read_text(encoding="utf-8"))


def exposed() -> set[str]:
    """Names of the predictor's series."""
    counts = Counts(
        requests={"predict 200": 1},
        errors={"overloaded": 1},
        versions={"v1.0.0": VersionCounts(rankings=1)},
        reloads={"failed": 1},
        log_counts=dict.fromkeys(("rows_queued", "rows_written", "rows_recovered", "rows_dropped"), 1),
        gauges=dict.fromkeys(
            (
                "log_queue_requests",
                "log_spool_bytes",
                "log_lag_seconds",
                "log_failing",
                "log_damaged_files",
                "ready_workers",
            ),
            1.0,
        ),
    )
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    text = exposition.as_prometheus([counts], exposition.Served("v1.0.0", moment, moment)).decode()
    return {line.split("{")[0].split()[0] for line in text.splitlines() if not line.startswith("#")}


def metrics_in(expression: str) -> set[str]:
    """Names of our metrics in a PromQL expression."""
    return set(re.findall(r"\bfeedrank_\w+", expression))


def test_alerts_use_exposed_metrics() -> None:
    assert set().union(*(metrics_in(rule["expr"]) for rule in RULES)) <= exposed()


def test_dashboard_uses_exposed_metrics() -> None:
    dashboard = json.loads((CHART / "dashboards" / "feedrank.json").read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    assert set().union(*map(metrics_in, expressions)) <= exposed()


def test_the_runbook_explains_each_alert() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (\w+)$", runbook, flags=re.MULTILINE)
    assert [rule["alert"] for rule in RULES if rule["alert"] not in headings] == []
