"""The JSON door: what goes out comes back, and what is wrong is named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from plancast.planner.model.domain import (
    BadRequest,
    DurationEstimate,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.messages import (
    Event,
    PlanRequest,
    PlanResponse,
    Status,
    TaskFinished,
    TaskSubmitted,
    WorkerJoined,
    WorkerLost,
    from_json,
    from_mapping,
    to_json,
)
from plancast.planner.planning.plan import plan
from tests.oracles.random_requests import random_request


@pytest.mark.parametrize("seed", range(20))
def test_request_and_response_survive_json(seed: int) -> None:
    """A field lost on the wire would make master and planner disagree in silence."""
    request = random_request(seed)
    assert from_json(PlanRequest, to_json(request)) == request
    response = plan(request, "greedy")
    assert from_json(PlanResponse, to_json(response)) == response


@pytest.mark.parametrize(
    "event",
    [
        TaskSubmitted(1, Task("t", {"cpu": 1})),
        TaskFinished(2, "t"),
        WorkerLost(3, "w"),
        WorkerJoined(4, Worker("w", {"cpu": 1}, labels=frozenset({"a", "b"}))),
    ],
    ids=lambda e: e.kind,
)
def test_events_survive_json(event: Any) -> None:
    """An event read as another kind would corrupt the snapshot."""
    assert from_json(Event, to_json(event)) == event  # type: ignore[arg-type]


def request_json() -> dict[str, Any]:
    """A small request as the dictionaries of its JSON."""
    snapshot = Snapshot(0, 0, (Worker("w", {"cpu": 4}),), (Task("t", {"cpu": 1}),))
    request = PlanRequest("r", snapshot, {"t": {"*": DurationEstimate.certain(5)}})
    return json.loads(to_json(request))


def _set(value: Any, *path: Any) -> dict[str, Any]:
    document = request_json()
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


FAULTS = {
    "wrong version": (_set(3, "schema_version"), "schema_version is 3"),
    "misspelt field": (_set(1, "sed"), "sed"),
    "text for a number": (_set("many", "snapshot", "workers", 0, "capacity", "cpu"), "workers.0"),
    "fraction of a second": (_set(0.5, "snapshot", "pending", 0, "release_s"), "release_s"),
    "no workers": (_set([], "snapshot", "workers"), "no workers"),
    "unknown predecessor": (_set(["x"], "snapshot", "pending", 0, "after"), "after names 'x'"),
    "own predecessor": (_set(["t"], "snapshot", "pending", 0, "after"), "names the task itself"),
    "deadline before release": (_set(-5, "snapshot", "pending", 0, "deadline_s"), "lies before"),
    "negative weight": (_set(-1, "snapshot", "pending", 0, "weight"), "weight"),
    "level of one": (_set(1.0, "policy", "level"), "level"),
    "negative price": (_set(-1.0, "policy", "prices", "kwh"), "price of kwh"),
    "unknown price": (_set(1.0, "policy", "prices", "kWh"), "kWh"),
    "falling quantiles": (
        _set({"*": {"levels": [0.5, 0.9], "seconds": [9, 5]}}, "estimates", "t"),
        "non-decreasing",
    ),
    "empty budget": (_set({"seconds": None, "steps": None}, "budget"), "seconds or steps"),
}


def test_equal_values_are_one_text() -> None:
    """A batch could not be resumed: each process has sets in another order, and digests differ."""
    worker = Worker("w", {"cpu": 1}, labels=frozenset("qwertzuiopasdfghjkl"))
    assert json.loads(to_json(worker))["labels"] == sorted("qwertzuiopasdfghjkl")
    assert from_json(Worker, to_json(worker)) == worker


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_request_is_refused_by_naming_the_fault(fault: str) -> None:
    """A vague refusal, or none, would leave the sender guessing."""
    document, expected = FAULTS[fault]
    with pytest.raises(BadRequest) as refusal:
        from_json(PlanRequest, json.dumps(document), source="request.json")
    assert str(refusal.value).startswith("request.json: ")
    assert expected in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_field_with_a_long_name_is_refused_in_a_short_sentence() -> None:
    """A body of a gigabyte would come back as an error message."""
    fields = json.loads(to_json(random_request(1))) | {"x" * 3000: 1}
    with pytest.raises(BadRequest) as caught:
        from_mapping(PlanRequest, fields)
    assert str(caught.value).startswith(f"message: {'x' * 100}...: is no field here")
    assert len(str(caught.value)) < 300


def test_a_cycle_is_named_by_its_tasks() -> None:
    """Without the names nobody finds a cycle among ten thousand tasks."""
    tasks = (
        Task("a", {"cpu": 1}, after=("c",)),
        Task("b", {"cpu": 1}, after=("a",)),
        Task("c", {"cpu": 1}, after=("b",)),
        Task("d", {"cpu": 1}, after=("a",)),
    )
    with pytest.raises(BadRequest, match="cycle: ") as refusal:
        Snapshot(0, 0, (Worker("w", {"cpu": 4}),), tasks)
    assert all(f" {name} " in f" {refusal.value} ".replace(";", " ") for name in "abc")
    assert " d " not in str(refusal.value)


def test_estimates_read_quantiles_and_the_remaining_time() -> None:
    """A plan reserves these numbers; a wrong interpolation would misplace every task."""
    estimate = DurationEstimate((0.1, 0.5, 0.9), (10, 20, 60))
    assert [estimate.at(p) for p in (0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)] == [
        10, 10, 15, 20, 40, 60, 60,
    ]  # fmt: skip
    assert estimate.remaining_at(0.5, 0) == 20
    # After 20 s half have ended; the median of the others is the 75% quantile, 45 s.
    assert estimate.remaining_at(0.5, 20) == 25
    # Past the highest level the Pareto tail: as long again.
    assert estimate.remaining_at(0.5, 100) == 100
    assert estimate.remaining_at(0.9, 100) == 900


def test_the_status_of_a_plan_is_one_of_four_words() -> None:
    """A fifth word would be one that no master handles."""
    assert {s.value for s in Status} == {"optimal", "feasible", "infeasible", "no_plan_in_time"}


def test_a_response_of_another_version_is_refused() -> None:
    """Reading a response of a later form as if it were today's would misread it."""
    response = PlanResponse("r", 0, Status.INFEASIBLE)
    text = to_json(response).replace(b'"schema_version":2', b'"schema_version":3')
    with pytest.raises(BadRequest, match="schema_version is 3"):
        from_json(PlanResponse, text)
    assert replace(response) == response
