"""Multi-mode projects: the kernel against plain Python, the engine against CP-SAT's optima."""

from __future__ import annotations

from typing import Any

import numpy as np

from plancast.planner.arrays.graph import priority_order
from plancast.planner.arrays.modes import Choices, decode_choices, encode_choices
from plancast.planner.instances.base import MAKESPAN_SECONDS
from plancast.planner.model.domain import DurationEstimate, Mode, Snapshot, Task, Worker
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import Budget, PlanRequest, Status
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.makespan.mode_lists import (
    LATE,
    SPREAD,
    anneal_in_modes,
    serial_in_modes,
    take,
)
from plancast.planner.solvers.makespan.multimode import ModeSearch
from plancast.planner.solvers.makespan.project import Project
from plancast.planner.solvers.makespan.prover import affordable_exactly
from plancast.planner.solvers.makespan.recognise import is_multimode_project
from plancast.planner.solvers.makespan.shared import activities_of
from plancast.planner.solvers.mode_rules import affordable, scores


def random_request(seed: int, tasks: int = 7) -> PlanRequest:
    """A small multi-mode project with a budget that not every choice keeps to."""
    rng = np.random.default_rng(seed)
    capacity = {f"R{r}": int(rng.integers(2, 6)) for r in range(int(rng.integers(1, 3)))}
    pending, estimates, least, most = [], {}, 0, 0
    for i in range(tasks):
        modes, by_mode = [], {}
        for k in range(int(rng.integers(1, 4))):
            demand = {name: int(rng.integers(0, c + 1)) for name, c in capacity.items()}
            modes.append(Mode(f"m{k}", {**demand, "gold": int(rng.integers(0, 5))}))
            by_mode[f"m{k}"] = {"*": DurationEstimate.certain(int(rng.integers(1, 7)))}
        takes = [mode.demand["gold"] for mode in modes]
        least, most = least + min(takes), most + max(takes)
        before = tuple(str(j) for j in range(i) if rng.random() < 0.2)
        pending.append(Task(str(i), {}, after=before, modes=tuple(modes)))
        estimates[str(i)] = by_mode
    gold = int(rng.integers(least, most + 1))
    snapshot = Snapshot(0, 0, (Worker("w", capacity),), tuple(pending), budgets={"gold": gold})
    return PlanRequest(f"modes-{seed}", snapshot, estimates, MAKESPAN_SECONDS)


def engine(choices: Choices) -> ModeSearch:
    """A search whose arrays are filled."""
    rows = activities_of(choices.ways)
    assert rows is not None
    settings = Project(SOLVERS["greedy"]())
    return ModeSearch(settings, choices, rows, np.random.default_rng(0), None, None)


def plain_ends(
    choices: Choices, order: list[int], chosen: list[int], flagged: list[bool]
) -> tuple[list[int], list[int]]:
    """Ends and rows of a list, second by second: what ``serial_in_modes`` says it does."""
    ways, capacity = choices.ways, choices.base.capacity[0]
    in_use: dict[int, Any] = {}
    end = [0] * len(order)
    rows = list(chosen)

    def first_end(row: int, ready: int) -> int:
        start = ready
        while any(
            (in_use.get(t, 0) + ways.demand[row] > capacity).any()
            for t in range(start, start + int(ways.duration[row, 0]))
        ):
            start += 1
        return start + int(ways.duration[row, 0])

    for i in order:
        ready = max([0, *(end[int(p)] for p in choices.base.predecessors(i))])
        best = (first_end(rows[i], ready), rows[i])
        for row in range(choices.ptr[i], choices.ptr[i + 1]) if flagged[i] else ():
            other = [*rows[:i], row, *rows[i + 1 :]]
            if row == rows[i] or not choices.affords(np.array(other)):
                continue
            found = first_end(row, ready)
            shorter = ways.duration[row, 0] < ways.duration[best[1], 0]
            if found < best[0] or (found == best[0] and shorter):
                best = (found, row)
        end[i], rows[i] = best
        for t in range(end[i] - int(ways.duration[rows[i], 0]), end[i]):
            in_use[t] = in_use.get(t, 0) + ways.demand[rows[i]]
    return end, rows


def test_the_kernel_decodes_as_plain_python_does() -> None:
    """A list would be laid out in other modes or at other times than it says."""
    changed = 0
    for seed in range(40):
        choices = encode_choices(random_request(seed))
        rng = np.random.default_rng(seed)
        start = affordable(choices, rng.random(len(choices.mode)))
        if start is None:
            continue
        search = engine(choices)
        order = priority_order(rng.random(len(start)), search.problem.pred_ptr, search.problem.pred)
        flagged = rng.random(len(start)) < 0.5
        chosen = start.copy()
        p = search.activities
        take(search.ways, p, search.used, chosen)
        makespan = serial_in_modes(
            order, p, search.ways, search.used, chosen, flagged, p.pred_ptr, p.pred, p.release,
            search.room,
        )  # fmt: skip
        end, rows = plain_ends(choices, order.tolist(), start.tolist(), flagged.tolist())
        assert (search.room.end.tolist(), chosen.tolist()) == (end, rows), seed
        assert makespan == max(end)
        assert (search.room.free == p.full).all()
        assert search.used.tolist() == choices.spent(chosen).tolist()
        changed += (chosen != start).any()
    assert changed > 10


def plain_cost(search: ModeSearch, rows: np.ndarray, ends: list[int], least: int) -> float:
    """What a list counts beside its budgets' excess, from the bare definition."""
    choices = search.choices
    fastest = np.minimum.reduceat(choices.ways.duration[:, 0], choices.ptr[:-1])

    def after(i: int) -> int:
        followers = [j for j in range(len(rows)) if i in choices.base.predecessors(j).tolist()]
        return max([0, *(int(fastest[j]) + after(j) for j in followers)])

    late = sum(max(0, end + after(i) - least + 1) for i, end in enumerate(ends))
    return float(max(ends) + SPREAD * np.mean(ends) + LATE * late)


def test_the_annealer_keeps_count_and_its_best_keeps_to_the_budgets() -> None:
    """The search would compare costs that no list has, or hand on modes that nothing affords."""
    beyond = 0
    for seed in range(30):
        choices = encode_choices(random_request(seed))
        search = engine(choices)
        if search._choose() is None:
            continue
        search._begin_round(0.0)
        for calls in range(8):
            current, champion, modes = search.current, search.champion, search.champion_modes
            # Nothing is known, and every feasible list is news; or much is, and most ends late.
            current[1] = least = 8 if calls % 2 else 1 << 60
            makespan = anneal_in_modes(
                search.activities, search.ways, search.room, search.after, search.order,
                search.chosen, current, champion, modes, 1, 1e9, seed + calls,
            )  # fmt: skip
            ends, rows = search.room.end.tolist(), search.chosen  # as hot as this, all is accepted
            order = search.order.tolist()
            assert [ends[i] for i in order] == sorted(ends, reverse=True)
            starts = (search.room.end - choices.ways.shortest[rows]).tolist()
            by_start = sorted(range(len(order)), key=starts.__getitem__)
            again, _ = plain_ends(choices, by_start, rows.tolist(), [False] * len(order))
            assert again == ends, seed
            over = np.maximum(choices.spent(rows) - choices.left, 0) / search.ways.usual
            beyond += over.sum() > 0
            assert current[3] == over.sum()
            expected = plain_cost(search, rows, ends, least) + current[2] * over.sum()
            assert abs(current[0] - expected) < 1e-9, seed
            if makespan < least:
                assert choices.affords(modes)
                ends, _ = plain_ends(choices, champion.tolist(), modes.tolist(), [False] * 7)
                assert max(ends) == makespan
    assert beyond > 10


def test_the_engine_finds_the_optimum_of_small_projects() -> None:
    """A move could break a budget, or the search miss what is easy."""
    optimal = solved = 0
    for seed in range(30):
        choices = encode_choices(random_request(seed))
        assert is_multimode_project(choices)
        rng = np.random.default_rng(seed)
        exact = SOLVERS["cpsat"]().solve_modes(  # type: ignore[attr-defined]
            choices, budget=Budget(None, 100_000), rng=rng
        )
        found = SOLVERS["project"]().solve_modes(choices, budget=Budget(None, 2000), rng=rng)  # type: ignore[attr-defined]
        assert (found.schedule is None) == (exact.status is Status.INFEASIBLE), seed
        if found.schedule is None:
            continue
        verdict = evaluate(choices.request, decode_choices(choices, found.schedule))
        assert verdict.valid, (seed, verdict.violations)
        assert found.claimed == verdict.cost
        assert found.lower_bound <= exact.claimed <= found.claimed
        solved += 1
        optimal += found.claimed == exact.claimed
    assert solved > 25
    assert optimal >= solved - 1


def test_the_prover_finds_and_proves() -> None:
    """With a clock the second thread would be of no use, or prove what is not so."""
    choices = encode_choices(random_request(2, tasks=12))
    rng = np.random.default_rng(0)
    exact = SOLVERS["cpsat"]().solve_modes(choices, budget=Budget(None, 500_000), rng=rng)  # type: ignore[attr-defined]
    found = SOLVERS["project"]().solve_modes(choices, budget=Budget(20.0), rng=rng)  # type: ignore[attr-defined]
    assert (found.status, found.claimed) == (Status.OPTIMAL, exact.claimed)


def test_modes_within_the_budgets_are_found_exactly_where_rules_fail() -> None:
    """A project would have no first plan though there is one."""
    for seed in range(20):
        choices = encode_choices(random_request(seed, tasks=20))
        score = scores(choices, 1.0)
        found = affordable_exactly(choices, score, 5.0)
        assert found is not None
        assert choices.affords(found)
        ruled = affordable(choices, score)
        if ruled is not None:
            assert choices.affords(ruled)
            assert score[found].sum() <= score[ruled].sum() * (1 + 1e-4)
