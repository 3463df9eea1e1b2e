"""The notebooks run from the first cell to the last, show their figures, and are committed without outputs.

They run without Jupyter, which nothing else here needs: the code cells in order in one process, which prints what
Jupyter shows below a cell. After each cell its figures are drawn, and matplotlib must still draw for the page: a cell
that leaves it with another backend makes Jupyter show no figure from then on.
"""

import ast
import io
import json
import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from feedrank import storage
from feedrank.simulation import page
from feedrank.simulation.results import Event, PolicyDay, SimulationResult

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
INLINE = "svg"
"""The backend that stands for Jupyter's; the library's own plots are drawn with another one."""
MAGIC = "%matplotlib inline"
FIGURES = {"01_exploration": 5, "02_prototyping": 4, "03_results": 3}
TIMEOUT_SECONDS = 400


def read(notebook: Path) -> dict:
    return json.loads(notebook.read_text(encoding="utf-8"))


def run(notebook: Path) -> None:
    """Executes the code cells; the last line printed is the number of figures."""
    import matplotlib as mpl

    mpl.use(INLINE)
    import matplotlib.pyplot as plt

    namespace, figures = {"__name__": "__main__"}, 0
    for cell in read(notebook)["cells"]:
        if cell["cell_type"] != "code":
            continue
        source = "".join(cell["source"]).replace(MAGIC, f"__import__('matplotlib').use({INLINE!r})")
        *statements, last = ast.parse(source).body
        exec(compile(ast.Module(statements, []), f"<cell {cell['id']}>", "exec"), namespace)
        # Prints the value of an expression, as Jupyter does.
        exec(compile(ast.Interactive([last]), f"<cell {cell['id']}>", "single"), namespace)
        if mpl.get_backend().lower() != INLINE:
            sys.exit(f"cell {cell['id']} leaves matplotlib with the backend {mpl.get_backend()}; end it by {MAGIC}")
        for number in plt.get_fignums():
            plt.figure(number).savefig(io.BytesIO(), format="png")
            figures += 1
        plt.close("all")
    print(figures)


def output_of(notebook: str, workspace: Path) -> str:
    """What a notebook prints that is opened in `workspace`/notebooks."""
    folder = workspace / FOLDER.name
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, str(FOLDER / f"{notebook}.ipynb")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    assert not done.returncode, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) >= FIGURES[notebook]
    return done.stdout


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_valid_and_committed_without_outputs(notebook):
    content = read(notebook)
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert content["metadata"].keys() == {"kernelspec", "language_info"}
    ids = [cell["id"] for cell in content["cells"]]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in ids)
    for cell in content["cells"]:
        assert cell["metadata"] == {}, cell["id"]
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None, f"{cell['id']}: clear the outputs"


@pytest.mark.parametrize("notebook", ["01_exploration", "02_prototyping"])
def test_a_notebook_runs(notebook, tmp_path):
    output_of(notebook, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FOLDER.name], "it leaves nothing behind"


def test_the_results_come_from_a_small_run_and_then_from_what_is_there(tmp_path):
    first = output_of("03_results", tmp_path)
    evaluation = tmp_path / "runs/notebook/evaluation/evaluation.json"
    assert f"evaluation: {Path('../runs/notebook/evaluation/evaluation.json')}" in first
    assert "The ranker passes every gate" in first
    assert "no simulation yet" in first
    made_at = evaluation.stat().st_mtime_ns

    storage.write_text(tmp_path / "runs/demo/simulation" / page.RESULT_FILE, played().model_dump_json())
    second = output_of("03_results", tmp_path)
    assert evaluation.stat().st_mtime_ns == made_at, "the run is not made again"
    assert page.headline(played()) in second
    assert "champion frozen" in second


def played() -> SimulationResult:
    """The result of a simulation of two days."""
    start = date(2024, 8, 5)

    def days(clicks: int) -> list[PolicyDay]:
        return [
            PolicyDay(
                date=start + timedelta(days=number),
                planned_visits=20,
                visits=20,
                users=15,
                impressions=100,
                clicks=clicks,
                engaged=1,
                session_seconds=60.0,
                retention=None if number == 0 else 0.5,
            )
            for number in range(2)
        ]

    shift = Event(at=datetime(2024, 8, 6, tzinfo=UTC), kind="shift", text="users move to other topics")
    return SimulationResult(
        days={"frozen": days(8), "loop": days(11)},
        events=[shift],
        recovery=None,
        requests=40,
        request_seconds=1.0,
        seconds=2.0,
    )


if __name__ == "__main__":
    run(Path(sys.argv[1]))
