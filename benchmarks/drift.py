"""How well the monitor tells drift from none, over windows of synthetic worlds.

    python -m benchmarks.drift [--quick]

Counted are days of traffic, each judged by the whole monitor (24 h windows every 3 h, alarm at K of M). A clean day is
a false alarm when any signal alarms at one of its eight window ends. A drifted episode is detected when an alarm comes
within 24 h of the drift's full strength (of its start, when it is sudden). Clean days come from worlds of several
seeds, seasons and sizes, and from the days before each drift. Feedback comes at midnight, for the whole day.

Three feeds: "sessions" is the generator's own; in "first ranker" a feed in random order gets its first model, which
changes what is shown and clicked (`policy_world.py`); in "spread" impressions lie anywhere in the day, and the model
serves for a month.

How strong a drift is, is not the monitor's word: the same day of the same world is generated with and without it, and
the largest ratio of effect to threshold over all signals is taken on the two samples ("margin"). Episodes with a
margin of at least HEADLINE_MARGIN count for the accuracy, all are in the table of power against strength.

Beside it: plain thresholds (any KS distance above 0.1, or PSI above 0.2) on all rows of the day against all training
rows. The last line is one JSON object.
"""

import functools
import itertools
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.drift_strength import margin, plain_alarm
from benchmarks.monitored_world import ServedWorld, serve
from benchmarks.policy_world import serve_first_ranker
from feedrank.config import MonitoringConfig
from feedrank.config.data import DriftKind, DriftScenario, GeneratorConfig
from feedrank.monitoring import history as histories
from feedrank.monitoring.engines import DriftEngine, drift_engine
from feedrank.monitoring.reference import load_reference
from feedrank.monitoring.results import NEED_FEEDBACK
from feedrank.monitoring.window import evaluate_window

CONFIG = MonitoringConfig()
HISTORY_DAYS, CLEAN_DAYS, SPREAD_DAYS = 42, 2, 30
"""Days behind the reference, and clean served days before a drift (the first gives the history of K of M)."""
HEADLINE_MARGIN = 1.5
STRENGTHS: dict[DriftKind, tuple[float, ...]] = {
    "taste_shift": (0.1, 0.25, 0.5, 1.0),
    "new_items": (0.1, 0.25, 0.5, 1.0),
    "device_mix": (0.1, 0.25, 0.5, 1.0),
    "popularity_shock": (0.1, 0.25, 0.5, 1.0),
    "broken_dwell_sensor": (0.02, 0.1, 0.5, 1.0),
    "label_delay": (0.1, 0.25, 0.5, 1.0),
}
RAMP_DAYS = (0, 2)
Feed = Literal["sessions", "first ranker", "spread"]


@dataclass(frozen=True)
class Episode:
    """A world, and what happens in it."""

    name: str
    generator: GeneratorConfig
    drifts: tuple[DriftScenario, ...] = ()
    served_days: int = 5
    feed: Feed = "sessions"

    @property
    def first_served(self) -> date:
        """First day with a prediction log."""
        return self.generator.end_date + timedelta(days=1 - self.served_days)

    def midnight(self, day: int) -> datetime:
        """Begin of the n-th served day, from 0."""
        return datetime.combine(self.first_served + timedelta(days=day), time(), tzinfo=UTC)


@dataclass(frozen=True)
class Outcome:
    """What the monitor said in an episode."""

    episode: Episode
    clean_days: list[list[str]]
    """The alarms of each clean day."""
    plain_clean_days: list[bool]
    hours_to_detect: float | None = None
    """From the full strength on, 0 when it came earlier; None when not within 24 h."""
    plain_detected: bool = False
    margin: float = 0.0
    signals: Sequence[str] = ()

    @property
    def detected(self) -> bool:
        """Whether the drift was found in time."""
        return self.hours_to_detect is not None


def main(arguments: Sequence[str]) -> None:
    """Prints the tables and the JSON line."""
    quick = "--quick" in arguments
    engine, console = drift_engine(CONFIG.drift), Console(width=120)
    kinds = (_clean_episodes, _drift_episodes, _policy_episodes, _spread_episodes)
    episodes = [episode for kind in kinds for episode in kind(quick=quick)]
    outcomes = [
        run(episode, engine=engine, config=CONFIG)
        for episode in track(episodes, console=Console(stderr=True), description="episodes")
    ]
    drifted = [outcome for outcome in outcomes if outcome.episode.drifts]
    console.print(power_table(drifted))
    console.print(strength_table(drifted))
    console.print(clean_table(outcomes))
    print(json.dumps(figures(outcomes)))


def _world(
    seed: int,
    *,
    start: date,
    users: int = 10_000,
    rows_per_day: int = 14_000,
    days: int = 5,
    history_days: int = HISTORY_DAYS,
) -> GeneratorConfig:
    return GeneratorConfig(
        num_users=users,
        num_items=20_000,
        num_interactions=rows_per_day * (history_days + days),
        start_date=start,
        end_date=start + timedelta(days=history_days + days - 1),
        seed=seed,
    )


def _policy_episodes(*, quick: bool) -> Iterator[Episode]:
    """A first ranker, without and with a drift from its third day on."""
    for seed in range(301, 302 if quick else 304):
        generator = _world(seed, start=date(2024, 3, 3), days=9)
        yield Episode(name="a first ranker", generator=generator, served_days=9, feed="first ranker")
    for index, kind in enumerate(list(STRENGTHS)[2:3] if quick else STRENGTHS):
        generator = _world(320 + index, start=date(2024, 3, 3))
        start = generator.start_date + timedelta(days=HISTORY_DAYS + CLEAN_DAYS)
        drift = DriftScenario(kind=kind, start_date=start, strength=1.0)
        yield Episode(name=kind, generator=generator, drifts=(drift,), feed="first ranker")


def _spread_episodes(*, quick: bool) -> Iterator[Episode]:
    """A month under one model, trained on the month before."""
    for seed in () if quick else (401, 402):
        generator = _world(seed, start=date(2024, 3, 3), days=SPREAD_DAYS, history_days=SPREAD_DAYS)
        world = generator.world.model_copy(update={"session_mean_impressions": 1.0})
        generator = generator.model_copy(update={"world": world})
        yield Episode(name="spread over the day", generator=generator, served_days=SPREAD_DAYS, feed="spread")


def _clean_episodes(*, quick: bool) -> Iterator[Episode]:
    sizes = [(10_000, 14_000), (4_000, 5_000), (20_000, 30_000), (2_000, 1_500)]
    starts = [date(2024, 1, 1), date(2024, 4, 18), date(2024, 7, 6), date(2023, 11, 20)]
    for index in range(1 if quick else 8):
        users, rows = sizes[index % len(sizes)]
        generator = _world(100 + index, start=starts[index // 2], users=users, rows_per_day=rows, days=9)
        yield Episode(name=f"{users} users, {rows} rows a day", generator=generator, served_days=9)


def _drift_episodes(*, quick: bool) -> Iterator[Episode]:
    for kind, strengths in STRENGTHS.items():
        for index, strength in enumerate(strengths[-1:] if quick else strengths):
            for ramp in RAMP_DAYS[:1] if quick else RAMP_DAYS:
                # One seed per strength, so that a ramp is compared with the sudden drift of the same world.
                generator = _world(index + 1, start=date(2024, 2, 1) + timedelta(days=40 * index))
                start = generator.start_date + timedelta(days=HISTORY_DAYS + CLEAN_DAYS)
                drift = DriftScenario(kind=kind, start_date=start, strength=strength, ramp_days=ramp)
                yield Episode(name=kind, generator=generator, drifts=(drift,))


def run(episode: Episode, *, engine: DriftEngine, config: MonitoringConfig) -> Outcome:
    """Generates an episode and lets the monitor watch it."""
    full = full_strength(episode)
    last = full + timedelta(days=1) if full else episode.midnight(episode.served_days)
    with tempfile.TemporaryDirectory() as folder:
        world = _served(episode, drifts=episode.drifts, directory=Path(folder))
        alarms = watch(
            world, start=episode.midnight(1), last=last, engine=engine, config=config, own_days=Path(folder) / "own"
        )
    clean = [episode.midnight(day) for day in range(1, CLEAN_DAYS if full else episode.served_days)]
    day_alarms = [_names(alarms, day, day + timedelta(days=1)) for day in clean]
    plain_alarms = [plain_alarm(world, day) for day in clean]
    if full is None:
        return Outcome(episode, day_alarms, plain_alarms)
    started = episode.midnight(CLEAN_DAYS)
    in_time = sorted(end for end in alarms if started < end <= last)
    return Outcome(
        episode,
        day_alarms,
        plain_alarms,
        hours_to_detect=max(0.0, (in_time[0] - full) / timedelta(hours=1)) if in_time else None,
        plain_detected=plain_alarm(world, full),
        margin=margin(world, twin(replace(episode, name="", drifts=())), day=full, config=config),
        signals=_names(alarms, started, last),
    )


def _names(alarms: dict[datetime, list[str]], after: datetime, until: datetime) -> list[str]:
    return sorted({name for end, names in alarms.items() if after < end <= until for name in names})


def full_strength(episode: Episode) -> datetime | None:
    """The midnight at which the drift reaches its full strength."""
    return episode.midnight(CLEAN_DAYS + episode.drifts[0].ramp_days) if episode.drifts else None


def watch(
    world: ServedWorld,
    *,
    start: datetime,
    last: datetime,
    engine: DriftEngine,
    config: MonitoringConfig,
    own_days: Path,
) -> dict[datetime, list[str]]:
    """Names of the alarms at each window end from `start` to `last` that has any.

    Feedback is there up to the latest midnight; then the windows that waited for it are judged again.
    """
    reference = load_reference(world.reference)
    version, history, found = reference.info.model_version, histories.HISTORY.empty_table(), {}
    step = timedelta(hours=config.window.step_hours)

    def judged(history: pa.Table, end: datetime, *, now: datetime) -> pa.Table:
        usual = histories.usual_value(history, "feedback_share", model_version=version, before=end, windows=28)
        midnight = now.replace(hour=0)
        result = evaluate_window(
            end,
            reference=reference,
            engine=engine,
            sources=world.sources,
            own_days=own_days,
            usual_feedback_share=usual,
            feedback_until=midnight,
            config=config,
            now=now,
        ).result
        waited = [signal.name for signal in result.signals if signal.kind in NEED_FEEDBACK]
        return histories.add_window(history, result, judged_at=now, only=waited if end < now else None)

    ends = [start + step * index for index in range((last - start) // step + 1)]
    for now in ends:
        due = [end for end in ends if now - timedelta(days=1) < end < now] if now.hour == 0 else []
        before = history
        for end in [*due, now]:
            history = judged(history, end, now=now)
        alarms = histories.alarms(
            history,
            before=before,
            model_version=version,
            ends=[*due, now],
            config=config.drift,
            keep=timedelta(days=1),
        )
        if alarms:
            found[now] = [alarm.signal for alarm in alarms]
    return found


def _served(episode: Episode, *, drifts: tuple[DriftScenario, ...], directory: Path) -> ServedWorld:
    made = serve_first_ranker if episode.feed == "first ranker" else serve
    return made(episode.generator, first_served=episode.first_served, drifts=drifts, config=CONFIG, directory=directory)


@functools.lru_cache(maxsize=len(next(iter(STRENGTHS.values()))))
def twin(episode: Episode) -> ServedWorld:
    """The world of an episode without any drift."""
    with tempfile.TemporaryDirectory() as folder:
        return _served(episode, drifts=(), directory=Path(folder))


def power_table(outcomes: Sequence[Outcome]) -> Table:
    """Every drifted episode."""
    table = Table(title="Drifted episodes (found within 24 h of full strength)")
    for name in ("kind", "strength", "ramp, days", "margin", "found after", "alarms", "plain thresholds"):
        table.add_column(name)
    for outcome in outcomes:
        drift, hours = outcome.episode.drifts[0], outcome.hours_to_detect
        table.add_row(
            drift.kind,
            f"{drift.strength:g}",
            str(drift.ramp_days),
            f"{outcome.margin:.1f}",
            "not" if hours is None else f"{hours:.0f} h",
            ", ".join(outcome.signals[:3]) + (" …" if len(outcome.signals) > 3 else ""),
            "found" if outcome.plain_detected else "not",
        )
    return table


def strength_table(outcomes: Sequence[Outcome]) -> Table:
    """Share of the drifts found, by margin."""
    table = Table(title="Power against strength (margin = effect / threshold)")
    for name in ("margin", "episodes", "found"):
        table.add_column(name, justify="right")
    for low, high in itertools.pairwise((0.0, 0.5, 1.0, 1.5, 2.0, 5.0, math.inf)):
        chosen = [outcome.detected for outcome in outcomes if low <= outcome.margin < high]
        table.add_row(f"{low:g} to {high:g}", str(len(chosen)), f"{np.mean(chosen):.0%}" if chosen else "")
    return table


def clean_table(outcomes: Sequence[Outcome]) -> Table:
    """False alarms by world."""
    table = Table(title="Clean days")
    for name in ("world", "days", "false alarms", "of plain thresholds"):
        table.add_column(name)
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault("before a drift" if outcome.episode.drifts else outcome.episode.name, []).append(outcome)
    for name, group in groups.items():
        days = [alarms for outcome in group for alarms in outcome.clean_days]
        false = [", ".join(alarms) for alarms in days if alarms]
        plain = [alarm for outcome in group for alarm in outcome.plain_clean_days]
        table.add_row(name, str(len(days)), f"{len(false)} {'; '.join(false)}", str(sum(plain)))
    return table


def figures(outcomes: Sequence[Outcome]) -> dict[str, float | int | None]:
    """The headline figures."""
    strong = [o for o in outcomes if o.episode.drifts and o.margin >= HEADLINE_MARGIN]
    clean = [bool(alarms) for outcome in outcomes for alarms in outcome.clean_days]
    plain_clean = [alarm for outcome in outcomes for alarm in outcome.plain_clean_days]
    right = sum(o.detected for o in strong) + clean.count(False)
    plain_right = sum(o.plain_detected for o in strong) + plain_clean.count(False)
    count = len(strong) + len(clean)
    return {
        "windows": sum(bool(o.episode.drifts) for o in outcomes) + len(clean),
        "accuracy": round(right / count, 4),
        "detected": sum(o.detected for o in strong),
        "drifts_above_margin": len(strong),
        "false_alarm_rate": round(float(np.mean(clean)), 4),
        "clean_windows": len(clean),
        "hours_to_detect_max": max((o.hours_to_detect for o in strong if o.hours_to_detect is not None), default=None),
        "plain_accuracy": round(plain_right / count, 4),
        "plain_false_alarm_rate": round(float(np.mean(plain_clean)), 4),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
