"""One call from request to response: encode, greedy floor, solve, judge, answer."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from plancast.planner.arrays import interruption
from plancast.planner.arrays.device_use import with_named
from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.modes import Choices, decode_choices, encode_choices
from plancast.planner.arrays.problem import Problem, Schedule, decode, with_devices
from plancast.planner.bounds.lower_bound import lower_bound
from plancast.planner.model.devices import filled
from plancast.planner.model.domain import RELATIVE_TOLERANCE, BadRequest, Plan
from plancast.planner.model.evaluate import evaluate, relative_gap
from plancast.planner.model.messages import AutoChoice, Budget, PlanRequest, PlanResponse, Status
from plancast.planner.planning.choice import ASTAR_TASKS, CPSAT_TASKS, Chosen, choose, once_begun
from plancast.planner.planning.in_part import may_be_planned_in_part, planned_in_part
from plancast.planner.planning.isolation import OVERDUE_S, run_apart
from plancast.planner.planning.preempt import preemptible, with_preemption
from plancast.planner.planning.response import judged, respond
from plancast.planner.planning.scenarios import plan_in_scenarios
from plancast.planner.planning.warm import (
    ASTAR,
    GUIDED,
    GUIDED_FORMS,
    LISTS,
    MODES,
    MOVES,
    NEEDS,
    ORDERS,
    PROJECTS,
    SHOPS,
    for_request,
    needs,
    prepared,
    uncollected,
    warm,
)
from plancast.planner.solvers import MODE_SOLVERS, SOLVERS
from plancast.planner.solvers.base import Observe, Solution

_log = logging.getLogger(__name__)

TIMED_BOUND_S = 4.0
"""With fewer seconds than this the relaxation with a clock would take too many of them."""
LEAST_BOUND_S = 0.1
"""The bound has so many seconds even where nothing is left of the budget."""
OVERLAP_TASKS = 2_000
"""From so many tasks on engines make ready beside the first list schedules, and the bound is found
beside them and the judging of the first plan."""
INTERRUPTED = "interrupted: this is the best plan found by then"
RESERVE, RESERVE_S = 1.3, 0.02
"""Kept back of the budget for the response: so many times what judging a plan took, and seconds."""
JUDGING = 3.0
"""Judging a plan takes about so many times what encoding its request took."""


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
        Called with (cost, lower bound) of each better schedule.
    **parameters
        The solver's own.

    Returns
    -------
    PlanResponse
        Never costlier than the greedy plan under the same estimates (on average over the policy's
        scenarios, where it names some), never an invalid plan;
        preemptible running tasks are stopped where that is cheaper
        (``plancast.planner.planning.preempt``); with ``budget.steps`` alone, a seed and the same
        request, the same plan. An engine that fails, returns nonsense or does not end in time costs
        its own plan: the response is the best of the others, with a ``warning``.

    Raises
    ------
    BadRequest
        For a solver that does not exist, or that does not know modes where tasks have some.
    """
    if solver != "auto" and solver not in SOLVERS:
        raise BadRequest(f"there is no solver {solver!r}; choose auto or {', '.join(SOLVERS)}")
    request = with_known_devices(request)
    if request.snapshot.has_modes:
        _refuse_with_modes(request, solver)
    with prepared(request, _families(request, solver, parameters)):
        if request.policy.scenarios:
            return plan_in_scenarios(
                request, lambda r: plan(r, solver, observe=observe, **parameters)
            )
        response = _whole(request, solver, observe, parameters)
        if response.plan is not None or not may_be_planned_in_part(request):
            return response
        began = time.perf_counter() - response.wall_s  # without what was compiled

        def search(part: PlanRequest, reserve_s: float) -> PlanResponse:
            left = _left(request.budget, began, RESERVE_S + reserve_s)
            return _whole(replace(part, budget=left), solver, observe, parameters)

        return planned_in_part(request, response, search, began)


def _whole(
    request: PlanRequest, solver: str, observe: Observe | None, parameters: Mapping[str, Any]
) -> PlanResponse:
    """Plan all tasks of a request, and stop running ones where that is cheaper."""
    if preemptible(request):
        return with_preemption(
            request,
            lambda r, out, o: plan_without_preemption(r, solver, o, parameters, left_out=out),
            observe,
        )
    return plan_without_preemption(request, solver, observe, parameters)


def _refuse_with_modes(request: PlanRequest, solver: str) -> None:
    """Refuse, by name, what does not know modes and budgets."""
    who = None
    if solver not in ("auto", *MODE_SOLVERS):
        who = f"{solver} cannot plan them; choose auto or {', '.join(MODE_SOLVERS)}"
    elif request.policy.scenarios:
        who = "a policy with scenarios cannot price them; leave scenarios out"
    elif stopped := preemptible(request):
        who = f"preemption cannot plan them; running task {stopped[0].task.id} is preemptible"
    if who is not None:
        raise BadRequest(f"the request has modes or budgets, and {who}")


def _with_devices(problem: Problem | Choices, in_force: Plan) -> Plan:
    """A plan in force with devices that are free."""
    if isinstance(problem, Choices):
        return with_named(problem.request, in_force)
    return in_force if problem.devices is None else with_devices(problem, in_force)


def with_known_devices(request: PlanRequest) -> PlanRequest:
    """The request with the devices of all that runs named: what is stopped changes no other's."""
    snapshot = filled(request.snapshot)
    return request if snapshot is request.snapshot else replace(request, snapshot=snapshot)


def plan_without_preemption(
    request: PlanRequest,
    solver: str = "auto",
    observe: Observe | None = None,
    parameters: Mapping[str, Any] = MappingProxyType({}),
    *,
    left_out: Mapping[str, str] | None = None,
) -> PlanResponse:
    """Plan a request but for the tasks `left_out`, and preempt nothing; see ``plan``."""
    began, cpu_s = time.perf_counter(), time.thread_time()
    with uncollected():
        problem = _encoded(request, left_out)
    if problem.infeasible or (problem.unplanned and not problem.tasks):
        return respond(
            request,
            began,
            problem.unplanned,
            status=Status.INFEASIBLE,
            why=problem.infeasible,
        )
    encoded_s = time.perf_counter() - began
    pace = encoded_s / max(1e-9, time.thread_time() - cpu_s)
    contest = _Contest(request, problem, max(1.0, pace), encoded_s)
    if request.incumbent is not None:
        in_force = _restamped(request.incumbent, problem)
        fault = contest.enter("incumbent", in_force)
        if fault is not None and request.snapshot.has_devices:
            # It may name no devices, or some that are not free any more.
            contest.enter("incumbent", _with_devices(problem, in_force))
    if problem.tasks:
        status, bound, began = _searched(contest, request, solver, began, observe, parameters)
    else:
        status, bound = Status.FEASIBLE, lower_bound(_plain(problem))
        contest.enter(solver, _decoded(problem, _empty_schedule()))
    if contest.plan is None:
        impossible = status is Status.INFEASIBLE
        return respond(
            request,
            began,
            problem.unplanned,
            status=Status.INFEASIBLE if impossible else Status.NO_PLAN_IN_TIME,
            warning=contest.warning(),
        )
    if status is Status.INFEASIBLE:
        contest.warnings.append("an engine called impossible what has a plan")
    return contest.response(bound, began)


def _searched(
    contest: _Contest,
    request: PlanRequest,
    solver: str,
    began: float,
    observe: Observe | None,
    parameters: Mapping[str, Any],
) -> tuple[Status, float, float]:
    """Let solvers take part: whether one called it impossible, the bound, and the clock's start."""
    problem, status = contest.problem, Status.FEASIBLE
    rng = np.random.default_rng(request.seed)
    chosen = choose(problem, request.budget) if solver == "auto" else Chosen({solver: {}}, "")
    began += _warmed_s(request, tuple(chosen.engines), problem)
    engines = _made(chosen, parameters)
    floor = _task(SOLVERS["greedy"](), problem, request.budget, rng, None)
    greedy, bound = _begun(contest, floor, engines, began, observe)
    first = None if greedy is None else greedy.schedule
    if solver == "auto" and not contest.is_proven(bound):
        chosen = once_begun(chosen, problem, request.budget, first)
        engines = _made(chosen, parameters)
        contest.auto = chosen.report(request.budget, engines)
        _log.info("request %s: auto chose %s", request.request_id, contest.auto)
    elif solver == "auto":
        contest.auto = AutoChoice({}, "the bound proves the first plan")
    if not engines or contest.is_proven(bound) or interruption.asked():
        return status, bound, began
    budget = _left(request.budget, began, RESERVE * contest.slowest_s + RESERVE_S)
    if first is None and budget.seconds is not None and may_be_planned_in_part(request):
        # The other half is for a plan of a part of the tasks.
        budget = replace(budget, seconds=budget.seconds / 2.0)
    overdue = None
    if budget.seconds is not None:
        overdue = time.perf_counter() + budget.seconds + OVERDUE_S
    solutions = contest.apart(
        {e.name: _task(e, problem, budget, rng, first) for e in engines},
        overdue,
        observe and _with_bound(observe, bound),
        bound,
    )
    contest.enter_all(solutions)
    for name, solution in solutions.items():
        if solution is not None:
            bound = max(bound, contest.trusted_bound(name, solution.lower_bound))
            if solution.status is Status.INFEASIBLE:
                status = Status.INFEASIBLE
    return status, bound, began


def _made(chosen: Chosen, parameters: Mapping[str, Any]) -> list[Any]:
    """The engines; the greedy plan is there anyway."""
    return [
        SOLVERS[name](**own, **parameters)
        for name, own in chosen.engines.items() if name != "greedy"
    ]  # fmt: skip


def _begun(
    contest: _Contest,
    floor: Callable[[Observe], Solution],
    engines: Sequence[Any],
    began: float,
    observe: Observe | None,
) -> tuple[Solution | None, float]:
    """The first plan, which nothing that follows is worse than, and a bound.

    A large plan takes as long to be found and judged as all the rest of the beginning: engines
    make ready meanwhile, and then the bound is found. With a step budget one thing comes after the
    other.
    """
    problem, budget = contest.problem, contest.request.budget
    if budget.seconds is None or len(problem.tasks) < OVERLAP_TASKS:
        found = contest.apart({"greedy": floor}, None, observe)
        contest.enter_all(found)
        return found["greedy"], _bound(problem, budget, began)
    # Where no time is left to search, what is made ready is judged as well.
    left = _left(budget, began, 2 * JUDGING * contest.encoded_s).seconds
    able = [e for e in engines if hasattr(e, "prepare")]
    until = began + budget.seconds

    def make_ready() -> float:
        if left and able and isinstance(problem, Problem):
            ready = {e.name: partial(_prepared, e, problem, left) for e in able}
            run_apart(ready, until)
        return _bound(problem, budget, began)

    with ThreadPoolExecutor(1) as pool:
        bound = pool.submit(make_ready)
        found = contest.apart({"greedy": floor}, None, observe)
        contest.enter_all(found)
    return found["greedy"], bound.result()


def _prepared(engine: Any, problem: Problem, seconds: float, check: Callable[[], None]) -> None:
    engine.prepare(problem, seconds)


def _encoded(request: PlanRequest, left_out: Mapping[str, str] | None) -> Problem | Choices:
    """The arrays of a request, with all ways of its tasks where they have modes."""
    if request.snapshot.has_modes:
        return encode_choices(request, left_out)
    return encode(request, left_out)


def _decoded(problem: Problem | Choices, schedule: Schedule) -> Plan:
    """A schedule as a plan."""
    if isinstance(problem, Choices):
        return decode_choices(problem, schedule)
    return decode(problem, schedule)


def _plain(problem: Problem | Choices) -> Problem:
    """The problem itself, or the one that costs no more than any choice of modes."""
    return problem.relaxed if isinstance(problem, Choices) else problem


def _bound(problem: Problem | Choices, budget: Budget, began: float) -> float:
    """No plan costs less, as far as the budget lets that be known; minus infinity for nothing."""
    left = _left(budget, began, 0.0).seconds
    overdue = None if left is None else time.perf_counter() + left + OVERDUE_S
    timed = budget.seconds is None or budget.seconds >= TIMED_BOUND_S
    most = None if left is None else max(left, LEAST_BOUND_S)
    found = run_apart(
        {"bound": lambda _: lower_bound(_plain(problem), timed=timed, seconds=most)}, overdue
    )
    result = found["bound"].result
    return float("-inf") if result is None else result


class _Shared:
    """What engines side by side know together: their least cost, and their best bound."""

    def __init__(self, bound: float, whole: bool) -> None:
        self.cost, self.bound, self.whole = float("inf"), bound, whole
        self.end = interruption.End()
        self.lock = threading.Lock()

    def report(self, cost: float, bound: float) -> bool:
        """Note an engine's cost and bound; whether they prove the best schedule, and all end.

        A bound above a schedule's cost proves nothing: one of the two is wrong.
        """
        with self.lock:
            self.cost, self.bound = min(cost, self.cost), max(bound, self.bound)
            if not (self.whole and math.isfinite(self.cost) and math.isfinite(self.bound)):
                return False
            if abs(self.cost - self.bound) > RELATIVE_TOLERANCE * abs(self.cost):
                return False
        self.end.ask()
        return True


class _Contest:
    """Keeps the cheapest valid plan by the evaluator's word."""

    def __init__(
        self, request: PlanRequest, problem: Problem | Choices, pace: float, encoded_s: float
    ) -> None:
        self.request, self.encoded_s = request, encoded_s
        self.pace = pace
        """Seconds in which this thread has one of the processor: others may want it too."""
        self.problem = problem
        self.plan: Plan | None = None
        self.solver = ""
        self.auto: AutoChoice | None = None
        self.cost = float("inf")
        self.terms: dict[str, float] = {}
        self.slowest_s = 0.0
        self.judged: Schedule | None = None
        """The schedule entered last; a solver may hand back what it was given."""
        self.warnings: list[str] = []

    def apart(
        self,
        engines: Mapping[str, Callable[[Observe], Solution]],
        overdue: float | None,
        observe: Observe | None,
        known: float = float("-inf"),
    ) -> dict[str, Solution | None]:
        """Let engines solve, each apart; None for one that fails.

        An engine whose schedule costs no more than the `known` bound is asked to end, and all are
        once the best bound of any proves the best schedule of any.
        """
        shared = _Shared(known, self._without_moves())

        def work(
            engine: Callable[[Observe], Solution],
        ) -> Callable[[Callable[[], None]], Solution]:
            def solve(check: Callable[[], None]) -> Solution:
                def report(cost: float, bound: float) -> bool:
                    check()
                    if observe is not None:
                        observe(cost, bound)
                    proven = relative_gap(cost, max(bound, known)) <= RELATIVE_TOLERANCE
                    return shared.report(cost, bound) or proven

                found = engine(report)
                if found.claimed is not None:
                    shared.report(found.claimed, found.lower_bound)
                return found

            return solve

        found = run_apart(
            {name: work(engine) for name, engine in engines.items()}, overdue, shared.end
        )
        self.warnings += [f"{name} {one.fault}" for name, one in found.items() if one.fault]
        return {name: outcome.result for name, outcome in found.items()}

    def _without_moves(self) -> bool:
        """Whether what all engines say of costs is the whole cost: some do not know of moves."""
        return self.request.incumbent is None or not _plain(self.problem).rates.move

    def enter_all(self, found: Mapping[str, Solution | None]) -> None:
        """Enter what engines found."""
        for name, solution in found.items():
            if solution is not None:
                self._enter_apart(name, solution.schedule)

    def _enter_apart(self, solver: str, schedule: Schedule | None) -> None:
        """Enter what an engine found, which may be no schedule at all."""
        try:
            fault = self.enter_schedule(solver, schedule)
        except (IndexError, TypeError, ValueError, AttributeError) as error:
            fault = str(error)
        if fault is not None:
            _log.error("engine %s returned an invalid schedule: %s", solver, fault)
            self.warnings.append(f"{solver} returned an invalid schedule ({fault})")

    def is_proven(self, bound: float) -> bool:
        """Whether a bound proves the best plan optimal."""
        return self.plan is not None and relative_gap(self.cost, bound) <= RELATIVE_TOLERANCE

    def trusted_bound(self, solver: str, bound: float) -> float:
        """An engine's bound; minus infinity for one that a valid plan contradicts."""
        if self.plan is None or bound <= self.cost + RELATIVE_TOLERANCE * abs(self.cost):
            return bound
        _log.error("engine %s claims a bound of %r; a plan costs %r", solver, bound, self.cost)
        self.warnings.append(
            f"{solver} claimed that no plan costs less than {bound:.6g}, but one costs "
            f"{self.cost:.6g}: its bound is ignored"
        )
        return float("-inf")

    def warning(self) -> str | None:
        """What went wrong, in one line; None for nothing."""
        return "; ".join(self.warnings) or None

    def enter_schedule(self, solver: str, schedule: Schedule | None) -> str | None:
        """Judge a schedule, and keep it if it is the best; what is wrong with it, if anything."""
        if schedule is None or schedule is self.judged:
            return None
        began, cpu_s = time.perf_counter(), time.thread_time()
        with uncollected():
            fault = self.enter(solver, _decoded(self.problem, schedule))
        # Beside others it waits for their turns at the interpreter, and will not in the end.
        alone_s = self.pace * (time.thread_time() - cpu_s)
        self.slowest_s = max(self.slowest_s, min(alone_s, time.perf_counter() - began))
        self.judged = schedule
        return fault

    def enter(self, solver: str, plan: Plan) -> str | None:
        """The same of a plan."""
        found = evaluate(self.request, plan, unplanned=self.problem.unplanned)
        if found.valid and found.cost < self.cost:
            self.plan, self.solver, self.cost = plan, solver, found.cost
            self.terms = dict(found.terms)
            interruption.has_plan()
        return None if found.valid else found.violations[0].text

    def response(self, bound: float, began: float) -> PlanResponse:
        assert self.plan is not None
        if interruption.asked():
            self.warnings.append(INTERRUPTED)
        return respond(
            self.request,
            began,
            self.problem.unplanned,
            **judged(self.request, self.plan, self.cost, self.terms, bound),
            warning=self.warning(),
            solver=self.solver,
            auto=self.auto,
        )


def _warmed_s(request: PlanRequest, solvers: tuple[str, ...], problem: Problem | Choices) -> float:
    """Seconds that compiling for some solvers took, on top of ``_families``."""
    began = time.perf_counter()
    compiled = warm(for_request(request, needs(solvers, problem)) - {LISTS})
    return time.perf_counter() - began if compiled else 0.0


def _families(request: PlanRequest, solver: str, parameters: Mapping[str, Any]) -> set[str]:
    """The families of kernels that a request can need, but for those that only ``needs`` knows."""
    if solver == "astar" and parameters.get("form") in GUIDED_FORMS:
        return {ASTAR, GUIDED}
    several = bool(request.policy.scenarios or preemptible(request))
    if solver != "auto":
        return set(NEEDS.get(solver, ())) if several or solver != "lns" else set()
    if request.snapshot.has_modes:
        alone = request.policy.prices.makespan_alone and len(request.snapshot.workers) == 1
        return {MODES} if alone else {MOVES}
    workers, fewest = request.snapshot.workers, len(request.snapshot.pending)
    most = fewest + sum(run.task.preemptible for run in request.snapshot.running)
    found = {ASTAR} if fewest <= ASTAR_TASKS else set()
    if most <= CPSAT_TASKS:
        return found
    if request.policy.prices.makespan_alone:
        return found | ({PROJECTS} if len(workers) == 1 else {MOVES, SHOPS})
    return found | {MOVES, ORDERS} if several else found


def _task(
    engine: Any,
    problem: Problem | Choices,
    budget: Budget,
    rng: np.random.Generator,
    incumbent: Schedule | None,
) -> Callable[[Observe], Solution]:
    """What an engine is to do, but for whom to tell of better schedules."""
    solve = engine.solve_modes if isinstance(problem, Choices) else engine.solve
    return lambda report: solve(
        problem, budget=budget, rng=rng, incumbent=incumbent, observe=report
    )


def _with_bound(observe: Observe, bound: float) -> Observe:
    """The same observer, called with the best bound known beside each cost."""
    return lambda cost, own: observe(cost, max(own, bound))


def _left(budget: Budget, began: float, reserve_s: float) -> Budget:
    """What is left of a budget, with some kept back."""
    if budget.seconds is None:
        return budget
    spent_s = time.perf_counter() - began + reserve_s
    return replace(budget, seconds=max(0.0, budget.seconds - spent_s))


def _restamped(incumbent: Plan, problem: Problem | Choices) -> Plan:
    """The incumbent's assignments of tasks that are still to be planned, for this snapshot."""
    snapshot = problem.request.snapshot
    wanted = {t.id for t in problem.tasks}
    kept = tuple(a for a in incumbent.assignments if a.task in wanted)
    return Plan(kept, (), snapshot.now_s, snapshot.version)


def _empty_schedule() -> Schedule:
    nothing = np.zeros(0, np.int64)
    return Schedule(nothing, nothing, nothing, nothing)
