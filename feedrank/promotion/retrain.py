"""The retraining: recent days and a replay of older ones in; a challenger, a decision and perhaps a new champion out.

Features are computed over the whole history, because they count it; the window only chooses the rows to learn from.
At most one retraining runs at a time, with a cool-down and every reason recorded (`monitoring/triggers.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel

from feedrank import stages, storage
from feedrank.config import Config
from feedrank.monitoring.results import TriggerDecision
from feedrank.monitoring.triggers import RetrainingLog
from feedrank.promotion.compare import Decision
from feedrank.promotion.decide import decide
from feedrank.promotion.promote import Promoter
from feedrank.promotion.window import choose_window
from feedrank.registered_model import RegisteredModel

RESULT_FILE = "retraining.json"
WHO = "automated_retraining"


class RetrainingResult(BaseModel):
    """`retraining.json`: what came out."""

    request_id: str
    reasons: list[str]
    decision: Decision
    promoted: bool


def retrain(
    trigger: TriggerDecision,
    *,
    interactions: Path,
    output: Path,
    config: Config,
    promoter: Promoter,
    clock: Callable[[], datetime],
) -> RetrainingResult:
    """Validates, computes features, trains, evaluates, fits on all rows, registers, compares, and promotes the better.

    Args:
        trigger: why it runs.
        interactions: the raw table, all of it.
        output: folder of this retraining; the one before is replaced.
        config: the whole configuration.
        promoter: promotes; its registry gets the challenger.
        clock: gives the present time.
    """
    from feedrank.data.validation import validate

    validate(
        interactions,
        output=output / "validated",
        config=config.data.validation,
        drift_expected=True,
        accepted=interactions.with_name("validated"),
    )
    stages.build_features(output / "validated" / "clean", output=output / "history", config=config)
    choose_window(output / "history", output=output / "features", config=config)
    stages.train_ranker(output / "features", output=output / "model", config=config)
    stages.evaluate_ranker(output / "model", output / "features", output=output / "evaluation", config=config.model)
    stages.refit_ranker(output / "model", output / "features", output=output / "refitted", gates=config.model.gates)
    registered = stages.register_ranker(output / "refitted", output / "evaluation", config=config.model)
    result = promote_if_better(
        registered,
        evaluated=output / "model",
        evaluation=output / "evaluation",
        trigger=trigger,
        interactions=output / "validated" / "clean",
        features=output / "features",
        config=config,
        promoter=promoter,
        now=clock(),
    )
    storage.write_text(output / RESULT_FILE, result.model_dump_json(indent=2))
    return result


def promote_if_better(
    challenger: RegisteredModel,
    *,
    evaluated: Path,
    evaluation: Path,
    trigger: TriggerDecision,
    interactions: Path,
    features: Path,
    config: Config,
    promoter: Promoter,
    now: datetime,
) -> RetrainingResult:
    """Compares on the test rows of the interactions' features and promotes; what then doesn't answer is undone.

    `evaluated` is the bundle of the challenger's held-out fit, which is compared, and `evaluation` the folder of its
    figures; the fit on all rows is promoted.
    Called again after a crash, it ends what was begun.

    Raises:
        PromotionError: the better challenger could not be served.
        FeedrankError: they can't be compared.
    """
    _, _, _, test = stages.load_features(features)
    promoter.repair()
    decision = decide(
        promoter.registry,
        challenger,
        test,
        evaluated=evaluated,
        missed_gates=stages.load_evaluation(evaluation).missed_gates,
        interactions=interactions,
        config=config,
        now=now,
    )
    if decision.promote and promoter.target.current_version() != challenger.model_version:
        why = f"{decision.reasons[0]}; retrained because {'; '.join(trigger.reasons)}"
        promoter.promote(challenger.model_version, why=why, who=WHO)
    return RetrainingResult(
        request_id=trigger.request_id, reasons=trigger.reasons, decision=decision, promoted=decision.promote
    )


class Retrainings(Protocol):
    """Where retrainings run."""

    def start(self, trigger: TriggerDecision) -> None:
        """Starts one that was decided on.

        Raises:
            FeedrankError: it could not be started.
        """
        ...


@dataclass(frozen=True)
class LocalRetrainings:
    """They run in this process; `start` returns at their end."""

    interactions: Path
    output: Path
    record: RetrainingLog
    config: Config
    promoter: Promoter
    on_result: Callable[[RetrainingResult], None] = lambda _: None

    def start(self, trigger: TriggerDecision) -> None:
        """See `Retrainings`. The end, good or bad, is recorded."""
        with self.record.running(trigger.request_id, clock=_now):
            result = retrain(
                trigger,
                interactions=self.interactions,
                output=self.output,
                config=self.config,
                promoter=self.promoter,
                clock=_now,
            )
        self.on_result(result)


def _now() -> datetime:
    return datetime.now(UTC)
