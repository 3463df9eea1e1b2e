"""Plays the simulation: history, first models, and the live days under every policy on the same planned visits.

OUTPUT/simulation.json, simulation.html
OUTPUT/loop/              the served platform: predictions, interactions, models, monitoring
OUTPUT/informed/          the model with full knowledge of the new world
"""

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import torch

from feedrank.config import Config
from feedrank.config.simulation import PolicyName, SimulationConfig
from feedrank.data.generator import World
from feedrank.simulation.audience import Audience
from feedrank.simulation.healing import Healing, clear, platform_config
from feedrank.simulation.policies import ModelPolicy, OraclePolicy, Policy, PopularityPolicy, RandomPolicy
from feedrank.simulation.predictor import Predictor, free_port, running_predictor
from feedrank.simulation.recovery import measure_recovery
from feedrank.simulation.results import Event, RollbackResult, SimulationResult
from feedrank.simulation.retraining import train_and_register
from feedrank.simulation.second_act import force_and_roll_back
from feedrank.simulation.trajectory import Trajectory, midnight
from feedrank.simulation.visits import Visits, draw_visits
from feedrank.tables import write_partitioned

EXPLORING: tuple[PolicyName, ...] = ("frozen", "loop")
"""The first champion that stays, and the platform that begins with it."""
SHOWN: tuple[PolicyName, ...] = ("frozen", "loop", "informed", "oracle")
"""Whose click-through rates are told day by day."""
SNAPSHOT = "snapshot"


@dataclass
class Simulation:
    """One run. `play` does all; its parts are for the second act and for tests."""

    config: SimulationConfig
    base: Config
    output: Path
    say: Callable[[str], None] = lambda _: None
    events: list[Event] = field(default_factory=list)
    trajectories: dict[PolicyName, Trajectory] = field(default_factory=dict)
    requests: int = 0
    request_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.world = World(self.config.generator(shift_day=self.config.shift_day))
        self.settings = self.base.resized(self.config.sizes)

    def play(self, *, second_act: bool) -> SimulationResult:
        """Runs from the history to the last day, then the second act (`second_act.py`) if that is wanted."""
        started = time.perf_counter()
        clear(self.output)
        # The predictors and this process share the machine; small matrices gain nothing from more threads.
        torch.set_num_threads(1)
        logging.getLogger("feedrank.monitoring.alerts").setLevel(logging.ERROR)  # the events tell of alerts
        with contextlib.ExitStack() as stack:
            healing = self._prepare(stack)
            for day in range(self.config.history_days, self.config.total_days):
                self._day(day, healing)
            rollback = self._second_act(healing) if second_act else None
        return SimulationResult(
            days={name: trajectory.days for name, trajectory in self.trajectories.items()},
            events=self.events,
            recovery=measure_recovery(self.trajectories, config=self.config),
            rollback=rollback,
            requests=self.requests,
            request_seconds=self.request_seconds,
            seconds=time.perf_counter() - started,
        )

    def _prepare(self, stack: contextlib.ExitStack) -> Healing:
        """History, first models, the predictor, and a trajectory for every policy."""
        opening = midnight(self.world, self.config.history_days)
        past = self._past(self.world)
        predictor = self._start(past, stack)
        champion = self._train("loop", past, now=opening)
        self.say(f"champion {champion} trained on {past.interactions().num_rows:,} interactions")
        predictor.wait_until(ready=False)
        healing = Healing(
            predictor,
            folder=self.output / "loop",
            config=platform_config(self.settings, folder=self.output / "loop", url=predictor.url),
            retrain_every=timedelta(days=self.config.retrain_every_days),
            on_event=self._happened,
        )
        write_partitioned(past.interactions(), self.output / "loop" / "interactions")
        healing.begin(model_version=champion, now=opening)
        for name, policy in self._policies(past, predictor).items():
            self.trajectories[name] = Trajectory(
                name,
                policy,
                world=self.world,
                audience=past.audience.copy(),
                history=past.history,
                explores=name in EXPLORING,
                config=self.config.audience,
            )
        return healing

    def _past(self, world: World) -> Trajectory:
        """The history in random order, in some world."""
        past = Trajectory(
            "random",
            RandomPolicy(world),
            world=world,
            audience=Audience(num_users=self.config.num_users, config=self.config.audience),
            history=[],
            explores=False,
            config=self.config.audience,
        )
        for day in range(self.config.history_days):
            past.play(draw_visits(world, day=day, config=self.config.audience))
        return past

    def _start(self, past: Trajectory, stack: contextlib.ExitStack) -> Predictor:
        folder = self.output / "loop"
        opening = midnight(self.world, self.config.history_days)
        past.write_snapshot(folder / SNAPSHOT, cutoff=opening, feed=self.settings.feed)
        return stack.enter_context(
            running_predictor(folder / "served/current", folder=folder, snapshot=folder / SNAPSHOT, port=free_port())
        )

    def _train(self, name: PolicyName, past: Trajectory, *, now: datetime) -> str:
        """The first model of a platform, on its whole history."""
        folder = self.output / name
        config = platform_config(self.settings, folder=folder, url="")
        model = train_and_register(past.interactions(), folder=folder / "first", now=now, config=config, first=True)
        return model.model_version

    def _policies(self, past: Trajectory, predictor: Predictor) -> dict[PolicyName, Policy]:
        """Those of the configuration that begin with the first live day; the informed one begins with the shift."""
        popularity = PopularityPolicy(num_items=self.config.num_items)
        popularity.learn(past.interactions())
        policies: dict[PolicyName, Policy] = {
            "loop": predictor,
            "frozen": ModelPolicy(self.output / "loop" / "first" / "refitted"),
            "random": RandomPolicy(self.world),
            "popularity": popularity,
            "oracle": OraclePolicy(self.world),
        }
        return {name: policies[name] for name in self.config.policies if name in policies}

    def _inform(self) -> None:
        """Begins the informed policy: trained on a history as long as the champion's, in the new world."""
        past = self._past(World(self.config.generator(shift_day=0)))
        self._train("informed", past, now=midnight(self.world, self.config.history_days))
        self.trajectories["informed"] = Trajectory(
            "informed",
            ModelPolicy(self.output / "informed" / "first" / "refitted"),
            world=self.world,
            audience=self.trajectories["frozen"].audience.copy(),
            history=past.history,
            explores=True,
            config=self.config.audience,
        )

    def _day(self, day: int, healing: Healing) -> None:
        if day == self.config.shift_day:
            self._happened(Event(at=midnight(self.world, day), kind="shift", text="users move to other topics"))
            if "informed" in self.config.policies:
                self._inform()
        planned = draw_visits(self.world, day=day, config=self.config.audience)
        for trajectory in self.trajectories.values():
            self._play(trajectory, planned)
        shown = (name for name in SHOWN if name in self.trajectories)
        ctrs = ", ".join(f"{name} {self.trajectories[name].days[-1].ctr:.1%}" for name in shown)
        self.say(f"{self.trajectories['loop'].days[-1].date}: CTR {ctrs}")
        self._close_day(midnight(self.world, day + 1), healing)

    def _play(self, trajectory: Trajectory, planned: Visits) -> None:
        started = time.perf_counter()
        visits = trajectory.play(planned)
        if isinstance(trajectory.policy, Predictor):
            self.requests += len(visits)
            self.request_seconds += time.perf_counter() - started
            trajectory.policy.wait_logged(trajectory.days[-1].date, rows=visits.candidates.size)

    def _close_day(self, now: datetime, healing: Healing) -> None:
        """Brings the online features of the learning platforms up to date, and lets the loop heal."""
        for name, trajectory in self.trajectories.items():
            policy, folder = trajectory.policy, self.output / name / SNAPSHOT
            if isinstance(policy, Predictor | ModelPolicy):
                trajectory.write_snapshot(folder, cutoff=now, feed=self.settings.feed)
            if isinstance(policy, ModelPolicy):
                policy.refresh(folder)
            elif isinstance(policy, Predictor):
                healing.end_of_day(trajectory, now=now)

    def _second_act(self, healing: Healing) -> RollbackResult:
        folder = self.output / "loop"
        return force_and_roll_back(
            healing,
            self.trajectories["loop"],
            draw_visits(self.world, day=self.config.total_days - 1, config=self.config.audience),
            folder=folder / "bad",
            config=healing.config,
            audience=self.config.audience,
        )

    def _happened(self, event: Event) -> None:
        self.events.append(event)
        first, *others = event.text.split("; ")
        more = f" (and {len(others)} more)" if others else ""
        self.say(f"{event.at:%Y-%m-%d}: {event.kind.upper()} {event.model_version} {first}{more}")
