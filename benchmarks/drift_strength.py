"""What the drift benchmark compares the monitor with: the true strength of a drift, and plain thresholds."""

from datetime import datetime

import pyarrow as pa
from scipy.stats import ks_2samp

from benchmarks.monitored_world import ServedWorld, area
from feedrank import schema
from feedrank.config import MonitoringConfig
from feedrank.config.feed import Feed
from feedrank.monitoring.drift import cramers_v
from feedrank.monitoring.performance import Floats
from feedrank.monitoring.psi import score_bins, stability
from feedrank.tables import US_PER_DAY, timestamps_us

PLAIN_KS, PLAIN_PSI = 0.1, 0.2


def margin(world: ServedWorld, clean: ServedWorld, *, day: datetime, config: MonitoringConfig) -> float:
    """Largest ratio of effect to threshold between a day with the drift and the same day without."""
    drift, performance = config.drift, config.performance
    (rows, scores), (clean_rows, clean_scores) = day_of(world, day), day_of(clean, day)
    effects = []
    for name, form in Feed().features.items():
        now, before = rows[name].to_numpy(), clean_rows[name].to_numpy()
        if form.categorical:
            effects.append(cramers_v(before, now) / drift.cramers_v_threshold)
        else:
            effects.append(ks_2samp(now, before).statistic / drift.ks_threshold)
    effects.append(stability(scores, reference=score_bins(clean_scores, bins=10)).index / drift.psi_threshold)
    labels, clean_labels = rows[schema.TARGET].to_numpy(), clean_rows[schema.TARGET].to_numpy()
    if 0 < labels.sum() < len(labels):
        drop = 1 - area(scores, labels) / area(clean_scores, clean_labels)
        effects.append(drop / performance.max_auc_drop)
    ratio = max(labels.sum() / scores.sum() / (clean_labels.sum() / clean_scores.sum()), 0.01)
    effects.append((max(ratio, 1 / ratio) - 1) / performance.max_calibration_gap)
    return float(max(effects))


def plain_alarm(world: ServedWorld, day: datetime) -> bool:
    """Any KS distance or the PSI of all rows of a day above its threshold, against all training rows."""
    rows, scores = day_of(world, day)
    bins = score_bins(world.test_scores, bins=10)
    return stability(scores, reference=bins).index > PLAIN_PSI or any(
        ks_2samp(world.train[name].to_numpy(), rows[name].to_numpy()).statistic > PLAIN_KS for name in Feed().names
    )


def day_of(world: ServedWorld, day: datetime) -> tuple[pa.Table, Floats]:
    """The served rows of a day, and their scores."""
    times, start_us = timestamps_us(world.served), int(day.timestamp()) * 1_000_000
    inside = (times >= start_us) & (times < start_us + US_PER_DAY)
    return world.served.filter(pa.array(inside)), world.scores[inside]
