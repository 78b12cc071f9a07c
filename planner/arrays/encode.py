"""Requests as arrays: the only door from the friendly types to the fast ones.

``encode`` turns a request into arrays over the tasks that can be planned at all, and says why the
others cannot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from plancast.planner.arrays.device_use import device_use
from plancast.planner.arrays.hours import hours_of
from plancast.planner.arrays.problem import (
    NOTHING_SPARE,
    Bools,
    Floats,
    Ints,
    Problem,
    Profile,
    amounts,
    csr,
    horizon_s,
    offsets,
)
from plancast.planner.arrays.relations import (
    ALONE,
    add_alone,
    gang_array,
    link_rows,
    releases,
    shape_of,
    with_choices,
)
from plancast.planner.arrays.running_table import runs_of
from plancast.planner.arrays.schedule import FAR
from plancast.planner.arrays.unplaceable import Room, unplaceable
from plancast.planner.arrays.worker_table import worker_table
from plancast.planner.model.domain import (
    ANY_CLASS,
    BadRequest,
    CountedResource,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.labels import parse
from plancast.planner.model.messages import PlanRequest


def encode(request: PlanRequest, left_out: Mapping[str, str] | None = None) -> Problem:
    """Arrays of a request.

    Parameters
    ----------
    request : PlanRequest
    left_out : mapping of str to str, optional
        Pending tasks that are not to be planned in any case, each with the reason; what follows
        them is left out with them.

    Returns
    -------
    Problem
        Over the pending tasks that are not proven unplaceable; nothing is preempted.
    """
    snapshot, policy = request.snapshot, request.policy
    snapshot.refuse_modes("this way of planning")
    now, workers, pending = snapshot.now_s, snapshot.workers, snapshot.pending
    known = worker_table(workers)
    resources, classes = _resources(snapshot, known.resources), known.classes
    runs = runs_of(request, resources)
    running_end = runs.end_of

    machines = known.arrays(resources, now)
    machines["worker_class"] = known.worker_class.copy()
    hours = hours_of(policy.prices, workers, now) if known.hourly else None
    busy = runs.arrays(known.rates(policy.prices, now), hours)
    task_arrays = _task_arrays(request, pending, classes, running_end)
    kinds, kind_of = _kinds(pending)
    held = counted_arrays(request, running_end)
    pieces = np.array([task.shards for task in pending], np.int64)
    choices = with_choices(kinds, kind_of, pending, pieces)
    _check_horizon(request, task_arrays, machines, busy["busy_end"], held["spare"])
    task_arrays["demand"] = amounts([k.demand for k in kinds], resources)[kind_of]
    allowed, share = _fit(kinds, workers, resources, machines["capacity"])
    devices = device_use(snapshot, running_end, kind_of, allowed)
    whole = add_alone(snapshot, machines, busy, task_arrays)
    resources = (*resources, ALONE) if whole else resources
    task_arrays["gang"] = gang_array(pending, pieces, choices, whole)
    unplanned, infeasible = unplaceable(
        Room(request, task_arrays, machines, busy, held, kind_of, allowed, choices, devices),
        left_out or {},
    )

    keep = [i for i, t in enumerate(pending) if t.id not in unplanned]
    tasks = tuple(pending[i] for i in keep)
    shards = np.array([t.shards for t in tasks], np.int64)
    moved_after, was_on = _incumbent_arrays(request, tasks, shards)
    return Problem(
        request=request,
        tasks=tasks,
        unplanned=unplanned,
        infeasible=infeasible,
        resources=resources,
        classes=classes,
        max_stretch=policy.max_stretch or 0.0,
        weight=np.array([t.weight for t in tasks], np.float64),
        shards=shards,
        shard_ptr=offsets(shards),
        moved_after=moved_after,
        was_on=was_on,
        gone=sum(
            request.incumbent is not None and t in request.incumbent.by_task for t in unplanned
        ),
        kind=kind_of[keep],
        allowed=allowed,
        share=share,
        counted=held["counted"],
        takes=held["takes"][keep],
        spare=held["spare"],
        devices=None if devices is None else devices.of_tasks(keep),
        **_link_arrays(tasks),
        **_owner_arrays(snapshot, tasks, runs.waited_h()),
        **{name: values[keep] for name, values in task_arrays.items()},
        **machines,
        **busy,
    )


def _resources(snapshot: Snapshot, of_workers: Iterable[str]) -> tuple[str, ...]:
    """All that workers have or tasks take."""
    names = {*of_workers, *(name for t in snapshot.pending for name in t.demand)}
    names |= {name for r in snapshot.running for name in r.task.demand}
    return tuple(sorted(names)) or ("cpu",)


def _link_arrays(tasks: Sequence[Task]) -> dict[str, Any]:
    """What each task waits for among the others: ``pred`` and ``link`` of ``Problem``."""
    place = {t.id: i for i, t in enumerate(tasks)}
    links = [link_rows(t, place) if t.after or t.depends else [] for t in tasks]
    pred_ptr, pred = csr(
        [[before for before, ends, _ in rows if ends] if rows else [] for rows in links]
    )
    return {
        "pred_ptr": pred_ptr,
        "pred": pred,
        "link_ptr": offsets([len(rows) for rows in links]),
        "link": np.array([row for rows in links for row in rows], np.int64).reshape(-1, 3),
    }


def _owner_arrays(snapshot: Snapshot, tasks: Sequence[Task], waited_h: Floats) -> dict[str, Any]:
    """Owners, their tasks in the request, and how long those that run have waited."""
    owner_of = [t.owner for t in snapshot.pending] + [r.task.owner for r in snapshot.running]
    owners = tuple(dict.fromkeys(owner_of))
    index = {name: k for k, name in enumerate(owners)}
    owner = np.array([index[name] for name in owner_of], np.int64)
    owner_tasks, owner_wait_h = np.zeros(len(owners)), np.zeros(len(owners))
    np.add.at(owner_tasks, owner, 1.0)
    np.add.at(owner_wait_h, owner[len(snapshot.pending) :], waited_h)
    return {
        "owners": owners,
        "owner": np.array([index[t.owner] for t in tasks], np.int64),
        "owner_tasks": owner_tasks,
        "owner_wait_h": owner_wait_h,
    }


def _check_horizon(
    request: PlanRequest,
    task_arrays: dict[str, Any],
    machines: dict[str, Any],
    busy_end: Ints,
    spare: Profile,
) -> None:
    """Refuse a batch that might not end before what stands for never."""
    end_s = horizon_s(
        task_arrays["release"], task_arrays["duration"], machines["free_from"], busy_end,
        machines["shut_end"], spare,
    )  # fmt: skip
    lags = sum(on.lag_s for t in request.snapshot.pending if t.depends for on in t.depends)
    if (end_s := end_s + lags) >= FAR:
        raise BadRequest(
            f"the batch might end {end_s:.6g} s from now (the last release or end of what "
            f"runs, and all estimates one after the other); it must be less than {FAR} s (2^50). "
            "Are times in milliseconds or nanoseconds?"
        )


def _incumbent_arrays(
    request: PlanRequest, tasks: Sequence[Task], shards: Ints
) -> tuple[Ints, Ints]:
    """``moved_after`` and ``was_on`` of ``Problem``."""
    moved_after = np.full(len(tasks), FAR, np.int64)
    was_on = np.full(int(shards.sum()), -1, np.int64)
    if request.incumbent is None:
        return moved_after, was_on
    index = {w.id: k for k, w in enumerate(request.snapshot.workers)}
    shard_ptr = offsets(shards)
    for i, task in enumerate(tasks):
        before = request.incumbent.by_task.get(task.id)
        if before is None:
            continue
        latest = before.start_s + request.policy.move_tolerance_s
        moved_after[i] = min(latest - request.snapshot.now_s, FAR - 1)
        workers = sorted(index.get(w, -1) for w in before.workers)
        if len(workers) == task.shards and workers[0] >= 0:
            was_on[shard_ptr[i] : shard_ptr[i + 1]] = workers
    return moved_after, was_on


def _after_now(at_s: int | None, now: int) -> int:
    return FAR if at_s is None else at_s - now


def counted_arrays(request: PlanRequest, running_end: Mapping[str, int]) -> dict[str, Any]:
    """``counted``, ``takes`` and ``spare`` of ``Problem``, over all pending tasks."""
    snapshot = request.snapshot
    now, tasks = snapshot.now_s, snapshot.pending
    nothing = {"counted": (), "takes": np.zeros((len(tasks), 0), np.int64), "spare": NOTHING_SPARE}
    if not snapshot.counted:
        return nothing
    wanted: Counter[str] = Counter()
    for task in tasks:
        wanted.update(task.counted)
    runs: dict[str, list[tuple[int, int]]] = {resource.id: [] for resource in snapshot.counted}
    for run in snapshot.running:
        for name, amount in run.task.counted.items():
            runs[name].append((amount, running_end[run.task.id] - now))
    taken = [c for c in snapshot.counted if wanted[c.id]]
    times = _moments(taken, runs, now)
    columns = {}
    for resource in taken:
        held = runs[resource.id]
        amount_at = [resource.at(now + t) for t in times]
        if wanted[resource.id] + sum(a for a, _ in held) > min(amount_at):
            # What runs may hold more than there is.
            columns[resource.id] = [
                max(0, have - sum(a for a, end in held if end > t))
                for t, have in zip(times, amount_at, strict=True)
            ]
    if not columns:
        return nothing
    free_at = np.array([[column[k] for column in columns.values()] for k in range(len(times))])
    spare = np.array([times], np.int64), free_at[None], np.array([len(times)], np.int64)
    takes = amounts([t.counted for t in tasks], tuple(columns))
    return {"counted": tuple(columns), "takes": takes, "spare": spare}


def _moments(
    taken: Sequence[CountedResource], runs: Mapping[str, list[tuple[int, int]]], now: int
) -> list[int]:
    """When, seconds after now, what is free of counted resources changes; now among them."""
    found = {0, *(end for resource in taken for _, end in runs[resource.id])}
    for resource in taken:
        for window in resource.windows:
            found.update(t - now for t in (window.start_s, window.end_s) if t > now)
    return sorted(found)


def _task_arrays(
    request: PlanRequest,
    tasks: Sequence[Task],
    classes: tuple[str, ...],
    running_end: dict[str, int],
) -> dict[str, Any]:
    now, policy = request.snapshot.now_s, request.policy
    release = releases(request.snapshot, running_end)
    hard, level = policy.hard_deadlines, policy.level
    duration = np.zeros((len(tasks), len(classes)), np.int64)
    # As ``estimate_for`` has it, written out: there are ten thousands of them, none by mode.
    known: Mapping[str, Any] = request.estimates
    for i, task in enumerate(tasks):
        by_class = known.get(task.id)
        if not by_class:
            continue
        for_any = by_class.get(ANY_CLASS)
        if for_any is not None and len(by_class) == 1:
            duration[i, :] = for_any.at(level)
            continue
        for c, name in enumerate(classes):
            estimate = by_class.get(name) or for_any
            if estimate is not None:
                duration[i, c] = estimate.at(level)
    wait = policy.max_wait_s
    return {
        "release": np.array(release, np.int64),
        "raw_release": np.array([t.release_s - now for t in tasks], np.int64),
        "deadline": np.array([_after_now(t.deadline_s, now) for t in tasks], np.int64),
        "hard_end": np.array(
            [_after_now(t.deadline_s, now) if hard else FAR for t in tasks], np.int64
        ),
        "last_start": np.array(
            [FAR if wait is None else max(0, t.release_s - now) + wait for t in tasks], np.int64
        ),
        "duration": duration,
    }


def _kinds(tasks: Sequence[Task]) -> tuple[list[Task], Ints]:
    """One task of each kind, and the kind of every task."""
    index: dict[Any, int] = {}
    kinds: list[Task] = []
    kind_of = np.zeros(len(tasks), np.int64)
    for i, task in enumerate(tasks):
        alone = shape_of(task) if task.exclusive else None
        key = (tuple(sorted(task.demand.items())), task.requires, alone)
        if key not in index:
            index[key] = len(kinds)
            kinds.append(task)
        kind_of[i] = index[key]
    return kinds, kind_of


def _fit(
    kinds: Sequence[Task], workers: Sequence[Worker], resources: tuple[str, ...], capacity: Ints
) -> tuple[Bools, Floats]:
    """Whether a piece of each kind fits each empty worker, and its dominant share there."""
    demand = amounts([k.demand for k in kinds], resources)
    allowed = np.ones((len(kinds), len(workers)), np.bool_)
    share = np.zeros((len(kinds), len(workers)))
    for r in range(len(resources)):
        need, have = demand[:, r, None], capacity[None, :, r]
        allowed &= need <= have
        # In place: another memory layout would have every kernel compiled once more.
        np.maximum(share, need / np.maximum(have, 1) * (have > 0), out=share)
    # Label sets repeat: match each distinct requirement with each distinct set once.
    known = worker_table(workers)
    label_sets, set_of = known.label_sets, known.set_of
    matched: dict[tuple[str, ...], Bools] = {}
    for k, kind in enumerate(kinds):
        if kind.requires:
            if kind.requires not in matched:
                wanted = [parse(text) for text in kind.requires]
                per_set = [all(each.holds(has) for each in wanted) for has in label_sets]
                matched[kind.requires] = np.array(per_set, np.bool_)[set_of]
            allowed[k] &= matched[kind.requires]
    return allowed, share
