"""What the loop is worth: the closed-loop simulation at the demo's size, or `--small`, with three seeds.

    python -m benchmarks.loop [--small] [--output FOLDER]

Prints a table of policies for each seed and, as the last line, one JSON object: medians, and of the recovered share the
range, too, for one seed says little.
"""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rich.console import Console

from feedrank.config import load_config
from feedrank.config.simulation import AudienceConfig, SimulationConfig
from feedrank.simulation.page import alarms_sentence, headline, save, summary_table
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
SEEDS = (42, 43, 44)


def figures(results: Sequence[SimulationResult]) -> dict[str, float | int]:
    """The JSON object, of results that have a recovery and a rollback."""
    recovered = [result.recovery.recovered_share for result in results if result.recovery is not None]
    frozen = [result.recovery.frozen_share for result in results if result.recovery is not None]
    rollbacks = [result.rollback for result in results if result.rollback is not None]
    return {
        "recovered_share": round(median(recovered), 4),
        "recovered_share_min": round(min(recovered), 4),
        "recovered_share_max": round(max(recovered), 4),
        "frozen_share": round(median(frozen), 4),
        "calm_alarms": sum(len(result.alarms[0]) for result in results),
        "seconds": round(median(result.seconds for result in results), 1),
        "requests": sum(result.requests for result in results),
        "requests_per_second": round(median(result.requests / result.request_seconds for result in results), 1),
        "promotions": median(sum(event.kind == "promotion" for event in result.events) for result in results),
        "rollback_seconds": round(max(rollback.rollback_seconds for rollback in rollbacks), 2),
        "rollback_failed_requests": sum(rollback.failed_requests for rollback in rollbacks),
    }


def main() -> None:
    """Runs the simulations and prints what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a size for a first look")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark-loop"))
    arguments = parser.parse_args()
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    console, config = Console(), load_config()
    settings, results = SMALL if arguments.small else config.simulation, []
    for seed in SEEDS:
        console.rule(f"seed {seed}")
        folder = arguments.output / f"seed-{seed}"
        seeded = settings.model_copy(update={"seed": seed})
        simulation = Simulation(seeded, config, folder, say=lambda text: console.print(text, highlight=False))
        results.append(simulation.play(second_act=True))
        console.print(summary_table(results[-1]))
        console.print(f"{headline(results[-1])} {alarms_sentence(results[-1])}", highlight=False)
        console.print(f"report: {save(results[-1], folder)}", highlight=False)
    print(json.dumps(figures(results)))


if __name__ == "__main__":
    main()
