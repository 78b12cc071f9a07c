"""``plancast validate``: whatever is damaged in a response is named, every time.

Each damage is built so that it always is one: it looks for a response that it can break,
and returns what the validator has to say of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plancast.pipelines.cli import main
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import Assignment, Plan
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import Budget, PlanRequest, PlanResponse, to_json
from plancast.planner.planning.plan import plan
from tests.contracts import damaged_answers, damaged_plans  # noqa: F401 - register theirs
from tests.contracts.damages import DAMAGES, Case
from tests.oracles.random_requests import random_request

EACH = 3
"""Cases of each damage."""


@pytest.fixture(scope="module")
def honest() -> list[tuple[PlanRequest, PlanResponse]]:
    """Requests of all sorts with the planner's own responses."""
    steps = Budget(None, 300)
    pairs = []
    for seed in range(120):
        request = replace(random_request(seed), budget=steps)
        pairs.append((request, plan(request, "greedy")))
    for seed in range(40):
        request = replace(random_request(seed, max_tasks=3), budget=steps)
        pairs.append((request, plan(request, "astar")))
    for seed in range(8):
        request = generate_batch(10 + 5 * seed, generate_cluster(4, seed), seed)
        pairs.append((request, plan(replace(request, budget=steps), "greedy")))
    return pairs


def cases_of(name: str, honest: list[tuple[PlanRequest, PlanResponse]]) -> Iterator[Any]:
    """Responses damaged in one way: the case, and what has to be said of it."""
    rng = np.random.default_rng(list(name.encode()))
    order = rng.permutation(len(honest))
    done = 0
    for k in count():
        assert k < 4 * len(honest), f"no response can be damaged by {name}"
        case = Case(*honest[order[k % len(order)]], rng)
        expected = DAMAGES[name](case)
        if expected is not None:
            yield case, expected
            done += 1
        if done == EACH:
            return


def test_there_are_200_cases() -> None:
    """Fewer damaged responses than promised would prove less than promised."""
    assert len(DAMAGES) * EACH >= 200


def test_honest_responses_are_valid(honest: list[tuple[PlanRequest, PlanResponse]]) -> None:
    """A validator that complains of everything would pass the tests below."""
    for request, response in honest:
        assert validate_response(request, response) == [], request.request_id
    assert {r.status.value for _, r in honest} >= {"optimal", "feasible", "infeasible"}


@pytest.mark.parametrize("name", DAMAGES)
def test_the_damage_is_named(
    name: str,
    honest: list[tuple[PlanRequest, PlanResponse]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A damage that passes, or is called something else, would let a wrong plan be trusted."""
    asked, answer = tmp_path / "request.json", tmp_path / "response.json"
    for case, (kind, needle) in cases_of(name, honest):
        asked.write_bytes(to_json(case.request))
        answer.write_text(json.dumps(case.body) if case.text is None else case.text)
        with pytest.raises(SystemExit) as exit_:
            main(["validate", str(asked), str(answer), "--json"])
        out, err = capsys.readouterr()
        if kind is None:
            assert exit_.value.code == 2
            assert out == ""
            assert err.startswith(f"plancast: {answer}: ")
            assert err.count("\n") == 1
            assert needle in err
        else:
            assert exit_.value.code == 4
            assert err == ""
            found = [v["text"] for v in json.loads(out)["violations"] if v["kind"] == kind.value]
            assert any(needle in text for text in found), (kind, needle, out)


def test_violations_are_printed_in_words(
    honest: list[tuple[PlanRequest, PlanResponse]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without --json a person would not read which kinds of violations there are."""
    request, response = next((q, r) for q, r in honest if r.plan and r.plan.assignments)
    assert response.plan is not None
    first = response.plan.assignments[0]
    ghost = Plan(
        (Assignment("[ghost]", first.workers, first.start_s, first.end_s),),
        made_at_s=response.plan.made_at_s,
        snapshot_version=response.plan.snapshot_version,
    )
    (tmp_path / "q.json").write_bytes(to_json(request))
    (tmp_path / "r.json").write_bytes(to_json(replace(response, plan=ghost)))
    with pytest.raises(SystemExit) as exit_:
        main(["validate", str(tmp_path / "q.json"), str(tmp_path / "r.json")])
    assert exit_.value.code == 4
    printed = capsys.readouterr().out
    assert "unknown_task: assignment of '[ghost]'" in printed
    assert "task_missing" in printed
