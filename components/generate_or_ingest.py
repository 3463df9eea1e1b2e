"""Interactions from a person's own files, or synthetic ones."""

from typing import Any, NamedTuple

from kfp import dsl

from components.images import IMAGES


@dsl.component(base_image=IMAGES.data, install_kfp_package=False)
def generate_or_ingest(
    interactions: dsl.Output[dsl.Dataset],
    *,
    input_paths: list[str],
    mapping: str,
    data_date: str,
    config_overrides: dict[str, Any],
) -> NamedTuple("Outputs", [("synthetic", bool)]):  # type: ignore[valid-type]
    """Reads `input_paths` through the mapping's YAML text, or generates where there are none; says which it was.

    Days after `data_date` (YYYY-MM-DD; "" for none) stay out.
    """
    from pathlib import Path

    from feedrank import stages
    from feedrank.config import load_config
    from feedrank.task_log import say, task

    what = f"ingests {', '.join(input_paths)}" if input_paths else "generates interactions, as no input is named"
    with task(f"{what}{f'; up to {data_date}' if data_date else ''}"):
        data = load_config(overrides=config_overrides).data
        summary = stages.generate_or_ingest(
            Path(interactions.path),
            input_paths=input_paths,
            mapping=mapping,
            data_date=stages.parsed_date(data_date) if data_date else None,
            config=data,
        )
        interactions.metadata.update(summary.model_dump(mode="json", exclude={"output", "remarks"}))
        for remark in summary.remarks:
            say(remark)
        say(f"{summary.rows:,} interactions from {summary.start} to {summary.end}")
        return (not input_paths,)
