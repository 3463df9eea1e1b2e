"""The loop around the served champion: at the end of each simulated day it watches, retrains, compares and promotes.

The same code as in production (`feedrank/monitoring`, `feedrank/promotion`); only the clock is the simulation's.
"""

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from feedrank.config import Config
from feedrank.config.promotion import TargetConfig
from feedrank.monitoring.results import TriggerDecision
from feedrank.monitoring.rows import Sources
from feedrank.monitoring.run import monitor
from feedrank.monitoring.triggers import RetrainingLog
from feedrank.promotion.promote import Promoter
from feedrank.promotion.retrain import promote_if_better
from feedrank.promotion.serving_target import LocalTarget
from feedrank.registry import Registry
from feedrank.simulation.predictor import Predictor
from feedrank.simulation.results import Event, EventKind
from feedrank.simulation.retraining import train_and_register
from feedrank.simulation.trajectory import Trajectory
from feedrank.tables import write_partitioned

SCHEDULED = "scheduled retraining"


class Healing:
    """Keeps one platform's champion good."""

    def __init__(
        self,
        predictor: Predictor,
        *,
        folder: Path,
        config: Config,
        retrain_every: timedelta,
        on_event: Callable[[Event], None],
    ) -> None:
        """`folder` holds the platform's interactions, models and monitoring; `config` its registry and target."""
        self._predictor, self._folder, self.config = predictor, folder, config
        self._every, self._on_event = retrain_every, on_event
        self._record = RetrainingLog(folder / "monitoring", config=config.monitoring.retraining)
        self._last_training: datetime | None = None
        self._now: datetime | None = None
        self.target = LocalTarget(config.promotion.target)
        self.promoter = Promoter(
            connect=lambda: Registry(config.model.registry),
            target=self.target,
            directory=config.promotion.state_directory,
            clock=self.now,
        )

    def now(self) -> datetime:
        """The simulated time."""
        assert self._now is not None
        return self._now

    def begin(self, *, model_version: str, now: datetime) -> None:
        """Serves the first champion."""
        self._now = self._last_training = now
        self.promoter.promote(model_version, why="the first model", who="simulation")

    def end_of_day(self, platform: Trajectory, *, now: datetime) -> None:
        """Watches the day that ended at `now`, and heals.

        The snapshot of the platform must be up to date; the predictor has it afterwards.
        """
        self._now = now
        write_partitioned(platform.history[-1], self._folder / "interactions")
        trigger = self._watch(now)
        if not trigger.start and not trigger.reasons and now - self._trained() >= self._every:
            trigger = self._record.decide([SCHEDULED], now=now)
        if not (trigger.start and self._retrain(platform, trigger, now=now)):
            self._predictor.reload()

    def _trained(self) -> datetime:
        assert self._last_training is not None
        return self._last_training

    def _watch(self, now: datetime) -> TriggerDecision:
        result = monitor(
            reference_directory=self.target.link.resolve() / "reference",
            sources=Sources(predictions=self._predictor.log, feedback=self._folder / "interactions"),
            output=self._folder / "monitoring",
            config=self.config.monitoring,
            now=now,
            channels=(),
        )
        if result.alerts.sent:
            reasons = "; ".join(alarm.reason for alarm in result.alarms)
            self.tell("alert", reasons, result.model_version)
        return result.trigger

    def _retrain(self, platform: Trajectory, trigger: TriggerDecision, *, now: datetime) -> bool:
        """Whether a new model was promoted."""
        self._last_training = now
        folder = self._folder / "retraining"
        with self._record.running(trigger.request_id, clock=self.now):
            challenger = train_and_register(platform.interactions(), folder=folder, now=now, config=self.config)
            self.tell("retraining", "; ".join(trigger.reasons), challenger.model_version)
            outcome = promote_if_better(
                challenger,
                evaluated=folder / "model",
                evaluation=folder / "evaluation",
                trigger=trigger,
                interactions=self._folder / "interactions",
                features=folder / "features",
                config=self.config,
                promoter=self.promoter,
                now=now,
            )
        kind: EventKind = "promotion" if outcome.promoted else "rejection"
        self.tell(kind, "; ".join(outcome.decision.reasons), challenger.model_version)
        return outcome.promoted

    def tell(self, kind: EventKind, text: str, model_version: str) -> None:
        """Notes an event at the present time."""
        self._on_event(Event(at=self.now(), kind=kind, text=text, model_version=model_version))


def platform_config(config: Config, *, folder: Path, url: str) -> Config:
    """The configuration with registry, served versions and journal of a simulated platform in its folder."""
    target = TargetConfig(directory=folder / "served", url=url)
    promotion = config.promotion.model_copy(update={"state_directory": folder / "promotion", "target": target})
    registry = config.model.registry.model_copy(update={"tracking_uri": f"sqlite:///{folder}/mlflow.db"})
    model = config.model.model_copy(update={"registry": registry})
    return config.model_copy(update={"promotion": promotion, "model": model})


def clear(folder: Path) -> None:
    """Removes what an earlier simulation left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
