"""Figures of the whole batch that are wrong, or odd, whatever the days before it were."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow.compute as pc

from feedrank import schema
from feedrank.config.validation import ValidationConfig
from feedrank.data import calendar
from feedrank.data.ingest_facts import IngestFacts
from feedrank.data.validation.batch import Batch, Ints

US_PER_HOUR = 3_600_000_000
FRESHNESS = "freshness"
FLOOD_FACTOR = 2
"""An id floods a batch only if it has this many times an equal share: among three users a third is nothing special."""
ID_REMEDIES = {
    schema.USER_ID: "let the mapping's user_id name the column that tells users apart",
    schema.ITEM_ID: "let the mapping's item_id name the column that tells items apart",
    schema.TIMESTAMP: "let the mapping's timestamp name the time of the interaction, not that of the export",
}


@dataclass(frozen=True)
class BatchFact:
    """One figure of the whole batch with its limits; None for the value if it can't be evaluated."""

    name: str
    value: float | None
    observed: str
    expected: str
    min_value: float | None = None
    max_value: float | None = None
    severity: Literal["failed", "warning"] = "failed"
    remedy: str = ""


def batch_facts(
    batch: Batch, good: Batch, *, ingested: IngestFacts | None, first_import: bool, config: ValidationConfig
) -> list[BatchFact]:
    """Every figure; those about values are of the good rows, lest one bad cell hide that all others are the same.

    A flood of one user fails a first import only: later each day is judged by its own, and history can't be changed.
    """
    rows = batch.table.num_rows
    return [
        BatchFact("row_count", rows, str(rows), f"at least {config.min_rows} rows", min_value=config.min_rows),
        _freshness(good, config),
        *(_id_varies(name, good, config) for name in ID_REMEDIES),
        _label_varies(good, config),
        _device_varies(good, ingested, config),
        *_one_hour_or_dwell(good, config),
        *(_not_on_every_click(name, good, config) for name in (schema.LIKE, schema.SHARE)),
        *_floods(good, config, user_severity="failed" if first_import else "warning"),
    ]


def _freshness(good: Batch, config: ValidationConfig) -> BatchFact:
    if config.max_age_hours is None or not good.table.num_rows:
        return BatchFact(FRESHNESS, None, "not evaluated", "no limit is configured, or no row is good")
    age = (good.limits.now_us - int(good.times.max())) / US_PER_HOUR
    expected = f"newest row at most {config.max_age_hours:g} h old"
    return BatchFact(FRESHNESS, age, f"{age:g} h", expected, max_value=config.max_age_hours)


def _varies(
    column: str,
    values: Ints,
    constant: str,
    expected: str,
    *,
    evaluated: bool,
    remedy: str,
    severity: Literal["failed", "warning"] = "failed",
) -> BatchFact:
    varies = evaluated and bool(np.ptp(values) > 0)
    return BatchFact(
        f"{column}_varies",
        float(varies) if evaluated else None,
        "varies" if varies else constant if evaluated else "not evaluated",
        expected,
        min_value=1,
        severity=severity,
        remedy=remedy,
    )


def _enough(good: Batch, config: ValidationConfig) -> bool:
    return good.table.num_rows >= config.min_rows_to_vary


def _several(config: ValidationConfig) -> str:
    return f"more than one value in {config.min_rows_to_vary} rows or more"


def _id_varies(name: str, good: Batch, config: ValidationConfig) -> BatchFact:
    return _varies(
        name,
        good.ints(name),
        "constant",
        _several(config),
        evaluated=_enough(good, config),
        remedy=ID_REMEDIES[name],
    )


def _label_varies(good: Batch, config: ValidationConfig) -> BatchFact:
    """Of one class no model can be trained, whatever the number of rows; in a few rows it may be chance."""
    rows = good.table.num_rows
    return _varies(
        schema.CLICK,
        good.clicks,
        f"every click is {good.clicks[0]}" if rows else "",
        "clicks and non-clicks (no model can be trained without both)",
        evaluated=rows > 0,
        remedy="look at the mapping's click ('from', 'at_least', 'values'), and whether the export holds rows without "
        "a click, too",
        severity="failed" if _enough(good, config) else "warning",
    )


def _device_varies(good: Batch, ingested: IngestFacts | None, config: ValidationConfig) -> BatchFact:
    """A table that no ingestion wrote says its devices itself."""
    if ingested is not None and not ingested.from_files(schema.DEVICE):
        return BatchFact("device_varies", None, "filled in by the mapping", _several(config))
    return _varies(
        schema.DEVICE,
        good.devices,
        f"every row says {good.table[schema.DEVICE][0]}" if good.table.num_rows else "",
        _several(config),
        evaluated=_enough(good, config),
        remedy="let the mapping's device name the right column; a feed that truly has one device says so with "
        "'device: {constant: …}' in the mapping",
    )


def _one_hour_or_dwell(good: Batch, config: ValidationConfig) -> Iterator[BatchFact]:
    """Columns that no model learns anything from, but can do without."""
    days = int(np.ptp(good.days)) if good.table.num_rows else 0
    yield _varies(
        schema.HOUR_OF_DAY,
        calendar.hours(good.times),
        "every row is of the same hour",
        "more than one hour of the day over several days",
        evaluated=_enough(good, config) and days > 0,
        remedy="the timestamps may be dates without a time",
        severity="warning",
    )
    dwell = good.dwell[good.clicks == 1]
    yield _varies(
        schema.DWELL_TIME,
        dwell,
        f"{dwell[0]:g} s on every click" if len(dwell) else "",
        "more than one value on clicks, or always 0 where it isn't measured",
        evaluated=len(dwell) >= config.min_rows_to_vary and bool(dwell.any()),
        remedy="let the mapping's dwell_time name the right column",
        severity="warning",
    )


def _not_on_every_click(name: str, good: Batch, config: ValidationConfig) -> BatchFact:
    labels = good.ints(name)[good.clicks == 1]
    evaluated = len(labels) >= config.min_rows_to_vary
    every = evaluated and bool(labels.all())
    return BatchFact(
        f"{name}_differs_from_click",
        float(not every) if evaluated else None,
        f"every click has a {name}" if every else "differs" if evaluated else "not evaluated",
        f"clicks without a {name}",
        min_value=1,
        severity="warning",
        remedy=f"look at the mapping's {name}",
    )


def _floods(
    good: Batch, config: ValidationConfig, *, user_severity: Literal["failed", "warning"]
) -> Iterator[BatchFact]:
    yield _flood(
        schema.USER_ID,
        good,
        config.max_user_share,
        config=config,
        severity=user_severity,
        remedy="a bot, or one id for everybody who isn't signed in: leave these rows out or give them ids of their "
        "own (of the session); if that is right, raise validation.max_user_share",
    )
    yield _flood(
        schema.ITEM_ID,
        good,
        config.max_item_share,
        config=config,
        severity="warning",
        remedy="look whether the id is a default; a pinned item may be right",
    )


def _flood(
    name: str,
    good: Batch,
    limit: float,
    *,
    config: ValidationConfig,
    severity: Literal["failed", "warning"],
    remedy: str,
) -> BatchFact:
    kind, rule = name.removesuffix("_id"), f"top_{name.removesuffix('_id')}_share"
    expected = f"at most {limit:.0%} of all rows of one {kind}"
    ids = pc.count_distinct(good.table[name]).as_py()
    if not _enough(good, config) or ids < 2:
        return BatchFact(rule, None, "not evaluated", expected)
    top = pc.mode(good.table[name])[0].as_py()
    share = top["count"] / good.table.num_rows
    return BatchFact(
        rule,
        share,
        f"{kind} {top['mode']} has {share:.1%} of all rows",
        expected,
        max_value=max(limit, FLOOD_FACTOR / ids),
        severity=severity,
        remedy=remedy,
    )
