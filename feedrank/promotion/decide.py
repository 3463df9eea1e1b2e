"""Compares a registered challenger with the registered champion and keeps the decision with the challenger."""

import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from feedrank.config import Config
from feedrank.errors import DataError
from feedrank.model.bundle import ModelBundle, load_bundle
from feedrank.promotion.compare import Decision, compare, with_constants
from feedrank.promotion.promote import BETTER_TAG, REJECTED_TAG
from feedrank.registered_model import RegisteredModel
from feedrank.registry import CHAMPION, Registry

DECISION_FILE = "decision.json"


def decide(
    registry: Registry,
    challenger: RegisteredModel,
    rows: pa.Table,
    *,
    evaluated: Path,
    interactions: Path,
    config: Config,
    now: datetime,
) -> Decision:
    """Judges the challenger on fresh rows (`schema.FEATURE_TABLE`) of the interactions; the verdict goes to MLflow.

    Scored is the challenger's held-out fit, the bundle `evaluated`: the registered fit has seen the rows. A champion of
    other feature constants is scored on the features that it was trained on.

    Raises:
        DataError: `evaluated` is another model's.
        RegistryError: a model can't be read, or the decision can't be stored.
    """
    champion = registry.alias(CHAMPION)
    if champion is None or champion.number == challenger.number:
        reason = "there is no other champion to compare with"
        decision = Decision(
            champion="none",
            challenger=challenger.model_version,
            decided_at=now,
            promote=challenger.passed_gates,
            reasons=[reason] if challenger.passed_gates else ["it missed a gate on its own test rows"],
            passed_gates=challenger.passed_gates,
        )
    else:
        with tempfile.TemporaryDirectory() as folder:
            old, new = load_bundle(registry.download(champion.number, Path(folder))), _held_out(challenger, evaluated)
            decision = compare(
                old,
                new,
                rows,
                champion_rows=with_constants(rows, interactions, config=old.features)
                if old.features != new.features
                else None,
                passed_gates=challenger.passed_gates,
                config=config.promotion.comparison,
                evaluation=config.model.evaluation,
                now=now,
            )
    registry.add_file(challenger.run_id, DECISION_FILE, decision.model_dump_json(indent=2))
    if decision.promote:
        registry.set_tag(challenger.number, BETTER_TAG, decision.champion)
    else:
        registry.set_tag(challenger.number, REJECTED_TAG, "; ".join(decision.reasons))
    return decision


def _held_out(challenger: RegisteredModel, evaluated: Path) -> ModelBundle:
    """The bundle of the challenger's held-out fit, under the challenger's version."""
    bundle, registered = load_bundle(evaluated), challenger.metadata
    if registered is None or bundle.metadata.model_id != registered.evaluated_id:
        raise DataError(
            f"{evaluated}: the model {bundle.metadata.model_id} is not the one that {challenger.model_version} was "
            "evaluated as; compare a model with the files of its own run"
        )
    return replace(bundle, metadata=bundle.metadata.model_copy(update={"model_version": challenger.model_version}))
