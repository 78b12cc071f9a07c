"""The basic assignment problem in PDDL, for planners of the classical kind.

*Basic*: single tasks on workers that run so many at a time whichever they are, whole time
steps, precedence, releases, closed windows, what runs already; the question is whether all
tasks can end by a horizon. Costs, gangs and mixed demands that classical planners cannot count
are refused, not simplified.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Ints, Problem
from plancast.planner.arrays.relations import refuse_relations
from plancast.planner.model.domain import Assignment, BadRequest, Plan
from plancast.planner.model.messages import PlanRequest

MOST_ACTIONS = 100_000
"""Actions beyond which no classical planner would read the file."""


@dataclass(frozen=True)
class Pddl:
    """A domain and a problem, and what the step of time is.

    Parameters
    ----------
    domain, problem : str
        The texts of the two files.
    step_s : int
        Seconds of a step: the greatest that divides all times.
    steps : int
        The horizon.
    actions : int
    """

    domain: str
    problem: str
    step_s: int
    steps: int
    actions: int


def export_pddl(request: PlanRequest, horizon_s: int) -> Pddl:
    """The question whether all tasks can end within a horizon, in PDDL.

    Parameters
    ----------
    request : PlanRequest
    horizon_s : int
        Seconds after now by which everything must have ended; rounded down to a step.

    Returns
    -------
    Pddl
        In STRIPS: ``(todo T)``, ``(ended T K)``: task T has ended by step K, ``(free S K)``:
        slot S is free in step K. An action ``assign-T-S-K`` starts task T on slot S at step K.
        Tasks and slots are numbered; comments tell their names.

    Raises
    ------
    BadRequest
        For gangs, for workers whose number of tasks at a time depends on which they are, for
        tasks that cannot be planned, and where there are too many actions.
    """
    request.snapshot.refuse_modes("export pddl")
    request.snapshot.refuse_counted("export pddl")
    refuse_relations(request.snapshot, "export pddl")
    request.snapshot.refuse_devices("export pddl")
    problem = encode(request)
    _refuse(problem)
    slots = [(w, s) for w in range(len(problem.workers)) for s in range(_slots(problem, w))]
    step = _step(problem)
    steps = horizon_s // step
    if steps < 1:
        raise BadRequest(
            f"export pddl: the horizon of {horizon_s} s is less than a step of {step} s"
        )
    free = [_free_steps(problem, w, s, step, steps) for w, s in slots]
    actions = []
    for action in _actions(problem, slots, free, step, steps):
        actions.append(action)
        if len(actions) > MOST_ACTIONS:
            raise BadRequest(
                f"export pddl: more than {MOST_ACTIONS:,} actions; a step is {step} s "
                f"and the horizon {steps:,} steps: give a nearer horizon or coarser times"
            )
    tasks = range(len(problem.tasks))
    names = [f"; t{i} is task {problem.tasks[i].id}" for i in tasks]
    names += [f"; s{k} is worker {problem.workers[w].id}" for k, (w, _) in enumerate(slots)]
    domain = "\n".join(
        [
            f"; {request.request_id}: a step is {step} s, the horizon {steps} steps",
            *names,
            "(define (domain assignment)",
            "  (:requirements :strips :typing)",
            "  (:types task slot step - object)",
            "  (:constants",
            "    " + " ".join(f"t{i}" for i in tasks) + " - task",
            "    " + " ".join(f"s{k}" for k in range(len(slots))) + " - slot",
            "    " + " ".join(f"k{k}" for k in range(steps + 1)) + " - step)",
            "  (:predicates (todo ?t - task) (done ?t - task) (ended ?t - task ?k - step)",
            "    (free ?s - slot ?k - step))",
            *actions,
            ")",
            "",
        ]
    )
    init = [f"(todo t{i})" for i in tasks]
    init += [f"(free s{s} k{k})" for s in range(len(slots)) for k in np.flatnonzero(free[s])]
    question = "\n".join(
        [
            "(define (problem batch)",
            "  (:domain assignment)",
            "  (:init " + "\n    ".join(init) + ")",
            "  (:goal (and " + " ".join(f"(done t{i})" for i in tasks) + ")))",
            "",
        ]
    )
    return Pddl(domain, question, step, steps, len(actions))


def read_pddl_plan(request: PlanRequest, exported: Pddl, lines: str) -> Plan:
    """The plan that a classical planner found, one action a line.

    Raises
    ------
    BadRequest
        For a line that is no action of the export.
    """
    problem = encode(request)
    slots = [w for w in range(len(problem.workers)) for _ in range(_slots(problem, w))]
    now = request.snapshot.now_s
    rows = []
    for number, line in enumerate(lines.split("\n"), start=1):
        if not line.strip() or line.strip().startswith(";"):
            continue
        found = re.fullmatch(r"\(?assign-t(\d+)-s(\d+)-k(\d+)\s*\)?", line.strip())
        if not found or int(found[1]) >= len(problem.tasks) or int(found[2]) >= len(slots):
            raise BadRequest(f"plan of a classical planner, line {number}: {line!r} is no action")
        i, w, k = int(found[1]), slots[int(found[2])], int(found[3])
        start_s = now + k * exported.step_s
        end_s = start_s + int(problem.durations_on(i)[w])
        rows.append(Assignment(problem.tasks[i].id, (problem.workers[w].id,), start_s, end_s))
    rows.sort(key=lambda a: (a.start_s, a.end_s, a.task))
    return Plan(tuple(rows), (), now, request.snapshot.version)


def _refuse(problem: Problem) -> None:
    if problem.unplanned or problem.infeasible:
        name, why = next(iter({**problem.unplanned, **problem.infeasible}.items()))
        raise BadRequest(f"export pddl: task {name} cannot be planned: {why}")
    if not problem.tasks:
        raise BadRequest("export pddl: there is nothing to plan")
    for task in problem.tasks:
        if task.shards > 1:
            raise BadRequest(
                f"export pddl: task {task.id} has {task.shards} shards; classical planning "
                "places one task at a time"
            )


def _able(problem: Problem, w: int) -> list[int]:
    return [i for i in range(len(problem.tasks)) if problem.durations_on(i)[w] > 0]


def _slots(problem: Problem, w: int) -> int:
    """How many tasks a worker runs at a time, whichever they are."""
    able = _able(problem, w)
    capacity = problem.capacity[w]

    def fit(tasks: list[int]) -> bool:
        return bool((problem.demand[tasks].sum(axis=0) <= capacity).all())

    if all(not fit([i, j]) for i in able for j in able if i < j):
        return 1 if able else 0
    largest = problem.demand[able].max(axis=0)
    smallest = problem.demand[able].min(axis=0)
    most = [int(c // d) for c, d in zip(capacity, largest, strict=True) if d > 0]
    count = min([len(able), *most])
    # One task more must not fit, even of the smallest.
    if count < len(able) and not ((count + 1) * smallest > capacity).any():
        raise BadRequest(
            f"export pddl: how many tasks worker {problem.workers[w].id} runs at a time depends "
            f"on which they are{_unlike(problem, w, able)}; classical planning counts tasks, not "
            "cores or memory: export tasks that all take the same of a worker, or each more than "
            "half of it"
        )
    return count


def _unlike(problem: Problem, w: int, able: list[int]) -> str:
    """The two tasks of which a worker runs most and least, in brackets; nothing if those agree."""
    room = []
    for i in able:
        parts = zip(problem.capacity[w], problem.demand[i], strict=True)
        room.append(min((int(c // d) for c, d in parts if d), default=len(able)))
    few, many = room.index(min(room)), room.index(max(room))
    if room[few] == room[many]:
        return ""
    names = [problem.tasks[able[k]].id for k in (few, many)]
    return f" ({room[few]} like {names[0]}, {room[many]} like {names[1]})"


def _step(problem: Problem) -> int:
    """The greatest step that divides every time that matters."""
    times = [int(d) for d in problem.duration.ravel() if d > 0]
    times += [int(t) for t in problem.release]
    times += [int(t) for t in problem.busy_end]
    times += [int(t) for t in (*problem.shut_start, *problem.shut_end)]
    times += [int(t) for t in (*problem.hard_end, *problem.last_start)]
    return max(1, math.gcd(*(t for t in times if 0 < t < 1 << 40)))


def _free_steps(problem: Problem, w: int, slot: int, step: int, steps: int) -> Ints:
    """Whether a slot is free in each step. Shape (steps,)."""
    free = np.ones(steps, np.bool_)
    for k in np.flatnonzero(problem.shut_worker == w):
        free[int(problem.shut_start[k]) // step : int(problem.shut_end[k]) // step] = False
    running = np.flatnonzero(problem.busy_worker == w)
    # What runs takes the first slots, one each: that holds where it takes as much as a task,
    # or where nothing fits beside it.
    able, held = _able(problem, w), problem.busy_demand[running]
    alone = _slots(problem, w) == 1
    equal = all((problem.demand[able] == d).all() for d in held)
    beside = [problem.demand[able] + d <= problem.capacity[w] for d in held]
    if any(fits.all(axis=1).any() for fits in beside) if alone else not equal:
        raise BadRequest(
            f"export pddl: what runs on worker {problem.workers[w].id} takes another part "
            "of it than the tasks to plan"
        )
    if alone and len(running):
        free[: int(problem.busy_end[running].max()) // step] = False
    elif slot < len(running):
        ends = np.sort(problem.busy_end[running])[::-1]
        free[: int(ends[slot]) // step] = False
    return free.astype(np.int64)


def _actions(
    problem: Problem, slots: list[tuple[int, int]], free: list[Ints], step: int, steps: int
) -> Iterator[str]:
    for i in range(len(problem.tasks)):
        on_worker = problem.durations_on(i)
        before = [int(p) for p in problem.predecessors(i)]
        for s, (w, _) in enumerate(slots):
            length = int(on_worker[w]) // step
            latest = min(steps - length, problem.latest_start(i, int(on_worker[w])) // step)
            for k in range(int(problem.release[i]) // step, latest + 1 if length else 0):
                if not free[s][k : k + length].all():
                    continue
                taken = [f"(free s{s} k{j})" for j in range(k, k + length)]
                needs = [f"(todo t{i})", *taken, *(f"(ended t{p} k{k})" for p in before)]
                gives = [f"(done t{i})", f"(not (todo t{i}))", *(f"(not {cell})" for cell in taken)]
                gives += [f"(ended t{i} k{j})" for j in range(k + length, steps + 1)]
                yield (
                    f"  (:action assign-t{i}-s{s}-k{k}\n    :parameters ()\n"
                    f"    :precondition (and {' '.join(needs)})\n"
                    f"    :effect (and {' '.join(gives)}))"
                )
