"""The history of all verdicts, one row per window and signal (Parquet), and the alarms that follow from it.

One flagged window is a hint; K flagged windows among a signal's last M raise an alarm. A signal that waits for feedback
has no row of a window until it is judged, so its last M windows are older ones than those of other signals. The
history is kept per model version, so a new champion starts with a clean slate.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from feedrank import schema
from feedrank.config.monitoring import DriftConfig
from feedrank.errors import DataError
from feedrank.monitoring.arrivals import NO_FEEDBACK, FeedbackOfTime
from feedrank.monitoring.results import FLAGGED, NEED_FEEDBACK, NOT_JUDGED, Alarm, SignalKind, WindowResult
from feedrank.storage import new_file
from feedrank.tables import COMPRESSION, conformed, read_parquet

FILE = "history.parquet"
WINDOW_START, WINDOW_END, NAME, KIND, STATUS = "window_start", "window_end", "name", "kind", "status"
FEEDBACK_DUE, FEEDBACK_ROWS, FEEDBACK_CLICKS = "feedback_due", "feedback_rows", "feedback_clicks"
LASTING = timedelta(days=7)
"""A changed level that has lasted so long is the usual one."""
HISTORY = pa.schema(
    [
        pa.field(WINDOW_START, schema.TIMESTAMP_TYPE),
        pa.field(WINDOW_END, schema.TIMESTAMP_TYPE),
        pa.field(schema.MODEL_VERSION, pa.string()),
        pa.field(NAME, pa.string()),
        pa.field(KIND, pa.string()),
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
        pa.field("judged_at", schema.TIMESTAMP_TYPE),
        pa.field(FEEDBACK_DUE, schema.TIMESTAMP_TYPE),
        pa.field(FEEDBACK_ROWS, pa.int64()),
        pa.field(FEEDBACK_CLICKS, pa.int64()),
    ]
)
ADDED_LATER = ("judged_at", FEEDBACK_DUE, FEEDBACK_ROWS, FEEDBACK_CLICKS)
"""Columns that a history of an earlier release lacks; its windows have no values in them."""


@dataclass(frozen=True)
class JudgedWindow:
    """What is known of a window that was judged."""

    end: datetime
    feedback_due: datetime | None
    feedback: FeedbackOfTime | None
    """What the latest verdict knew; None while it waits for feedback."""


@dataclass(frozen=True)
class LatestVerdicts:
    """What was said of the latest window in which signals of a kind were judged."""

    end: datetime
    statuses: set[str]


def read_history(path: Path) -> pa.Table:
    """The history (`HISTORY`), empty before the first run.

    Raises:
        DataError: the file is damaged or of another schema.
    """
    if not path.exists():
        return HISTORY.empty_table()
    try:
        found = read_parquet(path)
        for name in ADDED_LATER:
            if name not in found.column_names:
                found = found.append_column(name, pa.nulls(found.num_rows, HISTORY.field(name).type))
        return conformed(found, HISTORY, file=path)
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


def add_window(
    history: pa.Table,
    window: WindowResult,
    *,
    judged_at: datetime,
    feedback: FeedbackOfTime = NO_FEEDBACK,
    only: Collection[str] | None = None,
) -> pa.Table:
    """The history with a window's verdicts, or `only` those on some signals; they replace earlier ones.

    Signals that are not judged yet are left out. `feedback` of the window's time is what the verdicts knew.
    """
    judged = [
        signal for signal in window.signals if signal.status not in NOT_JUDGED and (only is None or signal.name in only)
    ]
    common = {
        WINDOW_START: window.start,
        WINDOW_END: window.end,
        schema.MODEL_VERSION: window.model_version,
        "judged_at": judged_at,
        FEEDBACK_DUE: window.feedback_due,
        FEEDBACK_ROWS: feedback.rows,
        FEEDBACK_CLICKS: feedback.clicks,
    }
    frame = history.to_pandas()
    replaced = (
        (frame[WINDOW_END] == window.end)
        & (frame[schema.MODEL_VERSION] == window.model_version)
        & frame[NAME].isin([signal.name for signal in judged])
    )
    rows = [signal.model_dump(include=set(HISTORY.names)) | common for signal in judged]
    kept = history.filter(pa.array(~replaced.to_numpy(dtype=bool)))
    return pa.concat_tables([kept, pa.Table.from_pylist(rows, schema=HISTORY)])


def judged_windows(history: pa.Table, *, model_version: str) -> list[JudgedWindow]:
    """The windows of a model version in order of their end."""
    return [
        JudgedWindow(
            end=rows[WINDOW_END].iloc[0].to_pydatetime(),
            feedback_due=None if rows[FEEDBACK_DUE].isna().all() else rows[FEEDBACK_DUE].max().to_pydatetime(),
            feedback=_feedback_seen(rows[rows[KIND].isin(NEED_FEEDBACK)]),
        )
        for _, rows in _of_version(history, model_version).groupby(WINDOW_END)
    ]


def _feedback_seen(rows: pd.DataFrame) -> FeedbackOfTime | None:
    if rows.empty:
        return None
    seen = rows.fillna({FEEDBACK_ROWS: 0, FEEDBACK_CLICKS: 0}).iloc[-1]
    return FeedbackOfTime(rows=int(seen[FEEDBACK_ROWS]), clicks=int(seen[FEEDBACK_CLICKS]))


def latest_verdicts(history: pa.Table, *, model_version: str, kind: SignalKind) -> LatestVerdicts | None:
    """The latest verdicts on signals of a kind; None before there are any."""
    frame = _of_version(history, model_version)
    rows = frame[frame[KIND] == kind]
    if rows.empty:
        return None
    end = rows[WINDOW_END].max()
    return LatestVerdicts(end.to_pydatetime(), set(rows.loc[rows[WINDOW_END] == end, STATUS]))


def signals_of(history: pa.Table, *, model_version: str, end: datetime) -> set[str]:
    """Names of the signals of a window that were judged."""
    frame = _of_version(history, model_version)
    return set(frame.loc[frame[WINDOW_END] == end, NAME])


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


def alarms(
    history: pa.Table,
    *,
    before: pa.Table,
    model_version: str,
    ends: Sequence[datetime],
    config: DriftConfig,
    keep: timedelta,
) -> list[Alarm]:
    """Signals that reached K flagged of their last M windows in a run that judged the windows that end at `ends`.

    The latest state of each; `active` when it holds for the signal's latest window. An alarm that waits for feedback of
    newer windows stays, but not after `keep` without any verdict. A window that is over and was judged again is told
    only if the history `before` the run did not have its alarm.
    """
    told = {(name, end) for name, rows in _signals(before, model_version) for end in _raised(rows, ends, config=config)}
    found: list[Alarm] = []
    for name, rows in _signals(history, model_version):
        latest = rows[WINDOW_END].iloc[-1]
        raised = _raised(rows, [*ends, latest], config=config)
        fresh = [end for end in raised if end == latest or (name, end) not in told]
        if fresh and (fresh[-1] < latest or latest > max(ends) - keep):
            place = int(np.flatnonzero(rows[WINDOW_END] == fresh[-1])[0])
            found.append(_alarm(rows, place, config=config))
    return found


def _signals(history: pa.Table, model_version: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The windows of each signal by time."""
    for name, rows in _of_version(history, model_version).sort_values(WINDOW_END).groupby(NAME, sort=False):
        yield str(name), rows


def _raised(rows: pd.DataFrame, ends: Sequence[datetime], *, config: DriftConfig) -> list[pd.Timestamp]:
    """Those of the ends, in order, by which a signal has K flagged of its last M windows."""
    places = np.flatnonzero(rows[WINDOW_END].isin(list(ends)))
    return [rows[WINDOW_END].iloc[place] for place in places if _flagged(rows, place, config=config).sum() >= config.k]


def _flagged(rows: pd.DataFrame, place: int, *, config: DriftConfig) -> pd.Series:
    """Which of the last M windows of a signal, up to one of them, are flagged."""
    return rows[STATUS].iloc[max(0, place - config.m + 1) : place + 1].isin(FLAGGED)


def _alarm(rows: pd.DataFrame, place: int, *, config: DriftConfig) -> Alarm:
    flagged = _flagged(rows, place, config=config)
    latest = rows.loc[flagged[flagged].index[-1]]
    first = place
    while first and _flagged(rows, first, config=config).sum() >= config.k:
        first -= 1
    begin = _flagged(rows, first + 1, config=config) if first < place else flagged
    return Alarm(
        signal=latest[NAME],
        kind=latest[KIND],
        active=place == len(rows) - 1,
        window_end=latest[WINDOW_END].to_pydatetime(),
        flagged_windows=int(flagged.sum()),
        since=rows.loc[begin[begin].index[0], WINDOW_END].to_pydatetime(),
        reason=latest["reason"],
    )


def _of_version(history: pa.Table, model_version: str) -> pd.DataFrame:
    frame = history.to_pandas()
    return frame[frame[schema.MODEL_VERSION] == model_version]
