"""What a declaration means and costs, feature by feature, for the person who writes it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feedrank.config.feed import Feed
from feedrank.features.aggregates import US_PER_DAY, Entity
from feedrank.features.forms import FORMS, Form
from feedrank.features.offline import compute_features
from feedrank.tables import timestamps_us

BYTES_OF_AGGREGATE = 8


@dataclass(frozen=True)
class Explanation:
    """One feature."""

    name: str
    declared: str
    """As in YAML."""
    state: str
    """What is kept for it between the nights."""
    online: str
    """When its value is computed for a request."""
    inputs: int
    """Of the network."""
    values: str
    """Least, median and greatest of some rows, and how many are 0; "" without rows."""


def explain(feed: Feed, interactions: pa.Table | None) -> Iterator[Explanation]:
    """All features of a feed, with their values on the latest day of some interactions."""
    rows = None if interactions is None or not interactions.num_rows else _latest_day(interactions, feed)
    for name, form in feed.features.items():
        yield Explanation(
            name=name,
            declared=_declared(form),
            state=_state(form),
            online=_online(form),
            inputs=form.width,
            values="" if rows is None else _values(rows[name].to_numpy().astype(np.float64)),
        )


def _latest_day(interactions: pa.Table, feed: Feed) -> pa.Table:
    features = compute_features(interactions, feed=feed)
    days = timestamps_us(features) // US_PER_DAY
    return features.filter(pa.array(days == days[-1]))


def _declared(form: Form) -> str:
    given = form.model_dump(exclude_defaults=True)
    keys = sorted(given.items(), key=lambda item: (item[0] not in FORMS, item[0] != "per"))
    return f"{{{', '.join(f'{key}: {_text(value)}' for key, value in keys)}}}"


def _text(value: object) -> str:
    return f"[{', '.join(value)}]" if isinstance(value, tuple) else str(value)


def _state(form: Form) -> str:
    own = [aggregate for aggregate in form.aggregates if aggregate.entity is not Entity.ALL]
    return f"{len(own) * BYTES_OF_AGGREGATE} B per {form.entity.value.replace('_', '-')}" if own else "nothing"


def _online(form: Form) -> str:
    if form.entity is Entity.ALL:
        return "of the request"
    if form.entity is Entity.USER_ITEM:
        return "each item that the user has had"
    if not form.clocked:
        return "at load"
    return "once a request" if form.entity is Entity.USER else "each item of a request"


def _values(values: NDArray[np.float64]) -> str:
    low, median, high = np.quantile(values, [0.0, 0.5, 1.0])
    return f"{low:.4g} … {median:.4g} … {high:.4g}, {np.mean(values == 0):.0%} are 0"
