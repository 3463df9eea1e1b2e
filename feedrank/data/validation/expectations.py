"""Great Expectations decides, by expectations over small tables made from the batch.

A single expectation over a million rows costs 0.1-0.7 s, and asking it for the rows that fail several times that
(measured: 25 rules in 12-20 s). So the rules' masks are computed once, and the expectations run over what they give:
the column types, the number of bad rows of each rule, the figures of the batch, each day's share of bad rows, and the
figures of each day.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

Table = Literal["types", "bad_rows", "batch", "shares", "days"]


@dataclass(frozen=True)
class Check:
    """Every value of a column of one of the tables lies between the limits; or two columns of it are equal."""

    name: str
    table: Table
    column: str
    description: str
    min_value: float | None = None
    max_value: float | None = None
    equal_to: str | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether the expectation was met, and the places (rows of its table) where it wasn't."""

    met: bool
    places: tuple[int, ...]


def run_checks(tables: Mapping[Table, pd.DataFrame], checks: Sequence[Check]) -> dict[str, Verdict]:
    """Runs the checks in a fresh context that leaves nothing behind; returns the verdicts by name."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    source = context.data_sources.add_pandas("feedrank")
    verdicts: dict[str, Verdict] = {}
    for name, frame in tables.items():
        expectations = [_expectation(check) for check in checks if check.table == name]
        if not expectations:
            continue
        definition = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
        batch = definition.get_batch(batch_parameters={"dataframe": frame})
        suite = gx.ExpectationSuite(name=name, expectations=expectations)
        detail: Literal["COMPLETE", "BOOLEAN_ONLY"] = "BOOLEAN_ONLY" if name == "batch" else "COMPLETE"
        for result in batch.validate(suite, result_format=detail).results:
            rule, verdict = _verdict(result)
            verdicts[rule] = verdict
    return verdicts


def _expectation(check: Check) -> Any:
    from great_expectations.expectations.core.expect_column_pair_values_to_be_equal import (
        ExpectColumnPairValuesToBeEqual,
    )
    from great_expectations.expectations.core.expect_column_values_to_be_between import (
        ExpectColumnValuesToBeBetween,
    )

    meta = {"rule": check.name}
    if check.equal_to is not None:
        return ExpectColumnPairValuesToBeEqual(
            column_A=check.column, column_B=check.equal_to, description=check.description, meta=meta
        )
    return ExpectColumnValuesToBeBetween(
        column=check.column,
        min_value=check.min_value,
        max_value=check.max_value,
        description=check.description,
        meta=meta,
    )


def _verdict(result: Any) -> tuple[str, Verdict]:
    """The rule's name and verdict. A check that broke must not pass for bad data."""
    rule = result.expectation_config.meta["rule"]
    if result.exception_info and result.exception_info.get("raised_exception"):
        raise RuntimeError(f"the check of {rule} broke: {result.exception_info['exception_message']}")
    return rule, Verdict(bool(result.success), tuple(result.result.get("unexpected_index_list") or ()))
