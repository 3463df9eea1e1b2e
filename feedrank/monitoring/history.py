"""The history of all verdicts, one row per window and signal (Parquet), and the alarms that follow from it.

One flagged window is a hint; K flagged windows among the last M raise an alarm. The history is kept per model
version, so a new champion starts with a clean slate.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from feedrank import schema
from feedrank.config.monitoring import DriftConfig
from feedrank.errors import DataError
from feedrank.monitoring.results import FLAGGED, Alarm, WindowResult
from feedrank.storage import new_file
from feedrank.tables import COMPRESSION, read_parquet

FILE = "history.parquet"
WINDOW_START, WINDOW_END, NAME, STATUS = "window_start", "window_end", "name", "status"
LASTING = timedelta(days=7)
"""A changed level that has lasted so long is the usual one."""
HISTORY = pa.schema(
    [
        pa.field(WINDOW_START, schema.TIMESTAMP_TYPE),
        pa.field(WINDOW_END, schema.TIMESTAMP_TYPE),
        pa.field(schema.MODEL_VERSION, pa.string()),
        pa.field(NAME, pa.string()),
        pa.field("kind", pa.string()),
        pa.field("test", pa.string()),
        pa.field("statistic", pa.float64()),
        pa.field("p_value", pa.float64()),
        pa.field("effect", pa.float64()),
        pa.field("threshold", pa.float64()),
        pa.field("missing_share", pa.float64()),
        pa.field("rows", pa.int64()),
        pa.field("reference_rows", pa.int64()),
        pa.field(STATUS, pa.string()),
        pa.field("reason", pa.string()),
    ]
)


def read_history(path: Path) -> pa.Table:
    """The history (`HISTORY`), empty before the first run.

    Raises:
        DataError: the file is damaged or of another schema.
    """
    if not path.exists():
        return HISTORY.empty_table()
    try:
        return read_parquet(path, columns=HISTORY.names).cast(HISTORY)
    except (DataError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{path}: the monitoring history can't be read ({error}); move it away to begin anew"
        ) from error


def write_history(history: pa.Table, path: Path, *, keep_days: int) -> None:
    """Replaces the history; windows more than `keep_days` before the latest leave it."""
    frame = history.to_pandas()
    if len(frame):
        frame = frame[frame[WINDOW_END] > frame[WINDOW_END].max() - timedelta(days=keep_days)]
    table = pa.Table.from_pandas(frame, schema=HISTORY, preserve_index=False)
    with new_file(path) as fresh:
        pq.write_table(table, fresh, compression=COMPRESSION)


def add_window(history: pa.Table, window: WindowResult) -> pa.Table:
    """The history with a window's signals; they replace those of an earlier run on the same window."""
    frame = history.to_pandas()
    same = (frame[WINDOW_END] == window.end) & (frame[schema.MODEL_VERSION] == window.model_version)
    rows = [
        signal.model_dump(include=set(HISTORY.names))
        | {WINDOW_START: window.start, WINDOW_END: window.end, schema.MODEL_VERSION: window.model_version}
        for signal in window.signals
    ]
    kept = history.filter(pa.array(~same.to_numpy(dtype=bool)))
    return pa.concat_tables([kept, pa.Table.from_pylist(rows, schema=HISTORY)])


def last_window_end(history: pa.Table, *, model_version: str) -> datetime | None:
    """End of the latest window of a model version."""
    ends = _of_version(history, model_version)[WINDOW_END]
    return None if ends.empty else ends.max().to_pydatetime()


def usual_value(history: pa.Table, name: str, *, model_version: str, before: datetime, windows: int) -> float | None:
    """What a signal usually is: its median over the last unflagged windows that ended before a moment.

    What is flagged must not become usual at once, but neither may it be flagged for ever: when all windows of the last
    `LASTING` were flagged, the median of those above zero is what is usual now, and older windows are forgotten.
    """
    frame = _of_version(history, model_version)
    earlier = frame[(frame[NAME] == name) & (frame[WINDOW_END] < before)].dropna(subset="statistic")
    earlier = earlier.sort_values(WINDOW_END)
    unflagged = earlier[~earlier[STATUS].isin(FLAGGED)]
    since = earlier if unflagged.empty else earlier[earlier[WINDOW_END] > unflagged[WINDOW_END].iloc[-1]]
    changed = since[since["statistic"] > 0]
    lasting = not changed.empty and before - changed[WINDOW_END].iloc[0] >= LASTING
    recent = unflagged[unflagged[WINDOW_END] > before - LASTING]
    values = changed if lasting else unflagged if recent.empty else recent
    return None if values.empty else float(values["statistic"].tail(windows).median())


def alarms(history: pa.Table, *, model_version: str, ends: Sequence[datetime], config: DriftConfig) -> list[Alarm]:
    """Signals that reached K flagged of M windows at one of the window ends `ends`; latest state of each."""
    frame = _of_version(history, model_version).sort_values(WINDOW_END)
    windows = sorted(frame[WINDOW_END].unique())
    found: dict[str, Alarm] = {}
    for end in ends:
        last = [window for window in windows if window <= pd.Timestamp(end)][-config.m :]
        flagged = frame[frame[WINDOW_END].isin(last) & frame[STATUS].isin(FLAGGED)]
        for name, rows in flagged.groupby(NAME, sort=False):
            if len(rows) >= config.k:
                latest = rows.iloc[-1]
                found[str(name)] = Alarm(
                    signal=str(name),
                    kind=latest["kind"],
                    active=end == ends[-1],
                    window_end=latest[WINDOW_END].to_pydatetime(),
                    flagged_windows=len(rows),
                    reason=latest["reason"],
                )
    return list(found.values())


def _of_version(history: pa.Table, model_version: str) -> pd.DataFrame:
    frame = history.to_pandas()
    return frame[frame[schema.MODEL_VERSION] == model_version]
