"""Amounts side by side in a word."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from plancast.planner.arrays.packing import MOST_BITS, words_of


@st.composite
def clusters(draw: st.DrawFn) -> Any:
    """Capacities and demands, of few units or of as many as fill several words."""
    resources = draw(st.integers(1, 4))
    largest = draw(st.sampled_from([3, 100, 1 << 30, 1 << 45]))
    amounts = st.integers(0, largest)

    def rows(most: int) -> np.ndarray:
        number = draw(st.integers(1, most))
        lists = draw(
            st.lists(
                st.lists(amounts, min_size=resources, max_size=resources),
                min_size=number, max_size=number,
            )
        )  # fmt: skip
        return np.array(lists, np.int64).reshape(number, resources)

    unit = draw(st.sampled_from([1, 4, 1000]))
    capacity = rows(3) * unit + draw(st.integers(0, 2))
    # Tasks that fit no worker are no part of a problem.
    largest_worker = capacity.max(axis=0) // unit
    demand = np.minimum(rows(6), largest_worker) * unit
    return SimpleNamespace(
        resources=("cpu",) * resources,
        capacity=capacity,
        demand=demand,
        shards=np.array([draw(st.integers(1, 3)) for _ in demand], np.int64),
    )


@given(problem=clusters(), data=st.data())
def test_a_task_fits_in_words_exactly_if_it_fits_in_every_resource(
    problem: Any, data: st.DataObject
) -> None:
    """A plan over capacity, or places that are never found."""
    words = words_of(problem)
    needs = words.needs(problem.demand)
    free = problem.capacity[data.draw(st.integers(0, len(problem.capacity) - 1))].copy()
    packed = words.free(free)
    assert (packed >= 0).all()
    assert (words.guard < 1 << MOST_BITS).all()
    left = {i: int(n) for i, n in enumerate(problem.shards)}
    held: list[int] = []
    for i in data.draw(st.lists(st.integers(0, len(problem.demand) - 1), max_size=12)):
        if left[i] == 0:
            continue  # what nobody asks for any more need not be distinguished
        take, need, guard = needs[i].reshape(-1, 3).T
        fits = bool((((packed - need) & guard) == guard).all())
        assert fits == bool((problem.demand[i] <= free).all())
        if fits:
            left[i] -= 1
            held.append(i)
            packed, free = packed - take, free - problem.demand[i]
    for i in held:
        packed = packed + needs[i].reshape(-1, 3).T[0]
    free = free + problem.demand[held].sum(axis=0)
    assert (packed == words.free(free)).all()


def test_a_closed_worker_takes_not_even_what_takes_nothing() -> None:
    """A task without demands would run through a blocked window."""
    problem: Any = SimpleNamespace(
        resources=("cpu", "mem"), capacity=np.array([[4, 0]]),
        demand=np.zeros((1, 2), np.int64), shards=np.ones(1, np.int64),
    )  # fmt: skip
    words = words_of(problem)
    _, need, guard = words.needs(problem.demand)[0].reshape(-1, 3).T
    for amount, fits in ((problem.capacity[0], True), (np.array([-1, -1]), False)):
        assert (((words.free(amount) - need) & guard) == guard).all() == fits
