"""Good interactions apart from bad ones, and the report about both."""

from typing import Any

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES.data, install_kfp_package=False)
def validate(
    interactions: dsl.Input[dsl.Dataset],
    *,
    validated: dsl.Output[dsl.Dataset],
    validation_metrics: dsl.Output[dsl.Metrics],
    validation_report: dsl.Output[dsl.HTML],
    drift_expected: bool,
    config_overrides: dict[str, Any],
) -> None:
    """Fails when the batch does; `validated` holds clean/, quarantine/ and the reports."""
    import shutil
    from pathlib import Path

    from feedrank import stages
    from feedrank.config import load_config
    from feedrank.data.validation import validate as validate_interactions

    output = Path(validated.path)
    summary = validate_interactions(
        Path(interactions.path),
        output=output,
        config=load_config(overrides=config_overrides).data.validation,
        drift_expected=drift_expected,
    )
    shutil.copyfile(output / "report.html", validation_report.path)
    for name in ("rows", "clean_rows", "quarantined_rows", "bad_share"):
        validation_metrics.log_metric(name, getattr(summary, name))
    stages.say(f"{summary.clean_rows:,} of {summary.rows:,} rows are clean, the others in quarantine")
