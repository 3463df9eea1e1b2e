"""The picture of a simulation: every policy's curves over the days, with what happened to the loop."""

import base64
import io
from collections.abc import Callable
from typing import Any

from feedrank.config.simulation import PolicyName
from feedrank.simulation.results import EventKind, PolicyDay, SimulationResult

COLORS: dict[PolicyName, str] = {
    "loop": "#1f6feb",
    "frozen": "#d1242f",
    "informed": "#1a7f37",
    "oracle": "#9aa7b4",
    "popularity": "#bf8700",
    "random": "#c9d1d9",
}
LABELS: dict[PolicyName, str] = {
    "loop": "champion with the loop",
    "frozen": "champion frozen",
    "informed": "model with full knowledge of the new world",
    "oracle": "oracle (true probabilities)",
    "popularity": "popularity",
    "random": "random",
}
MARKERS: dict[EventKind, tuple[str, str, str]] = {
    "alert": ("!", "#d1242f", "alert"),
    "retraining": ("o", "#9a6700", "retraining"),
    "promotion": ("^", "#1a7f37", "promotion"),
    "rejection": ("x", "#6e7781", "challenger rejected"),
}
"""Marker, colour and name of what is drawn below the curves."""
METRICS: tuple[tuple[str, Callable[[PolicyDay], float | None], bool], ...] = (
    ("click-through rate", lambda day: day.ctr, True),
    ("impressions with a like or share", lambda day: day.engagement_rate, True),
    ("impressions per visit", lambda day: day.session_impressions, False),
    ("users of the day before who came again", lambda day: day.retention, True),
)


def curves(result: SimulationResult) -> str:
    """CTR above with the loop's events, the three other figures below; PNG in base64."""
    plt = _pyplot()
    figure = plt.figure(figsize=(12, 9), constrained_layout=True)
    grid = figure.add_gridspec(3, 3, height_ratios=[5, 0.9, 3])
    main = figure.add_subplot(grid[0, :])
    _draw(main, result, *METRICS[0])
    main.legend(fontsize=8, ncols=3, loc="upper right", frameon=False)
    main.set_ylim(0, 1.25 * main.get_ylim()[1])
    _draw_events(figure.add_subplot(grid[1, :], sharex=main), result)
    for column, metric in enumerate(METRICS[1:]):
        _draw(figure.add_subplot(grid[2, column]), result, *metric)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()


def _draw(
    axis: Any, result: SimulationResult, title: str, value: Callable[[PolicyDay], float | None], percent: bool
) -> None:
    from matplotlib.dates import AutoDateLocator, DateFormatter
    from matplotlib.ticker import PercentFormatter

    for name, color in reversed(COLORS.items()):
        days = [day for day in result.days.get(name, []) if value(day) is not None]
        width = 2.4 if name in ("loop", "frozen") else 1.4
        axis.plot([day.date for day in days], [value(day) for day in days], color=color, linewidth=width,
                  label=LABELS[name])  # fmt: skip
    for event in result.events:
        if event.kind == "shift":
            axis.axvline(event.at.date(), color="#1f2328", linestyle=":", linewidth=1.2)
            axis.annotate("taste shift", (event.at.date(), 0.02), xycoords=("data", "axes fraction"), fontsize=8,
                          xytext=(4, 0), textcoords="offset points")  # fmt: skip
    axis.set_title(title, fontsize=10, loc="left")
    axis.tick_params(labelsize=8)
    axis.xaxis.set_major_locator(AutoDateLocator(maxticks=8))
    axis.xaxis.set_major_formatter(DateFormatter("%m-%d"))
    if percent:
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.grid(axis="y", color="#eaeef2")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _draw_events(axis: Any, result: SimulationResult) -> None:
    """One row per kind of event."""
    for row, (kind, (marker, color, _)) in enumerate(MARKERS.items()):
        moments = [event.at for event in result.events if event.kind == kind]
        symbol = "$!$" if marker == "!" else marker
        axis.plot(moments, [-row] * len(moments), linestyle="", marker=symbol, color=color, markersize=8)
    axis.set_yticks([-row for row in range(len(MARKERS))], [name for _, _, name in MARKERS.values()], fontsize=8)
    axis.set_ylim(-len(MARKERS) + 0.4, 0.6)
    axis.tick_params(axis="x", labelbottom=False, length=0)
    axis.grid(axis="y", color="#eaeef2")
    for side in ("top", "right", "bottom", "left"):
        axis.spines[side].set_visible(False)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt
