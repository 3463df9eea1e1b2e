"""What the commands and pipeline steps around the champion share: who promotes, what is served, alerts on failure."""

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from feedrank import storage
from feedrank.config import Config
from feedrank.config.monitoring import MonitoringConfig
from feedrank.config.promotion import TargetConfig
from feedrank.model.bundle import ModelBundle, load_bundle
from feedrank.project import project_module
from feedrank.promotion.changes import PromotionError, Record
from feedrank.promotion.promote import Promoter
from feedrank.promotion.serving_target import LocalTarget, ServingTarget
from feedrank.registry import CHAMPION, Registry, bundle_below


def configured_promoter(config: Config, *, url: str | None = None) -> Promoter:
    """The promoter of the configured registry and target; `url` of the predictor instead of the configured one."""
    target = config.promotion.target if url is None else config.promotion.target.model_copy(update={"url": url})
    return Promoter(
        connect=lambda: Registry(config.model.registry),
        target=_serving_target(target),
        directory=config.promotion.state_directory,
    )


def _serving_target(config: TargetConfig) -> ServingTarget:
    if not config.inference_service:
        return LocalTarget(config)
    target: ServingTarget = project_module("serving.kserve_target").InferenceServiceTarget(config)
    return target


def repair_before_watching(promoter: Promoter, *, config: Config) -> Record | None:
    """Ends an interrupted change of the champion, as a monitor's first act; None when there is nothing to end.

    On a cluster a monitor may not change what is served, and leaves that to retraining, promote and rollback.
    """
    return None if config.promotion.target.inference_service else promoter.repair()


def champion_bundle(promoter: Promoter, *, cache: Path) -> ModelBundle:
    """The champion: the served one if it is on this machine, which needs no MLflow; else fetched once into `cache`.

    Raises:
        PromotionError: there is no champion.
        FeedrankError: it can't be fetched, or is damaged.
    """
    if (served := promoter.target.current_bundle()) is not None:
        return load_bundle(served)
    champion = promoter.registry.alias(CHAMPION)
    if champion is None:
        raise PromotionError("there is no champion to watch; train, evaluate and register a model first")
    folder = cache / f"{champion.model_version}-{champion.run_id[:8]}"
    if not folder.exists():
        with storage.new_directory(folder) as fresh:
            promoter.registry.download(champion.number, fresh)
    return load_bundle(bundle_below(folder))


@contextlib.contextmanager
def alerting(output: Path, *, config: MonitoringConfig, now: datetime) -> Iterator[None]:
    """Sends an alert when a step around the monitor fails, and lets the failure pass on."""
    from feedrank.monitoring.run import alert_failure

    try:
        yield
    except Exception as error:
        alert_failure(error, output=output, config=config, now=now)
        raise
