"""Damages of a plan: its assignments, their workers, bounds, preemption and versions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from plancast.planner.model.domain import RELATIVE_TOLERANCE, Task, estimate_for
from plancast.planner.model.evaluate import evaluate, moved_tasks, relative_gap
from plancast.planner.model.spans import running_end_s
from tests.contracts.damages import FAR_S, KIND, Case, Expected, damage

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
