"""``plancast validate``: whatever is damaged in a response is named, every time.

Each damage is built so that it always is one: it looks for a response that it can break,
and returns what the validator has to say of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plancast.pipelines.cli import main
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import RELATIVE_TOLERANCE, Assignment, Plan, Task, estimate_for
from plancast.planner.model.evaluate import evaluate, moved_tasks, relative_gap
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import Budget, PlanRequest, PlanResponse, to_json
from plancast.planner.model.spans import running_end_s
from plancast.planner.model.violations import ViolationKind
from plancast.planner.planning.plan import plan
from tests.oracles.random_requests import random_request

KIND = ViolationKind
FAR_S = 7200
EACH = 4
"""Cases of each damage."""


@dataclass
class Case:
    """A response about to be damaged: `body` is what will be written, unless `text` is set."""

    request: PlanRequest
    response: PlanResponse
    rng: np.random.Generator
    body: dict[str, Any] = field(init=False)
    text: str | None = None

    def __post_init__(self) -> None:
        self.body = json.loads(to_json(self.response))

    @property
    def tasks(self) -> dict[str, Task]:
        """Pending tasks, and running ones that may be preempted and planned anew, by id."""
        snapshot = self.request.snapshot
        running = {name: r.task for name, r in snapshot.running_by_id.items()}
        return {**snapshot.pending_by_id, **running}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The assignments that will be written."""
        return self.body["plan"]["assignments"] if self.body["plan"] else []

    def pick(self, items: Any) -> Any:
        """One of them, or None where there is none."""
        items = list(items)
        return items[int(self.rng.integers(len(items)))] if items else None

    def row(self, fits: Callable[[dict[str, Any], Task], object] = lambda r, t: True) -> Any:
        """A random assignment that fits, or None."""
        return self.pick(r for r in self.rows if fits(r, self.tasks[r["task"]]))

    def put(self, row: dict[str, Any], start_s: int) -> None:
        """Move an assignment, its duration kept."""
        row["start_s"], row["end_s"] = start_s, start_s + row["end_s"] - row["start_s"]

    def workers(self, row: dict[str, Any]) -> list[Any]:
        """The workers of an assignment."""
        return [self.request.snapshot.worker_by_id[w] for w in row["workers"]]


Expected = tuple[ViolationKind | None, str] | None
"""The kind and a piece of its text; None for JSON that cannot be read, with a piece of the
sentence; nothing at all where this response cannot be damaged so."""
Damage = Callable[[Case], Expected]
DAMAGES: dict[str, Damage] = {}


def damage(function: Damage) -> Damage:
    """Register a damage by its name."""
    DAMAGES[function.__name__.lstrip("_")] = function
    return function


# --------------------------------------------------------------------------- assignments


@damage
def _drop_an_assignment(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    case.rows.remove(row)
    return KIND.TASK_MISSING, f"task {row['task']} is not in the plan"


@damage
def _drop_a_task_as_unplaceable_and_price_the_rest(case: Case) -> Expected:
    followed = {before for task in case.tasks.values() for before in task.after}
    pending = case.request.snapshot.pending_by_id
    if (row := case.row(lambda r, t: t.id in pending and t.id not in followed)) is None:
        return None
    case.rows.remove(row)
    name = row["task"]
    assert case.response.plan is not None
    kept = tuple(a for a in case.response.plan.assignments if a.task != name)
    less = replace(case.response.plan, assignments=kept)
    found = evaluate(case.request, less, unplanned=[*case.response.unplanned, name])
    bound = min(case.response.lower_bound or 0.0, found.cost)
    gap = relative_gap(found.cost, bound)
    case.body |= {
        "cost": found.cost, "terms": dict(found.terms), "lower_bound": bound, "gap": gap,
        "status": "optimal" if gap <= RELATIVE_TOLERANCE else "feasible",
        "moved": moved_tasks(case.request, less),
    }  # fmt: skip
    case.body["unplanned"][name] = "it does not fit"
    case.body["why"].pop(name, None)
    return KIND.WRONG_UNPLANNED, f"task {name} is unplanned, but would fit"


@damage
def _double_an_assignment(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    case.rows.append(dict(row))
    return KIND.TASK_TWICE, row["task"]


@damage
def _start_in_the_past(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    case.put(row, case.request.snapshot.now_s - int(case.rng.integers(1, FAR_S)))
    return KIND.STARTS_IN_PAST, f"task {row['task']} starts"


@damage
def _start_before_release(case: Case) -> Expected:
    now = case.request.snapshot.now_s
    if (row := case.row(lambda r, t: t.release_s > now)) is None:
        return None
    case.put(row, int(case.rng.integers(now, case.tasks[row["task"]].release_s)))
    return KIND.BEFORE_RELEASE, f"task {row['task']} starts"


@damage
def _start_before_a_predecessor_ends(case: Case) -> Expected:
    now = case.request.snapshot.now_s
    ends = {r["task"]: r["end_s"] for r in case.rows}
    for run in case.request.snapshot.running:
        ends[run.task.id] = running_end_s(case.request, run)
    row = case.row(lambda r, t: any(ends.get(b, 0) > max(now, t.release_s) for b in t.after))
    if row is None:
        return None
    task = case.tasks[row["task"]]
    before = max((b for b in task.after if b in ends), key=ends.__getitem__)
    case.put(row, ends[before] - 1)
    return KIND.BEFORE_PREDECESSOR, f"before {before} ends"


@damage
def _start_later_than_priced(case: Case) -> Expected:
    if (row := case.row(lambda r, t: t.weight >= 0.5)) is None:
        return None
    case.put(row, row["start_s"] + int(case.rng.integers(FAR_S, 2 * FAR_S)))
    return KIND.WRONG_TERMS, "term wait_h"


@damage
def _run_longer(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    row["end_s"] += int(case.rng.integers(1, FAR_S))
    return KIND.WRONG_DURATION, row["task"]


@damage
def _run_shorter(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    row["end_s"] -= int(case.rng.integers(1, row["end_s"] - row["start_s"] + 1))
    return KIND.WRONG_DURATION, row["task"]


@damage
def _end_before_the_start(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    row["start_s"], row["end_s"] = row["end_s"], row["start_s"]
    return KIND.WRONG_DURATION, row["task"]


# --------------------------------------------------------------------------- workers


@damage
def _an_unknown_task(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    row["task"] = "ghost"
    return KIND.UNKNOWN_TASK, "ghost"


@damage
def _an_unknown_worker(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    row["workers"][0] = "ghost"
    return KIND.UNKNOWN_WORKER, "ghost"


def _moved_to(case: Case, is_wrong: Callable[[Any, Task], object]) -> tuple[str, str] | None:
    """Put the first piece of a task on a worker that is wrong for it; the task and the worker."""
    pairs = [
        (row, worker)
        for row in case.rows
        for worker in case.request.snapshot.workers
        if is_wrong(worker, case.tasks[row["task"]])
    ]
    if not pairs:
        return None
    row, worker = case.pick(pairs)
    row["workers"][0] = worker.id
    return row["task"], worker.id


@damage
def _a_worker_that_is_not_eligible(case: Case) -> Expected:
    found = case.request.estimates
    moved = _moved_to(case, lambda w, t: estimate_for(found, t.id, w.machine_class) is None)
    return moved and (KIND.NOT_ELIGIBLE, f"worker {moved[1]}")


@damage
def _a_worker_without_the_label(case: Case) -> Expected:
    moved = _moved_to(case, lambda w, t: not w.satisfies(t.requires))
    return moved and (KIND.LABEL_MISSING, f"worker {moved[1]}")


@damage
def _a_worker_that_is_too_small(case: Case) -> Expected:
    moved = _moved_to(
        case, lambda w, t: any(a > w.capacity.get(name, 0) for name, a in t.demand.items())
    )
    return moved and (KIND.OVER_CAPACITY, f"worker {moved[1]}")


@damage
def _a_worker_on_which_it_runs_for_another_time(case: Case) -> Expected:
    level, found = case.request.policy.level, case.request.estimates
    said = {r["task"]: r["end_s"] - r["start_s"] for r in case.rows}

    def is_wrong(worker: Any, task: Task) -> bool:
        estimate = estimate_for(found, task.id, worker.machine_class)
        return task.shards == 1 and estimate is not None and estimate.at(level) != said[task.id]

    moved = _moved_to(case, is_wrong)
    return moved and (KIND.WRONG_DURATION, moved[0])


@damage
def _swapped_workers_of_a_task_with_labels(case: Case) -> Expected:
    pairs = [
        (a, b)
        for a in case.rows
        for b in case.rows
        if any(not w.satisfies(case.tasks[a["task"]].requires) for w in case.workers(b))
    ]
    if not pairs:
        return None
    a, b = case.pick(pairs)
    a["workers"], b["workers"] = b["workers"], a["workers"]
    return KIND.LABEL_MISSING, f"task {a['task']} requires"


@damage
def _two_tasks_where_one_fits(case: Case) -> Expected:
    def overbooked(a: dict[str, Any], b: dict[str, Any], name: str) -> bool:
        capacity = case.request.snapshot.worker_by_id[name].capacity
        return any(
            sum(
                r["workers"].count(name) * case.tasks[r["task"]].demand.get(resource, 0)
                for r in (a, b)
            )
            > capacity.get(resource, 0)
            for resource in case.tasks[a["task"]].demand
            if min(case.tasks[r["task"]].demand.get(resource, 0) for r in (a, b)) > 0
        )

    pairs = [
        (a, b, name)
        for a in case.rows
        for b in case.rows
        for name in set(a["workers"]) & set(b["workers"])
        if a is not b and overbooked(a, b, name)
    ]
    if not pairs:
        return None
    a, b, name = case.pick(pairs)
    case.put(a, b["start_s"])
    return KIND.OVER_CAPACITY, f"worker {name}"


@damage
def _a_piece_too_few(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    row["workers"].pop()
    return KIND.WRONG_SHARDS, row["task"]


@damage
def _a_piece_too_many(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    row["workers"].append(row["workers"][0])
    return KIND.WRONG_SHARDS, row["task"]


@damage
def _past_the_drain(case: Case) -> Expected:
    if (row := case.row(lambda r, t: case.workers(r)[0].until_s is not None)) is None:
        return None
    worker = case.workers(row)[0]
    case.put(row, worker.until_s + int(case.rng.integers(FAR_S)))
    return KIND.WORKER_DRAINED, f"worker {worker.id}"


@damage
def _before_the_worker_is_free(case: Case) -> Expected:
    now = case.request.snapshot.now_s
    if (row := case.row(lambda r, t: case.workers(r)[0].free_at(now) > now)) is None:
        return None
    worker = case.workers(row)[0]
    case.put(row, int(case.rng.integers(now, worker.free_at(now))))
    return KIND.WORKER_NOT_FREE, f"worker {worker.id}"


@damage
def _into_a_blocked_window(case: Case) -> Expected:
    if (row := case.row(lambda r, t: case.workers(r)[0].blocked)) is None:
        return None
    worker = case.workers(row)[0]
    window = case.pick(worker.blocked)
    case.put(row, int(case.rng.integers(window.start_s, window.end_s)))
    return KIND.WORKER_BLOCKED, f"of worker {worker.id}"


# --------------------------------------------------------------------------- bounds


@damage
def _past_a_hard_deadline(case: Case) -> Expected:
    if not case.request.policy.hard_deadlines:
        return None
    if (row := case.row(lambda r, t: t.deadline_s is not None)) is None:
        return None
    deadline_s = case.tasks[row["task"]].deadline_s
    assert deadline_s is not None
    case.put(row, deadline_s + int(case.rng.integers(FAR_S)))
    return KIND.HARD_DEADLINE, row["task"]


@damage
def _past_the_wait_bound(case: Case) -> Expected:
    bound_s = case.request.policy.max_wait_s
    if bound_s is None or (row := case.row()) is None:
        return None
    ready_s = max(case.request.snapshot.now_s, case.tasks[row["task"]].release_s)
    case.put(row, ready_s + bound_s + int(case.rng.integers(1, FAR_S)))
    return KIND.WAIT_BOUND, row["task"]


@damage
def _past_the_stretch_bound(case: Case) -> Expected:
    bound = case.request.policy.max_stretch
    if bound is None or (row := case.row()) is None:
        return None
    slow_s = max(10, row["end_s"] - row["start_s"])
    case.put(row, case.tasks[row["task"]].release_s + int(bound * slow_s) + FAR_S)
    return KIND.STRETCH_BOUND, row["task"]


# --------------------------------------------------------------------------- preemption, versions


@damage
def _preempt_what_does_not_run(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    case.body["plan"]["preempted"].append(row["task"])
    return KIND.PREEMPTED_NOT_RUNNING, row["task"]


@damage
def _preempt_what_may_not_be(case: Case) -> Expected:
    kept = [r.task.id for r in case.request.snapshot.running if not r.task.preemptible]
    if not case.body["plan"] or not kept:
        return None
    name = case.pick(kept)
    case.body["plan"]["preempted"].append(name)
    return KIND.NOT_PREEMPTIBLE, name


@damage
def _preempt_and_forget(case: Case) -> Expected:
    loose = [r.task.id for r in case.request.snapshot.running if r.task.preemptible]
    if not case.body["plan"] or not loose:
        return None
    name = case.pick(loose)
    case.body["plan"]["preempted"].append(name)
    return KIND.TASK_MISSING, name


@damage
def _a_plan_made_at_another_time(case: Case) -> Expected:
    if not case.body["plan"]:
        return None
    case.body["plan"]["made_at_s"] += 1
    return KIND.STALE_SNAPSHOT, "the plan was made"


@damage
def _a_plan_of_another_version(case: Case) -> Expected:
    if not case.body["plan"]:
        return None
    case.body["plan"]["snapshot_version"] -= 1
    return KIND.STALE_SNAPSHOT, "the plan was made"


@damage
def _a_response_to_another_version(case: Case) -> Expected:
    case.body["snapshot_version"] += 1
    return KIND.STALE_SNAPSHOT, "the response is for"


@damage
def _a_response_to_another_request(case: Case) -> Expected:
    case.body["request_id"] += "x"
    return KIND.WRONG_REQUEST, "answers request"


# --------------------------------------------------------------------------- status, cost, bound


@damage
def _no_plan_said_where_there_is_one(case: Case) -> Expected:
    if not case.body["plan"]:
        return None
    case.body["status"] = case.pick(["infeasible", "no_plan_in_time"])
    return KIND.WRONG_STATUS, "but there is a plan"


@damage
def _a_plan_said_where_there_is_none(case: Case) -> Expected:
    if case.body["plan"]:
        return None
    case.body["status"] = case.pick(["feasible", "optimal"])
    return KIND.WRONG_STATUS, "but there is no plan"


@damage
def _the_plan_taken_out(case: Case) -> Expected:
    if not case.body["plan"]:
        return None
    case.body["plan"] = None
    return KIND.WRONG_STATUS, "but there is no plan"


@damage
def _the_plan_taken_out_and_its_cost_left(case: Case) -> Expected:
    if not case.body["plan"]:
        return None
    case.body |= {"plan": None, "status": "no_plan_in_time"}
    return KIND.WRONG_COST, "of no plan"


@damage
def _called_impossible_though_it_was_planned(case: Case) -> Expected:
    snapshot, policy = case.request.snapshot, case.request.policy
    bounded = policy.hard_deadlines or policy.max_wait_s is not None or policy.max_stretch
    drains = any(w.until_s is not None for w in snapshot.workers)
    if bounded or drains or case.row(lambda r, t: not set(t.after) & set(case.tasks)) is None:
        return None
    case.body |= {
        "plan": None, "status": "infeasible", "cost": None, "terms": {}, "lower_bound": None,
        "gap": None, "moved": [], "why": {},
    }  # fmt: skip
    return KIND.WRONG_STATUS, "would fit once workers are free"


@damage
def _optimal_called_feasible(case: Case) -> Expected:
    if case.body["status"] != "optimal":
        return None
    case.body["status"] = "feasible"
    return KIND.WRONG_STATUS, "proves the plan optimal"


@damage
def _feasible_called_optimal(case: Case) -> Expected:
    if case.body["status"] != "feasible":
        return None
    case.body["status"] = "optimal"
    return KIND.WRONG_BOUND, "the status is optimal"


@damage
def _another_cost(case: Case) -> Expected:
    if case.body["cost"] is None:
        return None
    case.body["cost"] += (1 + case.body["cost"]) * float(case.rng.choice([-0.5, 1e-4, 3]))
    return KIND.WRONG_COST, "cost is said to be"


@damage
def _no_cost(case: Case) -> Expected:
    if case.body["cost"] is None:
        return None
    case.body["cost"] = None
    return KIND.WRONG_COST, "cost is said to be None"


@damage
def _another_term(case: Case) -> Expected:
    if not case.body["terms"]:
        return None
    term = case.pick(case.body["terms"])
    case.body["terms"][term] += (1 + case.body["terms"][term]) * float(case.rng.choice([-0.5, 2]))
    return KIND.WRONG_TERMS, f"term {term} is said"


@damage
def _a_term_left_out(case: Case) -> Expected:
    if not case.body["terms"]:
        return None
    term = case.pick(case.body["terms"])
    del case.body["terms"][term]
    return KIND.WRONG_TERMS, f"term {term} is said to be None"


@damage
def _a_term_that_does_not_exist(case: Case) -> Expected:
    if not case.body["terms"]:
        return None
    case.body["terms"]["beauty"] = 0.0
    return KIND.WRONG_TERMS, "term beauty"


@damage
def _a_bound_above_the_cost(case: Case) -> Expected:
    if case.body["cost"] is None:
        return None
    case.body |= {"lower_bound": 1.01 * case.body["cost"] + 0.01, "gap": 0.0, "status": "optimal"}
    return KIND.WRONG_BOUND, "exceeds the cost"


@damage
def _no_bound(case: Case) -> Expected:
    if case.body["lower_bound"] is None:
        return None
    case.body["lower_bound"] = None
    return KIND.WRONG_BOUND, "needs a lower bound"


@damage
def _another_gap(case: Case) -> Expected:
    if case.body["gap"] is None:
        return None
    case.body["gap"] = case.pick([case.body["gap"] + 0.01, case.body["gap"] / 2 + 0.6, None])
    gap = relative_gap(case.body["cost"], case.body["lower_bound"])
    if case.body["gap"] is not None and abs(case.body["gap"] - gap) < 1e-3:
        return None
    return KIND.WRONG_BOUND, "the gap is said"


# --------------------------------------------------------------------------- moved, unplanned, why


@damage
def _a_move_made_up(case: Case) -> Expected:
    still = [name for name in case.tasks if name not in case.body["moved"]]
    if not case.body["plan"] or not still:
        return None
    case.body["moved"].append(case.pick(still))
    return KIND.WRONG_MOVED, "moved is said"


@damage
def _a_move_kept_quiet(case: Case) -> Expected:
    if not case.body["moved"]:
        return None
    case.body["moved"].remove(case.pick(case.body["moved"]))
    return KIND.WRONG_MOVED, "moved is said"


@damage
def _a_planned_task_called_unplanned(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    case.body["unplanned"][row["task"]] = "it does not fit"
    return KIND.WRONG_UNPLANNED, f"task {row['task']} is unplanned and planned"


@damage
def _an_unknown_task_called_unplanned(case: Case) -> Expected:
    case.body["unplanned"]["ghost"] = "it does not fit"
    return KIND.WRONG_UNPLANNED, "ghost"


@damage
def _an_unplanned_task_kept_quiet(case: Case) -> Expected:
    if not case.body["plan"] or not case.body["unplanned"]:
        return None
    name = case.pick(case.body["unplanned"])
    del case.body["unplanned"][name]
    return KIND.TASK_MISSING, name


@damage
def _unplanned_without_a_reason(case: Case) -> Expected:
    if not case.body["unplanned"]:
        return None
    name = case.pick(case.body["unplanned"])
    case.body["unplanned"][name] = ""
    return KIND.WRONG_UNPLANNED, f"no reason for '{name}'"


@damage
def _an_unknown_task_called_waiting(case: Case) -> Expected:
    case.body["why"]["ghost"] = "waits 5 s"
    return KIND.WRONG_UNPLANNED, "ghost"


@damage
def _a_task_called_waiting_that_does_not(case: Case) -> Expected:
    row = case.row(lambda r, t: t.id not in case.body["why"])
    if row is None:
        return None
    case.body["why"][row["task"]] = "waits 5 s"
    return KIND.WRONG_UNPLANNED, f"{row['task']} waits, which it does not"


@damage
def _waiting_without_a_reason(case: Case) -> Expected:
    if not case.body["why"]:
        return None
    name = case.pick(case.body["why"])
    case.body["why"][name] = ""
    return KIND.WRONG_UNPLANNED, f"no reason for {name}"


# --------------------------------------------------------------------------- JSON


@damage
def _cut_off(case: Case) -> Expected:
    text = json.dumps(case.body)
    case.text = text[: int(case.rng.integers(1, len(text)))]
    return None, "is not JSON: "


@damage
def _empty(case: Case) -> Expected:
    case.text = ""
    return None, "is not JSON: "


@damage
def _not_an_object(case: Case) -> Expected:
    case.text = case.pick(["[]", "null", "3", '"response"'])
    return None, "object"


@damage
def _not_a_number(case: Case) -> Expected:
    if case.body["cost"] is None:
        return None
    key = case.pick(["cost", "lower_bound", "gap", "wall_s"])
    case.body[key] = float(case.pick(["nan", "inf", "-inf"]))
    return None, f"{key}: must be a finite number"


@damage
def _a_term_that_is_not_a_number(case: Case) -> Expected:
    if not case.body["terms"]:
        return None
    term = case.pick(case.body["terms"])
    case.body["terms"][term] = case.pick([float("nan"), "much", None, [1]])
    return None, f"terms.{term}: must be a"


@damage
def _an_unknown_field(case: Case) -> Expected:
    case.body["colour"] = "red"
    return None, "colour: "


@damage
def _an_unknown_field_of_the_plan(case: Case) -> Expected:
    if not case.body["plan"]:
        return None
    case.body["plan"]["colour"] = "red"
    return None, "plan.colour: "


@damage
def _an_unknown_field_of_an_assignment(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    row["colour"] = "red"
    return None, f"plan.assignments.{case.rows.index(row)}.colour: "


@damage
def _a_field_left_out(case: Case) -> Expected:
    key = case.pick(["request_id", "snapshot_version", "status"])
    del case.body[key]
    return None, f"{key}: is missing; add it"


@damage
def _a_field_of_an_assignment_left_out(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    key = case.pick([name for name in row if name != "mode"])
    place = case.rows.index(row)
    del row[key]
    return None, f"plan.assignments.{place}.{key}: is missing; add it"


@damage
def _a_time_that_is_no_whole_number(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    key = case.pick(["start_s", "end_s"])
    row[key] = case.pick([row[key] + 0.5, "soon", None, [row[key]]])
    return None, f"plan.assignments.{case.rows.index(row)}.{key}: must be a whole number"


@damage
def _workers_that_are_no_list_of_names(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    row["workers"] = case.pick(["w0", None, {"w0": 1}, [0]])
    return None, f"plan.assignments.{case.rows.index(row)}.workers"


@damage
def _a_word_that_is_no_status(case: Case) -> Expected:
    case.body["status"] = case.pick(["fine", "OPTIMAL", "", 3, None])
    return None, "status: must be"


@damage
def _another_schema(case: Case) -> Expected:
    case.body["schema_version"] = 3
    return None, "schema_version is 3"


# --------------------------------------------------------------------------- the proof


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
