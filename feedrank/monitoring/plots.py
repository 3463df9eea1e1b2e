"""Plots of the monitoring report, as PNG in base64 so that the page needs no other file."""

import base64
import io
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from feedrank import schema
from feedrank.monitoring.columns import Column
from feedrank.monitoring.history import NAME, STATUS, WINDOW_END
from feedrank.monitoring.results import FLAGGED

REFERENCE_COLOR, WINDOW_COLOR, ALARM_COLOR = "#9aa7b4", "#1f6feb", "#d1242f"
HISTOGRAM_BINS = 30
COLUMNS = 4
HEAT_WINDOWS = 56
"""Latest windows in the heat map: a week of 3-hour steps."""


def distributions(columns: Sequence[Column], *, flagged: Collection[str]) -> str:
    """One small plot per feature: the reference against the window; flagged ones have a red title."""
    plt = _pyplot()
    rows = -(-len(columns) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(12, 2.1 * rows), constrained_layout=True)
    for axis, column in zip(axes.flat, columns, strict=False):
        _pair(axis, column)
        color = ALARM_COLOR if column.name in flagged else "black"
        axis.set_title(column.name, fontsize=8, color=color)
    for axis in list(axes.flat)[len(columns) :]:
        axis.axis("off")
    return _png(figure)


def heat_map(history: pa.Table, *, model_version: str) -> str:
    """Effect over threshold of each signal (rows) in the latest windows (columns); a dot marks a flagged one."""
    plt = _pyplot()
    frame = history.to_pandas()
    frame = frame[frame[schema.MODEL_VERSION] == model_version]
    frame["ratio"] = frame["effect"] / frame["threshold"]
    ratio = _by_window(frame, "ratio").astype(float)
    flagged = _by_window(frame.assign(flag=frame[STATUS].isin(FLAGGED)), "flag").reindex_like(ratio)
    figure, axis = plt.subplots(figsize=(12, 0.24 * len(ratio) + 1.2), constrained_layout=True)
    image = axis.imshow(ratio, aspect="auto", cmap="YlOrRd", vmin=0, vmax=2, interpolation="nearest")
    places = np.argwhere(flagged.to_numpy() == True)  # noqa: E712 - a missing window is neither
    axis.plot(places[:, 1], places[:, 0], "k.", markersize=5)
    axis.set_yticks(range(len(ratio)), ratio.index, fontsize=8)
    labels = [f"{end:%m-%d %H h}" for end in ratio.columns]
    every = -(-len(labels) // 8)
    axis.set_xticks(range(0, len(labels), every), labels[::every], fontsize=8)
    axis.set_xlabel("end of the window (UTC)", fontsize=8)
    figure.colorbar(image, ax=axis, shrink=0.8, extend="max").set_label("effect / threshold", fontsize=8)
    return _png(figure)


def _by_window(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    table = frame.pivot_table(index=NAME, columns=WINDOW_END, values=column, aggfunc="last", sort=False, dropna=False)
    return table[sorted(table.columns)].iloc[:, -HEAT_WINDOWS:]


def _pair(axis: Any, column: Column) -> None:
    axis.tick_params(labelsize=7)
    axis.set_yticks([])
    axis.xaxis.get_major_locator().set_params(integer=column.form.categorical)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    both = np.concatenate([column.reference.values, column.window.values])
    if not len(both):
        axis.text(0.5, 0.5, "no values", ha="center", va="center", transform=axis.transAxes, fontsize=8)
        return
    edges = _edges(both, categorical=column.form.categorical)
    for values, color in ((column.reference.values, REFERENCE_COLOR), (column.window.values, WINDOW_COLOR)):
        if len(values):
            shares = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / len(values)
            axis.stairs(shares, edges, color=color, fill=color == REFERENCE_COLOR, alpha=0.9, linewidth=1.4)


def _edges(values: NDArray[np.float64], *, categorical: bool) -> NDArray[np.float64]:
    if categorical and np.ptp(values) < HISTOGRAM_BINS:
        return np.arange(values.min(), values.max() + 2) - 0.5
    low, high = np.quantile(values, [0.005, 0.995])
    return np.linspace(low, high if high > low else low + 1, HISTOGRAM_BINS + 1)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _png(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    _pyplot().close(figure)
    return base64.b64encode(buffer.getvalue()).decode()
