"""What several benchmarks start from: generated interactions at a chosen size, and their features."""

from pathlib import Path

import pyarrow.parquet as pq

from feedrank import stages
from feedrank.config import Config, load_config
from feedrank.config.data import GeneratorConfig
from feedrank.data.generator import generate

DEFAULT_ROWS = 1_000_000


def sized_config(rows: int, *, seed: int = 42) -> Config:
    """The configuration at another size; above the default, users and items grow with the rows."""
    default = load_config()
    scale = max(1.0, rows / DEFAULT_ROWS)
    generator = default.data.generator.model_copy(
        update={
            "num_users": round(default.data.generator.num_users * scale),
            "num_items": round(default.data.generator.num_items * scale),
            "num_interactions": rows,
            "seed": seed,
        }
    )
    return default.model_copy(update={"data": default.data.model_copy(update={"generator": generator})})


def write_files(directory: Path, *, config: GeneratorConfig) -> None:
    """Writes interactions as flat Parquet files, as somebody else's export would be."""
    directory.mkdir()
    for index, table in enumerate(generate(config)):
        pq.write_table(table, directory / f"{index}.parquet")


def write_features(directory: Path, *, config: Config) -> Path:
    """Generates interactions below a folder and computes their features; returns the features' folder."""
    interactions = directory / "interactions"
    stages.generate_interactions(interactions, config=config.data.generator)
    stages.build_features(interactions, output=directory / "features", config=config)
    return directory / "features"
