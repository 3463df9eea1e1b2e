"""Good interactions apart from bad ones, and the report about both."""

from typing import Any, NamedTuple

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
) -> NamedTuple("Outputs", [("passed", bool), ("verdict", str)]):  # type: ignore[valid-type]
    """Succeeds when the batch fails, too: what follows must `require` that it passed. Days that are held or missing
    stop nothing: the log, the report and the monitor's alerts name them.

    `validated` holds quarantine/, the reports and, if the batch passed, clean/. The record of days is on the shared
    volume; without a volume every run is a first import.
    """
    import contextlib
    import shutil
    from pathlib import Path

    from feedrank.config import load_config
    from feedrank.data.validation import validate as validate_interactions
    from feedrank.data.validation.record import share_record
    from feedrank.data.validation.run import REPORT, SUMMARY
    from feedrank.data.validation.summary import ValidationSummary
    from feedrank.errors import ValidationFailedError
    from feedrank.task_log import say, task

    with task(f"validates {interactions.path}"):
        output, config = Path(validated.path), load_config(overrides=config_overrides)
        volume = config.pipelines.volume
        shared = Path(volume.mount_path) / "validated" if volume.claim else None
        with contextlib.suppress(ValidationFailedError):
            validate_interactions(
                Path(interactions.path),
                output=output,
                config=config.data.validation,
                drift_expected=drift_expected,
                accepted=shared,
            )
        summary = ValidationSummary.model_validate_json((output / SUMMARY).read_text(encoding="utf-8"))
        if summary.passed and shared is not None:
            share_record(output, shared)
        shutil.copyfile(output / REPORT, validation_report.path)
        for name in ("rows", "clean_rows", "quarantined_rows", "bad_share"):
            validation_metrics.log_metric(name, getattr(summary, name))
        for name in ("judged_days", "held_days", "missing_days"):
            validation_metrics.log_metric(name, len(getattr(summary, name)))
        verdict = (
            f"the batch passed: {summary.clean_rows:,} of {summary.rows:,} rows are clean, the others in quarantine"
        )
        if not summary.passed:
            problems = "; ".join(summary.problems)
            verdict = f"the batch failed validation: {problems}; see {validated.uri}/{REPORT}"
        for alarm in summary.alarms:
            say(f"ALARM: {alarm}")
        for warning in summary.warnings:
            say(f"warning: {warning}")
        say(verdict)
        return summary.passed, verdict
