"""One call from request to response: encode, greedy floor, solve, judge, answer."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from plancast.planner.arrays.problem import Problem, Schedule, decode, encode
from plancast.planner.bounds.lower_bound import lower_bound
from plancast.planner.model.domain import RELATIVE_TOLERANCE, BadRequest, Plan
from plancast.planner.model.evaluate import evaluate, moved_tasks, relative_gap
from plancast.planner.model.explain import explain_waits
from plancast.planner.model.messages import Budget, PlanRequest, PlanResponse, Status
from plancast.planner.planning.preempt import preemptible, with_preemption
from plancast.planner.planning.scenarios import plan_in_scenarios
from plancast.planner.planning.warm import (
    ASTAR,
    LISTS,
    MOVES,
    NEEDS,
    ORDERS,
    PROJECTS,
    SHOPS,
    warm,
)
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.base import Observe, Solution
from plancast.planner.solvers.makespan.recognise import SHOP_TASKS, is_project, is_shop

ASTAR_TASKS = 6
"""Up to this many tasks ``auto`` proves by A*."""
CPSAT_TASKS = 14
"""Up to this many by CP-SAT; beyond, neither proves much in seconds, and LNS finds more."""
BESIDE_TASKS = 30
"""Up to this many CP-SAT tries to prove beside LNS, a thread each."""
BOUND_TASKS, BOUND_S = 60, 4.0
"""Up to this many it does so for its bound, with so many seconds: LNS has its plan by then."""
TIMED_BOUND_S = 4.0
"""With fewer seconds than this the relaxation with a clock would take too many of them."""
RESERVE, RESERVE_S = 1.5, 0.02
"""Kept back of the budget for the response: so many times what judging a plan took, and seconds."""


def plan(
    request: PlanRequest,
    solver: str = "auto",
    *,
    observe: Observe | None = None,
    **parameters: Any,
) -> PlanResponse:
    """Plan a request.

    Parameters
    ----------
    request : PlanRequest
    solver : str
        A name of ``solvers.SOLVERS``, or ``auto``.
    observe : callable, optional
        Told (cost, lower bound) of each better schedule.
    **parameters
        The solver's own.

    Returns
    -------
    PlanResponse
        Never dearer than the greedy plan under the same estimates (on average over the policy's
        scenarios, where it names some), never an invalid plan;
        preemptible running tasks are stopped where that is cheaper
        (``plancast.planner.planning.preempt``); with ``budget.steps`` alone, a seed and the same
        request, the same plan.

    Raises
    ------
    BadRequest
        For a solver that does not exist.
    """
    if solver != "auto" and solver not in SOLVERS:
        raise BadRequest(f"there is no solver {solver!r}; choose auto or {', '.join(SOLVERS)}")
    warm(_families(request, solver))
    if request.policy.scenarios:
        return plan_in_scenarios(request, lambda r: plan(r, solver, observe=observe, **parameters))
    if preemptible(request):
        return with_preemption(
            request,
            lambda r, out, o: plan_without_preemption(r, solver, o, parameters, left_out=out),
            observe,
        )
    return plan_without_preemption(request, solver, observe, parameters)


def plan_without_preemption(
    request: PlanRequest,
    solver: str = "auto",
    observe: Observe | None = None,
    parameters: Mapping[str, Any] = MappingProxyType({}),
    *,
    left_out: Mapping[str, str] | None = None,
) -> PlanResponse:
    """Plan a request but for the tasks `left_out`, and preempt nothing; see ``plan``."""
    began = time.perf_counter()
    with _no_collection():
        problem = encode(request, left_out)
    if problem.infeasible or (problem.unplanned and not problem.tasks):
        return _response(request, Status.INFEASIBLE, began, problem, why=problem.infeasible)
    contest = _Contest(request, problem)
    if request.incumbent is not None:
        contest.enter("incumbent", _restamped(request.incumbent, problem))
    status, bound = Status.FEASIBLE, float("-inf")
    if problem.tasks:
        rng = np.random.default_rng(request.seed)
        greedy = SOLVERS["greedy"]().solve(
            problem, budget=_left(request.budget, began, 0.0), rng=rng, observe=observe
        )
        contest.enter_schedule("greedy", greedy.schedule)
        seconds = request.budget.seconds
        bound = lower_bound(problem, timed=seconds is None or seconds >= TIMED_BOUND_S)
        told = observe and _with_bound(observe, bound)
        chosen = _choose(problem, request.budget) if solver == "auto" else (solver,)
        began += _warmed_s(chosen)
        if chosen != ("greedy",):
            budget = _left(request.budget, began, RESERVE * contest.slowest_s + RESERVE_S)
            solutions = _solve_beside(
                chosen, parameters, problem, budget, rng, greedy.schedule, told
            )
            for name, solution in zip(chosen, solutions, strict=True):
                contest.enter_schedule(name, solution.schedule)
                bound = max(bound, solution.lower_bound)
            if any(solution.status is Status.INFEASIBLE for solution in solutions):
                status = Status.INFEASIBLE
    else:
        bound = lower_bound(problem)
        contest.enter(solver, decode(problem, _empty_schedule()))
    if contest.plan is None:
        impossible = status is Status.INFEASIBLE
        return _response(
            request,
            Status.INFEASIBLE if impossible else Status.NO_PLAN_IN_TIME,
            began,
            problem,
        )
    return contest.response(bound, began)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the collector of reference cycles, which walks the whole request again and again.

    What is made here are ten thousands of small objects that stay, and no cycles.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Contest:
    """Keeps the cheapest valid plan by the evaluator's word."""

    def __init__(self, request: PlanRequest, problem: Problem) -> None:
        self.request = request
        self.problem = problem
        self.plan: Plan | None = None
        self.solver = ""
        self.cost = float("inf")
        self.terms: dict[str, float] = {}
        self.slowest_s = 0.0
        self.judged: Schedule | None = None
        """The schedule entered last; a solver may hand back what it was given."""

    def enter_schedule(self, solver: str, schedule: Schedule | None) -> None:
        if schedule is None or schedule is self.judged:
            return
        self.judged = schedule
        with _no_collection():
            self.enter(solver, decode(self.problem, schedule))

    def enter(self, solver: str, plan: Plan) -> None:
        began = time.perf_counter()
        found = evaluate(self.request, plan, unplanned=self.problem.unplanned)
        if found.valid and found.cost < self.cost:
            self.plan, self.solver, self.cost = plan, solver, found.cost
            self.terms = dict(found.terms)
        self.slowest_s = max(self.slowest_s, time.perf_counter() - began)

    def response(self, bound: float, began: float) -> PlanResponse:
        assert self.plan is not None
        bound = min(bound, self.cost)  # a bound may exceed the cost only by rounding
        gap = relative_gap(self.cost, bound)
        return _response(
            self.request,
            Status.OPTIMAL if gap <= RELATIVE_TOLERANCE else Status.FEASIBLE,
            began,
            self.problem,
            plan=self.plan,
            cost=self.cost,
            terms=self.terms,
            lower_bound=bound,
            gap=gap,
            moved=tuple(moved_tasks(self.request, self.plan)),
            why=explain_waits(self.request, self.plan),
            solver=self.solver,
        )


def _response(
    request: PlanRequest, status: Status, began: float, problem: Problem, **facts: Any
) -> PlanResponse:
    sources = {e.source for by_class in request.estimates.values() for e in by_class.values()}
    return PlanResponse(
        request_id=request.request_id,
        snapshot_version=request.snapshot.version,
        status=status,
        unplanned=problem.unplanned,
        estimate_source=",".join(sorted(sources - {""})),
        wall_s=time.perf_counter() - began,
        **facts,
    )


def _choose(problem: Problem, budget: Budget) -> tuple[str, ...]:
    """The engines that ``auto`` takes for a problem of this shape; one, or two side by side."""
    tasks = len(problem.tasks)
    if tasks <= ASTAR_TASKS:
        return ("astar",)
    if tasks <= CPSAT_TASKS:
        return ("cpsat",)
    if is_project(problem):
        return ("project",)
    if is_shop(problem) and tasks <= SHOP_TASKS:
        return ("shop",)
    seconds = budget.seconds or 0.0
    beside = BOUND_TASKS if seconds >= BOUND_S else BESIDE_TASKS
    if tasks <= beside and budget.steps is None:
        return ("lns", "cpsat")
    return ("lns",)


def _warmed_s(solvers: tuple[str, ...]) -> float:
    """Seconds that compiling for some solvers took: none where `_families` foresaw them."""
    before = time.perf_counter()
    compiled = warm({LISTS, *(family for name in solvers for family in NEEDS.get(name, ()))})
    return time.perf_counter() - before if compiled else 0.0


def _families(request: PlanRequest, solver: str) -> set[str]:
    """The families of kernels that a solver, or ``auto``, can need for a request."""
    if solver != "auto":
        return {LISTS, *NEEDS.get(solver, ())}
    workers, fewest = request.snapshot.workers, len(request.snapshot.pending)
    most = fewest + sum(run.task.preemptible for run in request.snapshot.running)
    found = {LISTS, ASTAR} if fewest <= ASTAR_TASKS else {LISTS}
    if most <= CPSAT_TASKS:
        return found
    if request.policy.prices.makespan_alone:
        return found | ({PROJECTS} if len(workers) == 1 else {MOVES, SHOPS})
    kinds = {(w.machine_class, tuple(sorted(w.capacity.items()))) for w in workers}
    return found | ({MOVES, ORDERS} if len(kinds) == 1 else {MOVES})


def _solve_beside(
    names: tuple[str, ...],
    parameters: Mapping[str, Any],
    problem: Problem,
    budget: Budget,
    rng: np.random.Generator,
    incumbent: Schedule | None,
    observe: Observe | None,
) -> list[Solution]:
    """Solve with each engine, one thread each where there are two; the solutions in that order."""

    def solve(name: str, **more: int) -> Solution:
        solver = SOLVERS[name](**{**more, **parameters})
        return solver.solve(problem, budget=budget, rng=rng, incumbent=incumbent, observe=observe)

    if len(names) == 1:
        return [solve(names[0])]
    # CP-SAT first: it proves, and need not wait for what the other one finds.
    with ThreadPoolExecutor(1) as pool:
        prover = pool.submit(solve, names[1], tick_s=1)
        found = solve(names[0], threads=1)
        return [found, prover.result()]


def _with_bound(observe: Observe, bound: float) -> Observe:
    """The same observer, told the best bound known beside each cost."""
    return lambda cost, own: observe(cost, max(own, bound))


def _left(budget: Budget, began: float, reserve_s: float) -> Budget:
    """What is left of a budget, with some kept back."""
    if budget.seconds is None:
        return budget
    spent_s = time.perf_counter() - began + reserve_s
    return replace(budget, seconds=max(0.0, budget.seconds - spent_s))


def _restamped(incumbent: Plan, problem: Problem) -> Plan:
    """The incumbent's assignments of tasks that are still to be planned, for this snapshot."""
    snapshot = problem.request.snapshot
    wanted = {t.id for t in problem.tasks}
    kept = tuple(a for a in incumbent.assignments if a.task in wanted)
    return Plan(kept, (), snapshot.now_s, snapshot.version)


def _empty_schedule() -> Schedule:
    nothing = np.zeros(0, np.int64)
    return Schedule(nothing, nothing, nothing)
