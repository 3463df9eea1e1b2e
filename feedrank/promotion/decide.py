"""Compares a registered challenger with the registered champion and keeps the decision with the challenger."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from feedrank import schema
from feedrank.config import Config
from feedrank.errors import DataError, OtherFeaturesError
from feedrank.model.bundle import ModelBundle, load_bundle
from feedrank.promotion.compare import Decision, compare, with_features
from feedrank.promotion.gates import missed_sentences
from feedrank.promotion.promote import BETTER_TAG, REJECTED_TAG
from feedrank.registered_model import RegisteredModel
from feedrank.registry import CHALLENGER, CHAMPION, Registry

DECISION_FILE = "decision.json"


def decide(
    registry: Registry,
    challenger: RegisteredModel,
    rows: pa.Table,
    *,
    evaluated: Path,
    missed_gates: Sequence[str],
    interactions: Path,
    config: Config,
    now: datetime,
) -> Decision:
    """Judges the challenger on fresh rows (`Feed.table`) of the interactions; the verdict goes to MLflow.

    Scored is the challenger's held-out fit, the bundle `evaluated`: the registered fit has seen the rows. A champion of
    other features is scored on the features that it was trained on; one of features that this release does not
    compute can't be scored, and a person decides. `missed_gates` are those that the challenger's evaluation missed.

    Raises:
        DataError: `evaluated` is another model's.
        RegistryError: a model can't be read, or the decision can't be stored.
    """
    champion = registry.alias(CHAMPION)
    if champion is None or champion.number == challenger.number:
        decision = Decision(
            champion="none",
            challenger=challenger.model_version,
            decided_at=now,
            promote=not missed_gates,
            reasons=missed_sentences(missed_gates) or ["there is no other champion to compare with"],
            passed_gates=not missed_gates,
        )
    else:
        new = _held_out(challenger, evaluated)
        with tempfile.TemporaryDirectory() as folder:
            try:
                old = load_bundle(registry.download(champion.number, Path(folder)))
            except OtherFeaturesError:
                decision = _not_compared(champion, challenger, passed_gates=not missed_gates, now=now)
            else:
                decision = compare(
                    old,
                    new,
                    rows,
                    champion_rows=with_features(rows, interactions, feed=old.feed) if old.feed != new.feed else None,
                    missed_gates=missed_gates,
                    config=config,
                    now=now,
                )
    registry.add_file(challenger.run_id, DECISION_FILE, decision.model_dump_json(indent=2))
    if decision.promote:
        registry.set_tag(challenger.number, BETTER_TAG, decision.champion)
        registry.set_alias(CHALLENGER, challenger.number)
    else:
        registry.set_tag(challenger.number, REJECTED_TAG, "; ".join(decision.reasons))
    return decision


def _not_compared(
    champion: RegisteredModel, challenger: RegisteredModel, *, passed_gates: bool, now: datetime
) -> Decision:
    trained = champion.metadata
    features = "unknown" if trained is None else f"{trained.feature_schema_version}, freshness {trained.freshness}"
    return Decision(
        champion=champion.model_version,
        challenger=challenger.model_version,
        decided_at=now,
        promote=False,
        reasons=[
            f"not compared: the champion {champion.model_version} was trained on features (schema {features}) that "
            f"this release ({schema.FEATURE_SCHEMA_VERSION}) does not compute; look at the challenger's evaluation and "
            f"promote it by name: feedrank promote {challenger.model_version} --force"
        ],
        passed_gates=passed_gates,
    )


def _held_out(challenger: RegisteredModel, evaluated: Path) -> ModelBundle:
    """The bundle of the challenger's held-out fit, under the challenger's version."""
    bundle, registered = load_bundle(evaluated), challenger.metadata
    if registered is None or bundle.metadata.model_id != registered.evaluated_id:
        raise DataError(
            f"{evaluated}: the model {bundle.metadata.model_id} is not the one that {challenger.model_version} was "
            "evaluated as; compare a model with the files of its own run"
        )
    return replace(bundle, metadata=bundle.metadata.model_copy(update={"model_version": challenger.model_version}))
