"""What running tasks are expected to take: the arrays' word against the evaluator's."""

from __future__ import annotations

import ast
from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plancast.planner.arrays.running import expected_end_s, reserved_s
from plancast.planner.model.spans import planned_duration_s, running_end_s
from tests.conftest import ROOT
from tests.oracles.random_requests import random_request

CALLED = {
    "Evaluation", "Violation", "ViolationKind", "evaluate", "moved_tasks", "price", "relative_gap",
    "terms", "unplanned_weight", "validate",
}  # fmt: skip
"""What others than the model may take from the evaluator: judgements, no arithmetic of plans."""
SHOWN = {"planner/planning/expected_starts.py"}
"""Shows people what the evaluator sees, and plans nothing."""


@given(seed=st.integers(0, 10**6), later_s=st.integers(0, 400))
def test_the_arrays_and_the_evaluator_agree_on_running_tasks(seed: int, later_s: int) -> None:
    """A plan would wait for other ends than those it is judged by."""
    request = random_request(seed)
    now_s = request.snapshot.now_s
    for run in request.snapshot.running:
        assert expected_end_s(request, run) == running_end_s(request, run)
        at_s = now_s + later_s
        assert expected_end_s(request, run, at_s) == running_end_s(request, run, at_s)
    for task in request.snapshot.pending:
        for on in combinations_with_replacement(request.snapshot.workers, min(2, task.shards)):
            assert reserved_s(request, task.id, on) == planned_duration_s(request, task.id, on)


@pytest.mark.parametrize("folder", ["planner", "pipelines"])
def test_nobody_plans_with_the_arithmetic_of_the_judge(folder: str) -> None:
    """A mistake of the evaluator would be made by what it judges too, and be seen by nobody."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(("planner/model/", "pipelines/")) or name in SHOWN:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module == "plancast.planner.model.evaluate"
            ):
                assert {alias.name for alias in node.names} <= CALLED, name
