"""What the champion's recent data are compared with."""

from typing import Any

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES.monitor, install_kfp_package=False)
def load_reference(
    reference: dsl.Output[dsl.Artifact],
    *,
    monitoring_directory: str,
    config_overrides: dict[str, Any],
) -> None:
    """Copies the reference out of the champion's bundle, after ending what a crash left of a promotion."""
    import shutil
    from datetime import UTC, datetime
    from pathlib import Path

    from feedrank.config import load_config
    from feedrank.promotion.served import alerting, champion_bundle, configured_promoter, repair_before_watching
    from feedrank.task_log import say, task

    with task(f"loads the champion's reference; monitoring's records are in {monitoring_directory}"):
        config, output = load_config(overrides=config_overrides), Path(monitoring_directory)
        with alerting(output, config=config.monitoring, now=datetime.now(UTC)):
            promoter = configured_promoter(config)
            repair_before_watching(promoter, config=config)
            bundle = champion_bundle(promoter, cache=output / "champion")
        shutil.copytree(bundle.reference_directory, reference.path, dirs_exist_ok=True)
        reference.metadata["model_version"] = bundle.metadata.model_version
        say(f"the champion is {bundle.metadata.model_version}")
