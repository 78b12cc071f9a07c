"""The service, sent whatever its OpenAPI document allows, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from plancast.pipelines.http.forecasts import ModelForecasts
from tests.pipelines.http.service import SMALL, Client, planned, serving


def fuzz(client: Client, examples: int) -> None:
    """Send each operation of the OpenAPI document examples that fit it, and that do not."""
    from tests.pipelines.http import fuzz

    assert fuzz.fuzz(f"http://127.0.0.1:{client.port}", examples, tame=soon) == 11


def soon(body: Any) -> None:
    """A budget of steps alone may last for hours; then the planner is replaced."""
    if isinstance(body, dict) and isinstance(body.get("budget"), dict):
        body["budget"].update(seconds=0.01)


def test_fuzzing_finds_no_fault(forecasts: ModelForecasts) -> None:
    """A strange request would end in a 500, or in an answer that the schema does not know."""
    with serving(most_s=0.05, grace_s=60.0, forecast=forecasts) as client:
        planned(client, SMALL, "/v1/plan?hold=true")
        fuzz(client, 2)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("held", [False, True])
def test_long_fuzzing_finds_no_fault(held: bool, forecasts: ModelForecasts) -> None:
    """The same with many more requests, also where nothing is held."""
    with serving(most_s=0.05, grace_s=60.0, forecast=forecasts) as client:
        if held:
            planned(client, SMALL, "/v1/plan?hold=true")
        fuzz(client, 300)
