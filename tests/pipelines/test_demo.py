"""The demo's summary, of stand-ins for its three acts."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from feedrank.simulation.results import Event, SimulationResult
from feedrank.stages import EVALUATION_FILE
from pipelines import demo
from pipelines.local import LocalRun
from pipelines.traffic import Traffic
from tests.promotion.promotion_world import EVALUATION

SHIFT = Event(at=datetime(2024, 8, 6, tzinfo=UTC), kind="shift", text="users move to other topics")


def test_how_much_longer_the_simulation_took_than_the_training_is_stored_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    played = SimulationResult(
        days={"loop": []}, events=[SHIFT], recovery=None, requests=0, request_seconds=0.0, seconds=150.0
    )
    traffic = Traffic(requests=1, failed=0, requests_per_second=1.0, p50_ms=1.0, p99_ms=1.0, logged_rows=1)
    for name in (EVALUATION_FILE, "report.html"):
        (tmp_path / name).write_text(EVALUATION.model_dump_json())
    artifacts = {"evaluation": tmp_path, "evaluation_report": tmp_path / "report.html", "validation_report": tmp_path}
    run = LocalRun(artifacts=artifacts, task_seconds={"train": 60.0}, log=tmp_path / "log")
    champion = SimpleNamespace(number=1, model_version="v1.0.0")
    registry = SimpleNamespace(alias=lambda _: champion, download=lambda _, folder: folder)
    simulation = SimpleNamespace(play=lambda *, second_act: played)
    for name, value in {
        "DIRECTORY": tmp_path / "demo",
        "run_local": lambda *_, **__: run,
        "Registry": lambda _: registry,
        "serve_traffic": lambda *_, **__: traffic,
        "Simulation": lambda *_, **__: simulation,
        "save": lambda _, folder: folder,
    }.items():
        monkeypatch.setattr(demo, name, value)
    demo.main()
    summary = demo.DemoSummary.model_validate_json((tmp_path / "demo" / "summary.json").read_text())
    assert summary.simulation_to_training == 2.5
    assert "the simulation took 2.5 times as long as the training" in capsys.readouterr().out
