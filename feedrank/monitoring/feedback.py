"""Feedback joined with the predictions it belongs to, by user, item and time.

Each interaction is an impression: an item that was shown. It belongs to the latest prediction of that user and item
before it, if that is at most the attribution window old. A prediction without feedback was not shown, so it has no
label; it is not a missing click.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from feedrank import schema
from feedrank.config.monitoring import WindowConfig
from feedrank.monitoring.recent import ARRIVAL
from feedrank.monitoring.results import FeedbackCounts
from feedrank.tables import timestamps_us

LABELS = (schema.CLICK, schema.LIKE, schema.SHARE)
_MOMENT, _ROW, _PAIR = "moment_us", "row", [schema.USER_ID, schema.ITEM_ID]


@dataclass(frozen=True)
class Joined:
    """Predictions that were shown, with their labels; arrays of shape [shown]."""

    rows: NDArray[np.int64]
    """Indices into the predictions, ascending."""
    click: NDArray[np.int8]
    like: NDArray[np.int8]
    share: NDArray[np.int8]
    counts: FeedbackCounts

    def without_first(self, rows: int) -> "Joined":
        """The same for predictions without their first `rows` rows."""
        kept = self.rows >= rows
        return Joined(self.rows[kept] - rows, self.click[kept], self.like[kept], self.share[kept], self.counts)


def join_feedback(predictions: pa.Table, feedback: pa.Table, *, config: WindowConfig) -> Joined:
    """Joins feedback (`schema.INTERACTIONS`) in time order with predictions (`rows.FLAT_LOG`) by arrival.

    Several impressions of one prediction count as one; it is clicked when any of them was.
    """
    unique = without_duplicates(feedback)
    pairs = _attribute(predictions, unique, skew_us=int(config.clock_skew_seconds * 1e6))
    orphan = pairs[_ROW].isna().to_numpy()
    late = ~orphan & (pairs["lag_us"].to_numpy() > config.attribution_minutes * 60e6)
    joined = pairs[~orphan & ~late]
    labels = joined.astype({_ROW: np.int64}).groupby(_ROW)[list(LABELS)].max()
    click, like, share = (labels[name].to_numpy().astype(np.int8) for name in LABELS)
    counts = FeedbackCounts(
        rows=feedback.num_rows,
        joined=len(joined),
        late=int(late.sum()),
        duplicate=feedback.num_rows - unique.num_rows,
        orphan=int(orphan.sum()),
        invalid=count_invalid(unique),
    )
    return Joined(rows=labels.index.to_numpy(), click=click, like=like, share=share, counts=counts)


def without_duplicates(feedback: pa.Table) -> pa.Table:
    """The feedback without repeated ids, and without repetitions of user, item and time."""
    frame = feedback.select([schema.INTERACTION_ID, *_PAIR, schema.TIMESTAMP]).to_pandas()
    repeated = frame.duplicated(schema.INTERACTION_ID) | frame.duplicated([*_PAIR, schema.TIMESTAMP])
    return feedback.filter(pa.array(~repeated.to_numpy()))


def count_invalid(feedback: pa.Table) -> int:
    """Rows that can't be true: a dwell time outside of its range, or a like or share without a click."""
    dwell = feedback[schema.DWELL_TIME].to_numpy()
    click, like, share = (feedback[name].to_numpy() for name in LABELS)
    impossible_dwell = ~((dwell >= 0) & (dwell <= schema.MAX_DWELL_SECONDS))
    return int((impossible_dwell | (np.maximum(like, share) > click)).sum())


def _attribute(predictions: pa.Table, feedback: pa.Table, *, skew_us: int) -> pd.DataFrame:
    """Each feedback row with the row and the age of the latest prediction before it (NaN without one)."""
    left = feedback.select([*_PAIR, *LABELS]).to_pandas()
    left[_MOMENT] = timestamps_us(feedback) + skew_us
    right = predictions.select(_PAIR).to_pandas()
    right["predicted_us"] = right[_MOMENT] = timestamps_us(predictions, column=ARRIVAL)
    right[_ROW] = np.arange(len(right))
    pairs = pd.merge_asof(left, right, on=_MOMENT, by=_PAIR, direction="backward")
    pairs["lag_us"] = pairs[_MOMENT] - skew_us - pairs["predicted_us"]
    return pairs
