"""The HTML report: one page without outside files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feedrank.data.validation.batch import Floats
from feedrank.data.validation.history import Comparison, History
from feedrank.data.validation.summary import ValidationSummary

TEMPLATE = Path(__file__).with_name("report.html.j2")
PLOTTED = {
    "rows": "rows",
    "click_rate": "click-through rate",
    "typical_dwell": "geometric mean of the dwell on a click, s",
    "mobile_share": "share of mobile",
}
WIDTH, HEIGHT, MARGIN = 460, 120, 6


@dataclass(frozen=True)
class Plot:
    """A line over the days, in SVG coordinates; `marks` are the days that stand out."""

    title: str
    lines: list[str]
    marks: list[tuple[float, float, str]]
    low: str
    high: str
    first_day: str
    last_day: str


@dataclass(frozen=True)
class ReasonSample:
    """Rows of the quarantine with the same reason."""

    reason: str
    rows: int
    sample: list[dict[str, Any]]


def render(
    summary: ValidationSummary, *, history: History | None, quarantine: pa.Table | None, sample_rows: int
) -> str:
    """The page as HTML."""
    from jinja2 import Environment

    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        TEMPLATE.read_text(encoding="utf-8")
    )
    return template.render(
        summary=summary,
        counts={s: sum(r.status == s for r in summary.rules) for s in ("failed", "warning", "passed", "not_evaluated")},
        plots=_plots(history),
        reasons=_reasons(quarantine, sample_rows),
        width=WIDTH,
        height=HEIGHT,
    )


def _plots(history: History | None) -> list[Plot]:
    if history is None:
        return []
    comparisons = {c.name: c for c in history.comparisons}
    return [
        _plot(title, comparisons[name], history)
        for name, title in PLOTTED.items()
        if np.isfinite(comparisons[name].value).sum() > 1
    ]


def _plot(title: str, comparison: Comparison, history: History) -> Plot:
    value = comparison.value
    low, high = float(np.nanmin(value)), float(np.nanmax(value))
    x = MARGIN + np.arange(len(value)) * (WIDTH - 2 * MARGIN) / max(len(value) - 1, 1)
    y = HEIGHT - MARGIN - (value - low) / (high - low or 1) * (HEIGHT - 2 * MARGIN)
    marks = [(float(x[p]), float(y[p]), history.days.label(p)) for p in np.flatnonzero(comparison.excess > 1)]
    return Plot(
        title=title,
        lines=_lines(x, y),
        marks=[mark for mark in marks if np.isfinite(mark[1])],
        low=f"{low:.3g}",
        high=f"{high:.3g}",
        first_day=history.days.label(0),
        last_day=history.days.label(len(value) - 1),
    )


def _lines(x: Floats, y: Floats) -> list[str]:
    """Polylines of the days that have a value, broken where they haven't."""
    known = np.flatnonzero(np.isfinite(y))
    parts = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
    return [" ".join(f"{x[p]:.1f},{y[p]:.1f}" for p in part) for part in parts]


def _reasons(quarantine: pa.Table | None, sample_rows: int) -> list[ReasonSample]:
    if quarantine is None or not quarantine.num_rows:
        return []
    counts = sorted(
        ((c["values"], c["counts"]) for c in pc.value_counts(quarantine["reason"]).to_pylist()), key=lambda c: -c[1]
    )
    return [
        ReasonSample(
            reason=reason,
            rows=rows,
            sample=quarantine.filter(pc.equal(quarantine["reason"], reason))
            .slice(0, sample_rows)
            .drop_columns(["reason"])
            .to_pylist(),
        )
        for reason, rows in counts[:20]
    ]
