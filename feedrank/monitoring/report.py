"""The HTML report of a monitoring run: one page without outside files, the verdict first."""

from pathlib import Path

import pyarrow as pa

from feedrank import storage
from feedrank.config.monitoring import MonitoringConfig
from feedrank.monitoring import plots
from feedrank.monitoring.columns import feature_columns
from feedrank.monitoring.reference import Reference
from feedrank.monitoring.results import Estimate, MonitoringResult, Signal
from feedrank.monitoring.rows import by_arrival
from feedrank.monitoring.window import Evaluation

TEMPLATE = "report.html.j2"


def write_report(
    result: MonitoringResult,
    *,
    evaluation: Evaluation,
    trained: Reference,
    history: pa.Table,
    config: MonitoringConfig,
    path: Path,
) -> None:
    """Writes the report.

    Args:
        result: what the run found.
        evaluation: of the latest window.
        trained: the reference of the model's training.
        history: with the windows of this run.
        config: the monitoring configuration.
        path: of the HTML file.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"number": number, "estimate": estimate, "percent": percent}
    window = result.latest
    page = environment.get_template(TEMPLATE).render(
        result=result,
        window=window,
        trained=trained.info,
        reference=evaluation.reference.info,
        own=evaluation.reference is not trained,
        signals=sorted(window.signals, key=_urgency),
        distributions=plots.distributions(
            feature_columns(by_arrival(evaluation.sample), reference=evaluation.reference),
            flagged=[signal.name for signal in window.signals if signal.flagged],
        ),
        heat_map=plots.heat_map(history, model_version=result.model_version),
    )
    storage.write_text(path, page)


def number(value: float | None) -> str:
    """Three significant digits; a dash for nothing."""
    return "-" if value is None else f"{value:.3g}"


def percent(value: float | None) -> str:
    """With one decimal; a dash for nothing."""
    return "-" if value is None else f"{value:.1%}"


def estimate(value: Estimate) -> str:
    """The value with its confidence interval."""
    if value.value is None:
        return "-"
    interval = "" if value.low is None or value.high is None else f" ({value.low:.3g} to {value.high:.3g})"
    return f"{value.value:.3g}{interval}"


def _urgency(signal: Signal) -> tuple[bool, bool, float]:
    """Sort key: flagged first, then by effect over threshold; without a verdict last."""
    ratio = -1.0 if signal.effect is None else signal.effect / signal.threshold
    return not signal.flagged, signal.effect is None, -ratio
