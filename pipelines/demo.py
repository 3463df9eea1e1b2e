"""`make demo`, in three acts: the default size through the pipelines; the champion serves real traffic; and in a
smaller world, whose users' taste shifts, the loop heals the ranker. One page of figures at the end."""

import shutil
import time
from pathlib import Path

from pydantic import BaseModel
from rich.table import Table

from feedrank import stages, storage
from feedrank.cli.console import console
from feedrank.cli.model import evaluation_table
from feedrank.config import load_config
from feedrank.evaluation.evaluate import Evaluation
from feedrank.registry import CHAMPION, Registry
from feedrank.simulation.page import alarms_sentence, headline, save, summary_table
from feedrank.simulation.results import SimulationResult
from feedrank.simulation.run import Simulation
from pipelines.local import LocalRun, run_local
from pipelines.traffic import Traffic, serve_traffic

DIRECTORY = Path("runs/demo")
TRAFFIC_SECONDS = 5.0


class DemoSummary(BaseModel):
    """`summary.json`: every figure that the demo shows."""

    seconds: float
    task_seconds: dict[str, float]
    simulation_to_training: float
    """How many times as long as the training the simulation took."""
    evaluation: Evaluation
    oracle_share: float | None
    champion: str
    traffic: Traffic
    simulation: SimulationResult


def main() -> None:
    """Runs the demo."""
    started, config = time.perf_counter(), load_config()
    console.rule("data to a registered ranker")
    run = run_local("etl_and_feature_engineering", root=DIRECTORY, parameters={}, on_step=_step)
    evaluation = stages.load_evaluation(run.artifacts["evaluation"])
    console.rule("the champion serves")
    registry = Registry(config.model.registry)
    champion = registry.alias(CHAMPION)
    if champion is None:
        console.print("no version has passed its gates, so nothing is served", style="bold red")
        raise SystemExit(1)
    bundle = registry.download(champion.number, DIRECTORY / "champion")
    traffic = serve_traffic(bundle, directory=DIRECTORY, seconds=TRAFFIC_SECONDS)
    console.rule("a taste shift, and the loop that heals it")
    simulation_folder = DIRECTORY / "simulation"
    simulation = Simulation(config.simulation, config, simulation_folder, say=_step).play(second_act=True)
    simulation_page = save(simulation, simulation_folder)
    summary = DemoSummary(
        seconds=time.perf_counter() - started,
        task_seconds=run.task_seconds,
        simulation_to_training=simulation.seconds / run.task_seconds["train"],
        evaluation=evaluation,
        oracle_share=evaluation.oracle_share,
        champion=champion.model_version,
        traffic=traffic,
        simulation=simulation,
    )
    storage.write_text(DIRECTORY / "summary.json", summary.model_dump_json(indent=2))
    shutil.copyfile(run.artifacts["evaluation_report"], DIRECTORY / "report.html")
    show(summary, run, simulation_page)


def show(summary: DemoSummary, run: LocalRun, simulation_page: Path) -> None:
    """The one page at the end."""
    console.rule("summary")
    console.print(evaluation_table(summary.evaluation))
    gates = Table("gate", "value", "limit", "passed")
    for gate in summary.evaluation.gates:
        gates.add_row(gate.name, f"{gate.value:.4f}", f"{gate.limit:g}", "yes" if gate.passed else "NO")
    console.print(gates)
    if summary.oracle_share is not None:
        console.print(f"share of the oracle's AUC lift over chance: {summary.oracle_share:.3f}", highlight=False)
    traffic = Table("served", "requests/s", "p50 ms", "p99 ms", "failed", "rows logged")
    t = summary.traffic
    traffic.add_row(
        summary.champion,
        f"{t.requests_per_second:.0f}",
        f"{t.p50_ms:.2f}",
        f"{t.p99_ms:.2f}",
        str(t.failed),
        f"{t.logged_rows:,}",
    )
    console.print(traffic)
    _show_simulation(summary.simulation)
    seconds = Table("step", "seconds", "share")
    for task, value in (summary.task_seconds | {"simulation": summary.simulation.seconds}).items():
        seconds.add_row(task.replace("-", " "), f"{value:.1f}", f"{value / summary.seconds:.0%}")
    seconds.add_row("all, with serving", f"{summary.seconds:.1f}", "", style="bold")
    console.print(seconds)
    ratio = summary.simulation_to_training
    console.print(f"the simulation took {ratio:.1f} times as long as the training", highlight=False)
    console.print(f"validation report: {run.artifacts['validation_report']}", highlight=False, soft_wrap=True)
    console.print(f"the loop: {simulation_page}", highlight=False, soft_wrap=True)
    console.print(f"report: {DIRECTORY / 'report.html'}   figures: {DIRECTORY / 'summary.json'}", highlight=False)


def _show_simulation(result: SimulationResult) -> None:
    console.print(summary_table(result))
    console.print(f"{headline(result)} {alarms_sentence(result)}", highlight=False)
    if (rollback := result.rollback) is not None:
        console.print(
            f"A bad model was forced in (CTR {rollback.ctr_bad:.1%}) and rolled back in "
            f"{rollback.rollback_seconds:.1f} s: {rollback.failed_requests} of {rollback.requests} requests failed.",
            highlight=False,
        )


def _step(text: str) -> None:
    console.print(f"  {text}", style="dim", highlight=False)


if __name__ == "__main__":
    main()
