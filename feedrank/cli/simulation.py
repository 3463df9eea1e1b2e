"""`feedrank simulate`."""

from pathlib import Path
from typing import Annotated

import typer

from feedrank.cli.console import console, timed
from feedrank.config import load_config


def simulate(
    output: Annotated[Path, typer.Option(help="Folder of the result and all it is made of; replaced.")] = Path(
        "runs/simulation"
    ),
    rollback: Annotated[bool, typer.Option(help="Then force in a bad model and roll it back.")] = True,
) -> None:
    """Play the closed loop: users, predictor, monitor, retraining and promotion over simulated days."""
    from feedrank.simulation.page import alarms_sentence, headline, save
    from feedrank.simulation.run import Simulation

    config = load_config()
    simulation = Simulation(
        config.simulation, config, output, say=lambda text: console.print(text, style="dim", highlight=False)
    )
    with timed("simulated"):
        result = simulation.play(second_act=rollback)
        page = save(result, output)
    console.print(f"{headline(result)} {alarms_sentence(result)}", highlight=False)
    console.print(f"report: {page}", highlight=False)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(simulate)
