"""What the loop is worth: the closed-loop simulation at the demo's size, or `--small`.

    python -m benchmarks.loop [--small] [--output FOLDER]

Prints a table of policies and, as the last line, one JSON object.
"""

import argparse
import json
import logging
from pathlib import Path

from rich.console import Console

from feedrank.config import load_config
from feedrank.config.simulation import AudienceConfig, SimulationConfig
from feedrank.simulation.page import headline, save, summary_table
from feedrank.simulation.results import SimulationResult
from feedrank.simulation.run import Simulation

SMALL = SimulationConfig(
    num_users=500,
    num_items=800,
    history_days=14,
    calm_days=2,
    shifted_days=12,
    judged_days=2,
    policies=("frozen", "loop", "informed"),
    audience=AudienceConfig(visits_per_day=400, candidates=32),
)


def figures(result: SimulationResult) -> dict[str, float | int | None]:
    """The JSON object."""
    recovery, rollback = result.recovery, result.rollback
    return {
        "recovered_share": None if recovery is None else round(recovery.recovered_share, 4),
        "frozen_share": None if recovery is None else round(recovery.frozen_share, 4),
        "seconds": round(result.seconds, 1),
        "requests": result.requests,
        "requests_per_second": round(result.requests / result.request_seconds, 1),
        "promotions": sum(event.kind == "promotion" for event in result.events),
        "rollback_seconds": None if rollback is None else round(rollback.rollback_seconds, 2),
        "rollback_failed_requests": None if rollback is None else rollback.failed_requests,
    }


def main() -> None:
    """Runs the simulation and prints what it found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a size for a first look")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark-loop"))
    arguments = parser.parse_args()
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    console, config = Console(), load_config()
    settings = SMALL if arguments.small else config.simulation
    simulation = Simulation(settings, config, arguments.output, say=lambda text: console.print(text, highlight=False))
    result = simulation.play(second_act=True)
    console.print(summary_table(result))
    console.print(headline(result), highlight=False)
    console.print(f"report: {save(result, arguments.output)}", highlight=False)
    print(json.dumps(figures(result)))


if __name__ == "__main__":
    main()
