"""The service, sent whatever its OpenAPI document allows, and what it does not."""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from plancast.pipelines.http.forecasts import ModelForecasts
from tests.pipelines.http.service import SMALL, Client, planned, serving

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]


def fuzz(client: Client, examples: int) -> None:
    """Send each operation of the OpenAPI document examples that fit it, and that do not."""
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{client.port}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 11
    for operation, mode in product(operations, GenerationMode):
        with suppress(Unsatisfiable):  # some operations take nothing that could be wrong
            fuzz_operation(operation, mode, examples)


def fuzz_operation(operation: Any, mode: GenerationMode, examples: int) -> None:
    """Send examples to one operation."""

    @settings(max_examples=examples, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        body = case.body
        fits = mode is GenerationMode.POSITIVE
        if fits and isinstance(body, dict) and isinstance(body.get("budget"), dict):
            # A budget of steps alone may last for hours; then the planner is replaced.
            body["budget"].update(seconds=0.01)
        case.call_and_validate(checks=CHECKS, timeout=60.0)

    send()


def test_fuzzing_finds_no_fault(forecasts: ModelForecasts) -> None:
    """A strange request would end in a 500, or in an answer that the schema does not know."""
    with serving(most_s=0.05, grace_s=60.0, forecast=forecasts) as client:
        planned(client, SMALL, "/v1/plan?hold=true")
        fuzz(client, 5)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("held", [False, True])
def test_long_fuzzing_finds_no_fault(held: bool, forecasts: ModelForecasts) -> None:
    """The same with many more requests, also where nothing is held."""
    with serving(most_s=0.05, grace_s=60.0, forecast=forecasts) as client:
        if held:
            planned(client, SMALL, "/v1/plan?hold=true")
        fuzz(client, 300)
