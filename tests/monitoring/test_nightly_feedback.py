"""Feedback that comes once a night: five days of traffic, a run of the monitor every six hours."""

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from monitored_data import CONFIG, FIRST_SERVED_DAY, START, feature_rows, interactions, make_reference, prediction_log

from feedrank import schema
from feedrank.config.feed import Feed
from feedrank.monitoring import run as monitoring_run
from feedrank.monitoring.results import NEED_FEEDBACK, NOT_JUDGED, MonitoringResult
from feedrank.monitoring.rows import Sources
from feedrank.monitoring.run import monitor
from feedrank.tables import write_partitioned

DAYS = 5
FIRST = START + timedelta(days=FIRST_SERVED_DAY)
SHIFTED_FROM = 3


class World:
    """Traffic whose feedback is exported at 02:00, up to midnight."""

    def __init__(self, folder: Path, reference: Path, rows: pa.Table) -> None:
        self.folder, self.reference, self.rows = folder, reference, rows
        self.results: list[MonitoringResult] = []

    def live(self, *, lost_days: tuple[int, ...] = (), late_click_share: float = 0.0) -> None:
        """Runs the monitor through all days; of each day some clicks come a night after the others."""
        for hour in range(6, 24 * DAYS + 1, 6):
            now = FIRST + timedelta(hours=hour, minutes=10)
            write_partitioned(prediction_log(self._until(now)), self.folder / "predictions")
            night, last_night = hour // 24 - (hour % 24 < 2), (hour - 6) // 24 - ((hour - 6) % 24 < 2)
            if night > last_night and night not in lost_days:
                self._export(FIRST + timedelta(days=night), late_click_share=late_click_share)
            self.results.append(self._monitor(now))

    def _until(self, end: datetime) -> pa.Table:
        times = self.rows[schema.TIMESTAMP]
        return self.rows.filter(pc.less(times, pa.scalar(end, schema.TIMESTAMP_TYPE)))

    def _export(self, midnight: datetime, *, late_click_share: float) -> None:
        seen = interactions(self._until(midnight))
        start = pa.scalar(midnight - timedelta(days=1), schema.TIMESTAMP_TYPE)
        fresh = pc.greater_equal(seen[schema.TIMESTAMP], start).to_numpy()
        late = fresh & (np.random.default_rng(0).random(len(fresh)) < late_click_share)
        clicks = np.where(late, 0, seen[schema.CLICK].to_numpy()).astype(np.int8)
        place = seen.schema.get_field_index(schema.CLICK)
        write_partitioned(
            seen.set_column(place, seen.schema.field(place), pa.array(clicks)), self.folder / "interactions"
        )

    def _monitor(self, now: datetime) -> MonitoringResult:
        return monitor(
            reference_directory=self.reference,
            sources=Sources(predictions=self.folder / "predictions", feedback=self.folder / "interactions"),
            output=self.folder / "output",
            config=CONFIG,
            now=now,
            channels=(),
        )

    def alarms(self) -> list[tuple[datetime, str]]:
        return [(result.created_at, alarm.signal) for result in self.results for alarm in result.alarms]

    def verdicts(self, *, feedback: bool) -> Counter[tuple[datetime, str]]:
        """How often each signal of each window was judged."""
        return Counter(
            (window.end, signal.name)
            for result in self.results
            for window in result.windows
            for signal in window.signals
            if signal.status not in NOT_JUDGED
            and (signal.kind in NEED_FEEDBACK) == feedback
            # Of a window whose feedback has come, only that is news.
            and (feedback or window.end > result.created_at - timedelta(hours=6))
        )


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    make_reference(folder)
    return folder


@pytest.fixture
def world(tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(
        monitoring_run, "write_report", lambda result, **_: Path(result.report).parent.mkdir(parents=True)
    )
    return World(tmp_path, reference, feature_rows(1_500 * DAYS, day=FIRST_SERVED_DAY, days=DAYS, seed=3))


def test_clean_traffic_raises_no_alarm_and_each_window_gets_its_verdict_once(world: World) -> None:
    world.live()
    assert world.alarms() == []
    assert {result.verdict for result in world.results[3:]} == {"healthy"}
    assert not any(result.latest.warnings for result in world.results[4:]), "from the first export on"
    judged = world.verdicts(feedback=True)
    assert set(judged.values()) == set(world.verdicts(feedback=False).values()) == {1}
    # All windows up to the last midnight whose feedback was exported, and no other.
    last_export = FIRST + timedelta(days=DAYS - 1)
    assert {end for end, _ in judged} >= {last_export - timedelta(hours=6 * step) for step in range(8)}
    assert max(end for end, _ in judged) == last_export
    waiting = world.results[-1]
    assert f"the model is as good as it should be (judged up to {last_export:%Y-%m-%d %H:%M} UTC)" in waiting.headline
    assert {s.status for s in waiting.latest.signals if s.kind in NEED_FEEDBACK} == {"pending"}


def test_a_shift_of_devices_is_found_within_a_day_of_its_start_by_what_needs_no_feedback(world: World) -> None:
    midnight = FIRST + timedelta(days=SHIFTED_FROM)
    shifted = pc.greater_equal(world.rows[schema.TIMESTAMP], pa.scalar(midnight, schema.TIMESTAMP_TYPE)).to_numpy()
    device = np.random.default_rng(5).choice(3, world.rows.num_rows, p=[0.2, 0.3, 0.5])
    for number, name in enumerate(tuple(Feed().flags)):
        values = np.where(shifted, device == number, world.rows[name].to_numpy()).astype(np.int8)
        place = world.rows.schema.get_field_index(name)
        world.rows = world.rows.set_column(place, world.rows.schema.field(place), pa.array(values))
    world.live()
    first, _ = min(world.alarms())
    assert midnight < first <= midnight + timedelta(hours=24)
    assert {signal for _, signal in world.alarms()} <= {*tuple(Feed().flags)}


def test_late_clicks_have_the_windows_judged_again(world: World) -> None:
    world.live(late_click_share=0.1)
    assert world.alarms() == []
    times = world.verdicts(feedback=True)
    midnight = FIRST + timedelta(days=2)
    assert times[midnight, "auc"] == 2
    assert times[FIRST + timedelta(days=DAYS - 1), "auc"] == 1


def test_a_lost_night_is_an_alarm_that_names_the_time_and_forbids_no_retraining(world: World) -> None:
    world.live(lost_days=(3, 4))
    (signal,) = {signal for _, signal in world.alarms()}
    assert signal == "feedback"
    first = min(world.alarms())[0]
    assert timedelta(0) < first - (FIRST + timedelta(days=3)) <= timedelta(hours=13)
    assert "no feedback has arrived" in world.results[-1].headline
    assert not (world.folder / "output" / "retraining.jsonl").exists()
