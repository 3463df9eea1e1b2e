"""Schemathesis sends what the predictor's own description allows, and what it forbids."""

import schemathesis
from conftest import Predictor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from serving.openapi import OWN_PATHS

EXAMPLES = 80


def holds_float(value: object) -> bool:
    """For JSON Schema 3.0 is an integer; the predictor wants 3, and its description can't say so."""
    if isinstance(value, dict | list):
        return any(map(holds_float, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float)


def cases(operation: schemathesis.schemas.APIOperation) -> st.SearchStrategy[Case]:
    allowed = operation.as_strategy(GenerationMode.POSITIVE).filter(lambda case: not holds_float(case.body))
    if operation.path != "/predict":  # the others have no body to be wrong
        return allowed
    return st.one_of(allowed, operation.as_strategy(GenerationMode.NEGATIVE))


def test_no_failure_and_no_answer_that_the_description_does_not_name(predictor: Predictor):
    schema = schemathesis.openapi.from_url(f"{predictor.url}/openapi.json").include(path=list(OWN_PATHS))
    tested = []
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=cases(operation))
        def call(case: Case) -> None:
            case.call_and_validate(base_url=predictor.url)

        call()
        tested.append(operation.path)
    assert sorted(tested) == sorted(OWN_PATHS)
