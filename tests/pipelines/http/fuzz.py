"""Requests that an OpenAPI document admits, and requests that it does not.

A module of its own: schemathesis takes seconds to import, in each process of tests.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import product
from typing import Any

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

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]


def fuzz(
    url: str,
    examples: int,
    headers: dict[str, str] | None = None,
    left_out: tuple[str, ...] = (),
    tame: Callable[[Any], None] = lambda body: None,
) -> int:
    """Send each operation examples that fit it, and that do not; how many operations there are.

    Parameters
    ----------
    url : str
        Of the service.
    examples : int
        For each operation, of either kind.
    headers : dict, optional
        Of each request.
    left_out : tuple of str
        Paths that are not asked.
    tame : callable
        Changes a body that fits, before it is sent.
    """
    headers = headers or {}
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", headers=headers)
    operations = [found.ok() for found in schema.get_all_operations()]
    operations = [one for one in operations if one.path not in left_out]
    for operation, mode in product(operations, GenerationMode):
        with suppress(Unsatisfiable):  # some operations take nothing that could be wrong
            _fuzz_one(operation, mode, examples, headers, tame)
    return len(operations)


def _fuzz_one(
    operation: Any,
    mode: GenerationMode,
    examples: int,
    headers: dict[str, str],
    tame: Callable[[Any], None],
) -> None:
    @settings(max_examples=examples, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        if mode is GenerationMode.POSITIVE:
            tame(case.body)
        case.call_and_validate(checks=CHECKS, headers=headers, timeout=60.0)

    send()
