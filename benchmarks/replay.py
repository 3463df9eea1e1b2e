"""Measures on a feed of one's own what a retraining's replay of older rows is worth.

`recent` learns from the recent days only, `replay` from older rows, too. Both are judged on the same held-out latest
rows, over a few seeds; `spread` is the largest difference in GAUC between two seeds of one variant.

    python -m benchmarks.replay ml-100k.inter --mapping config/mappings/recbole.yaml
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from benchmarks.small_data import small_model
from feedrank import schema
from feedrank.config import load_config
from feedrank.config.feed import Feed
from feedrank.config.model import ModelConfig
from feedrank.data.ingest import ingest
from feedrank.data.split import hold_out
from feedrank.evaluation.metrics import group_auc, log_loss, roc_auc
from feedrank.features.offline import compute_features
from feedrank.model.bundle import USER_IDS, score_table
from feedrank.model.training import Trainer
from feedrank.tables import read_partitioned, timestamps_us

RECENT_SHARE = 0.4
"""Of the feed's days; a retraining's 90 days would be all of a small data set."""
SEEDS = (1, 2, 3)
TRAINING = {"batch_size": 1024, "epochs": 20}
FIGURES = ("gauc", "auc", "log_loss", "unknown_users", "spread")
Variant = Callable[[pa.Table, int], pa.Table]


def recent_only(train: pa.Table, first_recent: int) -> pa.Table:
    """The recent rows."""
    return train.slice(first_recent)


def with_replay(train: pa.Table, _: int) -> pa.Table:
    """All rows."""
    return train


VARIANTS: dict[str, Variant] = {"recent": recent_only, "replay": with_replay}


def feature_table(file: str, *, mapping: Path) -> pa.Table:
    """The features of a file's interactions."""
    config = load_config()
    with tempfile.TemporaryDirectory() as folder:
        ingest([file], output=Path(folder) / "interactions", mapping=mapping, config=config.data.ingest)
        return compute_features(read_partitioned(Path(folder) / "interactions"), feed=config.feed)


def judged(features: pa.Table, variant: Variant, *, model: ModelConfig) -> dict[str, float]:
    """GAUC, AUC and log loss on the held-out rows of a ranker that learnt from a variant's rows."""
    needs = load_config().promotion.hold_out
    least = load_config().model.evaluation.min_impressions_per_user
    train, validation, test = hold_out(features, config=needs, min_impressions=least).tables(features)
    times = timestamps_us(train)
    first_recent = int(np.searchsorted(times, times[-1] - RECENT_SHARE * (times[-1] - times[0])))
    arrays = Trainer(model, Feed(), train=variant(train, first_recent), validation=validation).run().arrays
    users, targets = test[schema.USER_ID].to_numpy(), test[schema.TARGET].to_numpy()
    scores = score_table(arrays, model.model_type, Feed(), test)
    return {
        "gauc": group_auc(users, targets, scores)[0],
        "auc": roc_auc(targets, scores),
        "log_loss": log_loss(targets, scores),
        "unknown_users": float(np.mean(~np.isin(users, arrays[USER_IDS]))),
    }


def main() -> None:
    """Prints a table and, as the last line, the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="interactions")
    parser.add_argument("--mapping", type=Path, required=True, help="how their columns map to ours")
    arguments = parser.parse_args()
    features = feature_table(arguments.file, mapping=arguments.mapping)
    table = Table("learns from", *FIGURES, title=f"{features.num_rows:,} rows, mean of {len(SEEDS)} seeds")
    line: dict[str, dict[str, float]] = {}
    for name, variant in VARIANTS.items():
        runs = [judged(features, variant, model=small_model(training=TRAINING | {"seed": seed})) for seed in SEEDS]
        gaucs = [run["gauc"] for run in runs]
        line[name] = {figure: round(float(np.mean([run[figure] for run in runs])), 4) for figure in FIGURES[:-1]}
        line[name]["spread"] = round(max(gaucs) - min(gaucs), 4)
        table.add_row(name, *(f"{line[name][figure]:.4f}" for figure in FIGURES))
    Console(width=100).print(table)
    print(json.dumps({"rows": features.num_rows, **line}))


if __name__ == "__main__":
    main()
