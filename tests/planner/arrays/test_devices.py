"""Devices in arrays: kernels against plain counting, and where devices need no telling apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plancast.planner.arrays.device_use import device_start, devices_in, given, mask_of
from plancast.planner.arrays.devices import (
    HEAD,
    HELD,
    NEVER,
    NO_DEVICES,
    ON,
    Devices,
    device_pieces,
    give,
    next_change,
    take_back,
    when_devices,
)
from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.jit import brief
from plancast.planner.arrays.problem import Problem, decode, with_devices
from plancast.planner.arrays.schedule import FAR
from plancast.planner.model.devices import takes
from plancast.planner.model.domain import (
    DEVICE,
    GPU,
    DurationEstimate,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.solvers import SOLVERS
from tests.oracles.brute_force import without_moves
from tests.oracles.plain_devices import Stay, all_given, device_request

AMOUNTS = (200, 300, 500, 700, 1000, 2000)


@brief
def fitting(devices, i, start, end, most):
    """``device_pieces`` on the only worker."""
    return device_pieces(devices, 0, i, start, end, most)


@brief
def first_fit(devices, i, start, duration, latest):
    """``when_devices`` on the only worker."""
    return when_devices(devices, 0, i, start, duration, latest)


@brief
def next_end(devices, moment):
    """``next_change`` on the only worker."""
    return next_change(devices, 0, moment, NEVER)


@brief
def hold(devices, i, start, end, known):
    """``give`` to the only piece of a task on the only worker; its devices."""
    give(devices, i, 0, i, start, end, known)
    return devices.held[i, HELD]


@brief
def release(devices, i):
    """``take_back``."""
    take_back(devices, i)


def empty(have: int, wanted: list[int]) -> Devices:
    """Nothing held of one worker's devices, by pieces that take so much each."""
    tasks = np.array([takes({GPU: amount}) for amount in wanted], np.int64)
    held = np.zeros((len(wanted), 8), np.int64)
    held[:, ON] = -1
    return Devices(np.array([[have, -1]]), tasks, held, np.zeros(62, np.int64))


def fit(stays: dict[int, Stay], have: int, more: list[Stay]) -> bool:
    """Whether more pieces fit beside what is held."""
    return all_given([*stays.values(), *more], {"0": have}) is not None


@pytest.mark.parametrize("seed", range(30))
def test_kernels_know_who_holds_which_devices(seed: int) -> None:
    """A search would give a device twice, leave one unused, or not undo what it gave."""
    rng = np.random.default_rng(seed)
    have = int(rng.integers(1, 4))
    wanted = [int(rng.choice(AMOUNTS)) for _ in range(14)]
    devices, stays = empty(have, wanted), dict[int, Stay]()
    for _ in range(60):
        i = int(rng.integers(len(wanted)))
        if i in stays:
            release(devices, i)
            del stays[i]
            continue
        start = int(rng.integers(0, 12))
        end = start + int(rng.integers(1, 6))
        most = fitting(devices, i, start, end, 3)
        asked = Stay("0", start, end, wanted[i])
        assert most == max(n for n in range(4) if fit(stays, have, [asked] * n))
        latest = start + int(rng.integers(0, 8))
        later = [
            t for t in range(start, latest + 1)
            if fit(stays, have, [Stay("0", t, t + end - start, wanted[i])])
        ]  # fmt: skip
        assert first_fit(devices, i, start, end - start, latest) == min(later, default=FAR)
        if most:
            hold(devices, i, start, end, 0)
            held = devices_in(int(devices.held[i, HELD]))
            assert all_given([*stays.values(), replace(asked, devices=held)], {"0": have})
            assert fit({**stays}, have, [asked])
            assert len(held) == -(-wanted[i] // DEVICE)
            stays[i] = replace(asked, devices=held)
            assert not double(stays, have)
    ends = sorted(stay.end for stay in stays.values())
    assert next_end(devices, 3) == min((t for t in ends if t > 3), default=NEVER)


def double(stays: dict[int, Stay], have: int) -> bool:
    """Whether more than there is is held of a device at some second."""
    return any(
        sum(
            min(s.wanted, DEVICE)
            for s in stays.values()
            if s.devices is not None and d in s.devices and s.start <= second < s.end
        )
        > DEVICE
        for d in range(have)
        for second in range(20)
    )


def test_devices_named_before_are_given_again() -> None:
    """A move that is undone would leave its task on other devices, and two on one."""
    devices = empty(3, [1000, 500])
    hold(devices, 0, 0, 5, mask_of((2,)))
    hold(devices, 1, 0, 5, mask_of((1,)))
    assert [devices_in(int(m)) for m in devices.held[:, HELD]] == [(2,), (1,)]
    release(devices, 0)
    assert int(devices.workers[0, HEAD]) == 1
    assert fitting(devices, 0, 0, 5, 3) == 2


def problem_of(tasks: list[int], workers: int = 1, devices: bool = True) -> Problem:
    """Tasks that take so much of GPUs each."""
    made = tuple(Task(f"t{k}", {GPU: amount}) for k, amount in enumerate(tasks))
    on = tuple(Worker(f"w{k}", {GPU: 2000}, devices=devices) for k in range(workers))
    known = {t.id: {"*": DurationEstimate.certain(10)} for t in made}
    return encode(PlanRequest("r", Snapshot(1, 0, on, made), known))


@pytest.mark.parametrize(
    ("amounts", "apart"),
    [
        ([1000, 2000, 1000], False),
        ([500, 500], False),
        ([250, 0], False),
        ([300, 300], True),
        ([500, 250], True),
        ([1000, 500], True),
        ([0, 0], False),
    ],
)
def test_devices_are_told_apart_only_where_amounts_meet(amounts: list[int], apart: bool) -> None:
    """A search would be slow for nothing, or give no devices where it must."""
    problem = problem_of(amounts)
    assert problem.tells_apart == apart
    assert (problem.device_state() is not NO_DEVICES) == apart
    assert not problem_of(amounts, devices=False).tells_apart


@pytest.mark.parametrize("seed", range(40))
def test_where_devices_need_no_telling_apart_some_can_always_be_given(seed: int) -> None:
    """A plan that has enough GPUs would have no devices for a task."""
    request = device_request(seed, shares=False)
    problem = encode(request)
    if problem.infeasible or not problem.tasks:
        return
    assert not problem.tells_apart
    rng = np.random.default_rng(0)
    found = SOLVERS["greedy"]().solve(problem, budget=Budget(None, 1), rng=rng)
    if found.schedule is None:
        return
    assert found.schedule.devices is None
    plan = decode(problem, found.schedule)
    assert evaluate(without_moves(request), plan, unplanned=problem.unplanned).valid
    assert with_devices(problem, plan) == plan


def test_the_rule_says_where_it_finds_no_room() -> None:
    """A plan would name devices that two tasks hold."""
    problem = problem_of([500, 1000, 500])
    assert problem.devices is not None
    zero, tasks = np.zeros(3, np.int64), np.arange(3)
    found = given(problem.devices, tasks, zero, zero, zero + 10, None)
    assert found is not None
    assert [devices_in(int(m)) for m in found] == [(0,), (1,), (0,)]
    known = np.array([mask_of((1,)), mask_of((0,)), mask_of((1,))])
    kept = given(problem.devices, tasks, zero, zero, zero + 10, known)
    assert kept is not None
    assert (kept == known).all()
    crowded = problem_of([1000, 1000, 500])
    assert crowded.devices is not None
    assert given(crowded.devices, tasks, zero, zero, zero + 10, None) is None


@pytest.mark.parametrize("seed", range(60))
def test_a_gang_is_left_out_where_devices_hold_fewer_of_its_pieces(seed: int) -> None:
    """A request would have no plan at all, for the sake of a task that fits nowhere."""
    rng = np.random.default_rng(seed)
    wanted, shards = int(rng.choice(AMOUNTS)), int(rng.integers(1, 9))
    gang = Task("t", {GPU: wanted}, shards=shards)
    have = [int(n) for n in rng.integers(1, 4, 2)]
    on = tuple(Worker(f"w{k}", {GPU: DEVICE * n}, devices=True) for k, n in enumerate(have))
    estimates = {"t": {"*": DurationEstimate.certain(10)}}
    problem = encode(PlanRequest("r", Snapshot(1, 0, on, (gang,)), estimates))
    most = sum(
        n // (wanted // DEVICE) if wanted >= DEVICE else n * (DEVICE // wanted) for n in have
    )
    assert ("t" in problem.unplanned) == (most < shards)


def test_a_task_that_finds_no_devices_before_a_worker_drains_is_left_out() -> None:
    """A request would have no plan, for the sake of a task that fits nowhere in time."""
    node = Worker("n", {GPU: 2000}, devices=True, until_s=15)
    runs = tuple(Running(Task(f"r{d}", {GPU: 500}), ("n",), 0, devices=((d,),)) for d in (0, 1))
    task = Task("whole", {GPU: 1000})
    known = {name: {"*": DurationEstimate.certain(8)} for name in ("r0", "r1", "whole")}
    request = PlanRequest("r", Snapshot(1, 0, (node,), (task,), runs), known)
    problem = encode(request)
    assert problem.unplanned == {
        "whole": "every worker that could hold it drains before it could end"
    }
    later = replace(
        request, snapshot=replace(request.snapshot, workers=(replace(node, until_s=16),))
    )
    problem = encode(later)
    assert problem.devices is not None
    assert not problem.unplanned
    assert device_start(problem.devices, 0, 0, 3) == 8
