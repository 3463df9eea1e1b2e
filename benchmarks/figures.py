"""How the benchmarks show what they measured."""

import json
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

Figures = dict[str, float | int | None]


def show(figures: Figures, targets: Mapping[str, str]) -> None:
    """Prints the figures beside their targets and, as the last line, as one JSON object."""
    table = Table("figure", "measured", "target")
    for name, value in figures.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value), targets.get(name, ""))
    Console(width=100).print(table)
    print(json.dumps(figures))
