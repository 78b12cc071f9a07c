"""The kernels against slow twins that look at every second."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.graph import heads_and_tails, priority_order, successors
from plancast.planner.arrays.list_schedule import (
    EARLIEST_END,
    LEAST_COST,
    FirstFits,
    first_fits,
    list_schedule,
)
from plancast.planner.arrays.problem import Problem
from plancast.planner.arrays.schedule import (
    BEYOND_CHOICE,
    FAR,
    FIRST_CHOICE,
    MOST_HERE,
    MOST_WORKERS,
    WHOLE,
    build_profile,
    close,
    earliest_start,
    latest_start,
    occupy,
    with_room,
)
from plancast.planner.instances.generate import generate_batch, generate_cluster
from tests.conftest import scaled
from tests.oracles.random_requests import random_request, related

CALM = 40
"""Seconds after which nothing in these tests changes."""


@st.composite
def worlds(draw: st.DrawFn) -> tuple[np.ndarray, list[tuple[int, int, int, list[int]]], list]:
    """Capacities, running pieces (worker, 0, end, demand) and closed windows."""
    workers, resources = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    amount = st.integers(0, 4)
    capacity = np.array(draw(st.lists(st.lists(amount, min_size=resources, max_size=resources),
                                      min_size=workers, max_size=workers)), np.int64)  # fmt: skip
    worker = st.integers(0, workers - 1)
    demand = st.lists(st.integers(0, 3), min_size=resources, max_size=resources)
    busy = draw(st.lists(st.tuples(worker, st.just(0), st.integers(1, 9), demand), max_size=4))
    shut = draw(st.lists(st.tuples(worker, st.integers(0, 9), st.integers(1, 9)), max_size=6))
    return capacity, busy, [(w, start, start + length) for w, start, length in shut]


def profile_of(world: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The kernel's profile of a world."""
    capacity, busy, shut = world
    resources = capacity.shape[1]
    pieces = np.array([b[:3] for b in busy], np.int64).reshape(-1, 3)
    windows = np.array(shut, np.int64).reshape(-1, 3)
    demand = np.array([b[3] for b in busy], np.int64).reshape(-1, resources)
    return build_profile(
        capacity, pieces[:, 0].copy(), pieces[:, 2].copy(), demand,
        windows[:, 0].copy(), windows[:, 1].copy(), windows[:, 2].copy(),
    )  # fmt: skip


def free_by_second(world: tuple) -> list[list[list[int] | None]]:
    """The same, dully: what is free on each worker in each second, None where it is shut."""
    capacity, busy, shut = world
    result: list[list[list[int] | None]] = []
    for w, amounts in enumerate(capacity.tolist()):
        row: list[list[int] | None] = []
        for second in range(CALM):
            free = list(amounts)
            for worker, start, end, demand in busy:
                if worker == w and start <= second < end:
                    free = [f - d for f, d in zip(free, demand, strict=True)]
            closed = any(worker == w and a <= second < b for worker, a, b in shut)
            row.append(None if closed else [max(0, f) for f in free])
        result.append(row)
    return result


@given(world=worlds())
def test_build_profile(world: tuple) -> None:
    """A running task or a closed window would be missing from what is free, or in it twice."""
    times, free, count = profile_of(world)
    for w, row in enumerate(free_by_second(world)):
        assert times[w, 0] == 0
        assert (np.diff(times[w, : count[w]]) > 0).all()
        for second, amounts in enumerate(row):
            k = int(np.searchsorted(times[w, : count[w]], second, side="right")) - 1
            expected = [-1] * len(free[w, k]) if amounts is None else amounts
            assert free[w, k].tolist() == expected


@given(world=worlds(), data=st.data())
def test_earliest_start(world: tuple, data: st.DataObject) -> None:
    """A task would be planned where it does not fit, or later than it could start."""
    times, free, count = profile_of(world)
    resources = world[0].shape[1]
    demand = data.draw(st.lists(st.integers(0, 4), min_size=resources, max_size=resources))
    not_before, duration = data.draw(st.integers(0, 12)), data.draw(st.integers(1, 8))
    for w, row in enumerate(free_by_second(world)):
        slow = next(
            (
                start
                for start in range(not_before, CALM - duration)
                if all(
                    row[t] is not None
                    and all(f >= d for f, d in zip(row[t] or (), demand, strict=True))
                    for t in range(start, start + duration)
                )
            ),
            FAR,
        )
        fast = earliest_start(
            times[w], free[w], count[w], np.array(demand, np.int64), not_before, duration
        )
        assert fast == slow


@given(world=worlds(), data=st.data())
def test_occupy_and_close_keep_the_profile(world: tuple, data: st.DataObject) -> None:
    """A piece placed would change what is free outside its own time, or get lost as rows grow."""
    times, free, count = profile_of(world)
    rows = free_by_second(world)
    resources = world[0].shape[1]
    for _ in range(data.draw(st.integers(0, 12))):
        w = data.draw(st.integers(0, len(rows) - 1))
        start = data.draw(st.integers(0, 20))
        end = start + data.draw(st.integers(1, 9))
        demand = data.draw(st.lists(st.integers(0, 2), min_size=resources, max_size=resources))
        if any(
            rows[w][t] is None or any(f < d for f, d in zip(rows[w][t] or (), demand, strict=True))
            for t in range(start, end)
        ):
            continue
        times, free = with_room(times, free, count, w)
        if data.draw(st.booleans()):
            occupy(times, free, count, w, start, end, np.array(demand, np.int64))
            for t in range(start, end):
                rows[w][t] = [f - d for f, d in zip(rows[w][t] or (), demand, strict=True)]
        else:
            close(times, free, count, w, start, end)
            for t in range(start, end):
                rows[w][t] = None
    for w, row in enumerate(rows):
        for second, amounts in enumerate(row):
            k = int(np.searchsorted(times[w, : count[w]], second, side="right")) - 1
            assert free[w, k].tolist() == ([-1] * resources if amounts is None else amounts)


@given(
    hard_end=st.integers(-5, 30) | st.just(FAR),
    last_start=st.integers(0, 30) | st.just(FAR),
    release=st.integers(-9, 9),
    max_stretch=st.sampled_from([0.0, 1.0, 1.1, 1.5, 2.3, 3.0]),
    duration=st.integers(1, 25),
)
def test_latest_start(
    hard_end: int, last_start: int, release: int, max_stretch: float, duration: int
) -> None:
    """A start that breaks a hard bound would be permitted, or one that keeps all of them not."""
    latest = latest_start(hard_end, last_start, release, max_stretch, duration)
    for start in range(-20, 80):
        end = start + duration
        stretch = (end - release) / max(duration, 10)
        keeps = (
            end <= hard_end
            and start <= last_start
            and (max_stretch == 0 or stretch <= max_stretch * (1 + 1e-12))
        )
        assert (start <= latest) == keeps


class SlowCluster:
    """What is free in every second, from a problem's arrays, without the profile kernel."""

    def __init__(self, problem: Problem, horizon: int) -> None:
        self.problem, self.horizon = problem, horizon
        self.free = np.repeat(problem.capacity[:, None, :], horizon, axis=1)
        for w, end, demand in zip(
            problem.busy_worker, problem.busy_end, problem.busy_demand, strict=True
        ):
            self.free[w, :end] -= demand
        self.free = np.maximum(self.free, 0)
        self.shut = np.zeros(self.free.shape[:2], bool)
        for w, start, end in zip(
            problem.shut_worker, problem.shut_start, problem.shut_end, strict=True
        ):
            self.shut[w, start:end] = True

    def earliest(self, i: int, workers: tuple[int, ...], not_before: int) -> tuple[int, int] | None:
        """Earliest (start, end) of a task on these workers, None if there is none."""
        problem = self.problem
        if not self.in_shape(i, workers):
            return None
        whole = problem.gang[i, WHOLE]
        duration = max(int(problem.durations_on(i)[w]) for w in workers)
        latest = min(self.horizon - duration - 1, problem.latest_start(i, duration))
        for start in range(not_before, latest + 1):
            span = slice(start, start + duration)
            if all(
                not self.shut[w, span].any()
                and (self.free[w, span] >= workers.count(w) * problem.demand[i]).all()
                and (self.free[w, span, -1] >= whole).all()
                for w in workers
            ):
                return start, start + duration
        return None

    def in_shape(self, i: int, workers: tuple[int, ...]) -> bool:
        """Whether the pieces of a gang may lie together so."""
        gang, used = self.problem.gang[i], set(workers)
        rows = self.problem.allowed[gang[FIRST_CHOICE] : gang[BEYOND_CHOICE]]
        return bool(
            len(workers) == 1
            or (
                max(map(workers.count, used)) <= gang[MOST_HERE]
                and len(used) <= gang[MOST_WORKERS]
                and (not len(rows) or rows[:, list(used)].all(axis=1).any())
            )
        )

    def occupy(self, i: int, workers: tuple[int, ...], start: int, end: int) -> None:
        """Take a task's demand from its workers."""
        for w in workers:
            self.free[w, start:end] -= self.problem.demand[i]
            if self.problem.gang[i, WHOLE] > 0:
                self.free[w, start:end, -1] = 0


@pytest.mark.parametrize("shaped", [False, True])
@pytest.mark.parametrize("rule", [EARLIEST_END, LEAST_COST])
def test_list_schedule(rule: int, shaped: bool) -> None:
    """A list schedule would hold an infeasible or late start, or give up on a task in vain."""
    rng = np.random.default_rng(rule)
    placed_all, gave_up = 0, 0
    for seed in range(600 if shaped else 120):
        request = random_request(seed)
        problem = encode(related(request, seed, dependencies=False) if shaped else request)
        if problem.infeasible or not problem.tasks:
            continue
        order = priority_order(rng.random(len(problem.tasks)), problem.link_ptr, problem.before)
        start, end, worker = listed(problem, order, rule, known_of(problem))
        slow = SlowCluster(problem, horizon=80)
        for i in (int(i) for i in order):
            not_before = max(
                [int(problem.release[i]), *(int(end[p]) for p in problem.predecessors(i))]
            )
            able = [int(w) for w in np.flatnonzero(problem.durations_on(i))]
            choices = {
                workers: found
                for workers in combinations_with_replacement(able, int(problem.shards[i]))
                if (found := slow.earliest(i, workers, not_before)) is not None
            }
            if start[i] >= FAR:
                assert not choices
                gave_up += 1
                continue
            mine = tuple(
                sorted(int(w) for w in worker[problem.shard_ptr[i] : problem.shard_ptr[i + 1]])
            )
            assert choices[mine] == (start[i], end[i])
            if rule == EARLIEST_END or problem.shards[i] > 1:
                assert end[i] == min(e for _, e in choices.values())
            slow.occupy(i, mine, int(start[i]), int(end[i]))
        placed_all += bool((start < FAR).all())
    assert placed_all > 60
    assert gave_up > 0


def known_of(problem: Problem) -> FirstFits:
    """What a list schedule knows of room before it begins."""
    return first_fits(
        problem.kind, problem.demand, problem.shortest, problem.shards, problem.release,
        len(problem.workers),
    )  # fmt: skip


def listed(
    problem: Problem, order: np.ndarray, rule: int, known: FirstFits
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What ``list_schedule`` makes of an order."""
    return list_schedule(
        order, rule, 0.1, *problem.profile(), problem.demand, problem.release,
        problem.raw_release, problem.deadline, problem.hard_end, problem.last_start,
        problem.max_stretch, problem.weight, problem.shards, problem.shard_ptr, problem.gang,
        problem.kind, problem.allowed, problem.duration, problem.worker_class,
        problem.link_ptr, problem.link, problem.free_from,
        problem.share, problem.last_end.copy(), problem.on.copy(), problem.load_h.copy(),
        problem.rates, problem.spare_profile(), known,
    )  # fmt: skip


@pytest.mark.parametrize("rule", [EARLIEST_END, LEAST_COST])
def test_what_is_known_of_room_changes_no_schedule(rule: int) -> None:
    """Large batches would be planned in less time, and worse: a gap would be overlooked."""
    known_once = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        cluster = generate_cluster(4, seed)
        problem = encode(generate_batch(60, cluster, seed, gang_share=0.1, label_share=0.1))
        if seed % 2:  # released one after the other
            problem = replace(problem, release=np.sort(rng.integers(0, 4000, 60)), memory={})
        order = priority_order(rng.random(len(problem.tasks)), problem.link_ptr, problem.before)
        known = known_of(problem)
        known_once += int((known.row > 0).sum())
        nothing = FirstFits(np.zeros_like(known.row), np.zeros(1, np.int64), np.zeros((1, 4), int))
        mine, plain = (listed(problem, order, rule, k) for k in (known, nothing))
        for found, expected in zip(mine, plain, strict=True):
            assert np.array_equal(found, expected)
        assert (nothing.none_before == 0).all()
    assert known_once > 200


@st.composite
def precedences(draw: st.DrawFn) -> list[list[int]]:
    """Predecessors of each task, without cycles, in a shuffled numbering."""
    tasks = draw(st.integers(1, 8))
    place = draw(st.permutations(range(tasks)))
    return [
        [p for p in range(tasks) if place[p] < place[i] and draw(st.booleans())]
        for i in range(tasks)
    ]


def compressed(preds: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """CSR form."""
    pointer = np.concatenate([[0], np.cumsum([len(p) for p in preds])]).astype(np.int64)
    return pointer, np.array([p for row in preds for p in row], np.int64)


@settings(max_examples=scaled(60))
@given(preds=precedences(), data=st.data())
def test_orders_and_chains(preds: list[list[int]], data: st.DataObject) -> None:
    """A task could come before its predecessor, or a chain be counted longer than it is."""
    tasks = len(preds)
    pointer, flat = compressed(preds)
    seconds = st.lists(st.integers(0, 9), min_size=tasks, max_size=tasks)
    priority, release = data.draw(seconds), data.draw(seconds)
    shortest = [1 + s for s in data.draw(seconds)]

    done: list[int] = []
    while len(done) < tasks:
        ready = [i for i in range(tasks) if i not in done and set(preds[i]) <= set(done)]
        done.append(min(ready, key=lambda i: (priority[i], i)))
    assert priority_order(np.array(priority, float), pointer, flat).tolist() == done

    def head(i: int) -> int:
        return max([release[i], *(head(p) + shortest[p] for p in preds[i])])

    def tail(i: int) -> int:
        return shortest[i] + max((tail(j) for j in range(tasks) if i in preds[j]), default=0)

    heads, tails = heads_and_tails(
        np.array(release, np.int64), np.array(shortest, np.int64), pointer, flat
    )
    assert heads.tolist() == [head(i) for i in range(tasks)]
    assert tails.tolist() == [tail(i) for i in range(tasks)]
    forward, followers = successors(pointer, flat)
    for i in range(tasks):
        mine = followers[forward[i] : forward[i + 1]].tolist()
        assert sorted(mine) == [j for j in range(tasks) if i in preds[j]]
