"""What forgetting is worth: rankers that count old rows less, before and after users' tastes move.

The feed of `benchmarks.month` in random order, with its taste shift (the choice of items follows a week later). On each
day a ranker is fitted on all rows before it with every configured half-life, as a retraining does, and judged by the
GAUC of the day and the next one; `kept` is the one that a retraining keeps by its validation loss.

    python -m benchmarks.half_life [--seed N]
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.month.feed import Feed
from benchmarks.month.settings import Sizes
from feedrank import schema
from feedrank.config import Config, load_config
from feedrank.config.model import ModelConfig
from feedrank.data.split import hold_out
from feedrank.evaluation.metrics import group_auc
from feedrank.features.offline import compute_features
from feedrank.model.bundle import score_table
from feedrank.model.training import Trained, Trainer, best_of
from feedrank.tables import US_PER_DAY, timestamps_us

DAYS_AFTER_SHIFT = (-4, 3, 8, 11, 15)


def random_feed(sizes: Sizes, *, config: Config) -> pa.Table:
    """The features of all days in random order."""
    feed = Feed(sizes, exports=Path())
    days = [feed.random_day(feed.world, feed.audience, day) for day in range(-sizes.history_days, sizes.days)]
    return compute_features(pa.concat_tables(days).sort_by(schema.TIMESTAMP), feed=config.feed)


def gauc(trained: Trained, rows: pa.Table, *, model: ModelConfig) -> float:
    """Of a ranker on some rows."""
    scores = score_table(trained.arrays, model.model_type, Feed(), rows)
    return group_auc(rows[schema.USER_ID].to_numpy(), rows[schema.TARGET].to_numpy(), scores)[0]


def fitted(rows: pa.Table, *, config: Config) -> Iterator[tuple[Trained, Trained]]:
    """With each half-life: the fit on all rows with the epochs that were best, and the one that was evaluated."""
    least = config.model.evaluation.min_impressions_per_user
    train, validation, _ = hold_out(rows, config=config.promotion.hold_out, min_impressions=least).tables(rows)
    for half_life_days in config.model.training.half_life_days:
        evaluated = Trainer(
            config.model, Feed(), train=train, validation=validation, half_life_days=half_life_days
        ).run()
        model = config.model.with_epochs(evaluated.best_epoch)
        refitted = Trainer(model, Feed(), train=rows, validation=None, half_life_days=half_life_days).run()
        yield refitted, evaluated


def main() -> None:
    """Prints a table and, as the last line, the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=42)
    config, sizes = load_config(), Sizes(seed=parser.parse_args().seed, device_shift=None)
    features = random_feed(sizes, config=config)
    days = timestamps_us(features) // US_PER_DAY
    shift = days[0] + sizes.history_days + sizes.taste_shift
    names = ["all alike" if half is None else f"{half:g} days" for half in config.model.training.half_life_days]
    table = Table("days after the shift", *names, "kept", "half-life kept", title="GAUC by the half-life of rows")
    line: dict[str, dict[str, float]] = {}
    for after in track(DAYS_AFTER_SHIFT, console=Console(stderr=True)):
        judged = features.filter(pa.array(np.isin(days, (shift + after, shift + after + 1))))
        runs = list(fitted(features.filter(pa.array(days < shift + after)), config=config))
        gaucs = [round(gauc(trained, judged, model=config.model), 4) for trained, _ in runs]
        kept = best_of(evaluated for _, evaluated in runs)
        best = config.model.training.half_life_days.index(kept.half_life_days)
        table.add_row(str(after), *(f"{value:.3f}" for value in (*gaucs, gaucs[best])), names[best])
        line[str(after)] = dict(zip(names, gaucs, strict=True)) | {"kept": gaucs[best]}
    Console(width=100).print(table)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
