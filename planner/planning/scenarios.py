"""Scenarios of a common level: a plan that is good on average if all tasks run short, or all long.

Forecasts err together: what makes one task of a batch late makes its neighbours late, too. So
every task, running ones by what remains of them, takes the same level of its own distribution
in a scenario, and a plan is an order that costs least on average over a few such levels. Futures
in which each task draws a level of its own hide that risk in their sums, and a search fits
their noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Ints, Problem, Schedule, decode
from plancast.planner.arrays.running import expected_end_s, reserved_s
from plancast.planner.model.domain import (
    LIMIT,
    LIMIT_LEVEL,
    DurationEstimate,
    Plan,
    estimates_of,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import PlanRequest, PlanResponse
from plancast.planner.planning.partial_order import PartialOrder, partial_order
from plancast.planner.planning.response import judged
from plancast.planner.planning.warm import SCENARIOS, warm
from plancast.planner.solvers.lns.orders import (
    FEW_WORKERS,
    WARM,
    WARM_MOVES,
    OrderWalk,
    cost_of,
    first_orders,
    futures_of,
    in_topological_order,
    order_of,
    schedule_in,
    suits,
)
from plancast.planner.solvers.lns.scenario_rows import (
    ScenarioWalk,
    name_ranks,
    scenarios_of,
    suits_scenarios,
)

PLAIN_PART = 0.4
"""Part of the budget in which a plan is made at the policy's level alone."""
RESERVE_S, JUDGED = 0.03, 1.5
"""Kept back of a budget to judge the plan: seconds, and so many times what another one took."""
FEW_TASKS = 5
"""Of so many tasks each order is priced, in some milliseconds: a search has nothing to add."""
WALKED_TASKS = 15
"""Plans of a cluster are searched from so many tasks on: fewer need no kernels of a search."""
OTHER_LEVELS = (0.3, 0.5, 0.9)
"""Levels at which further candidates are planned where an order alone does not say enough."""

PlanOne = Callable[[PlanRequest], PlanResponse]


def in_scenario(request: PlanRequest, level: float) -> PlanRequest:
    """The request in which every task runs as long as one level says.

    Parameters
    ----------
    request : PlanRequest
    level : float
        In (0, 1), or ``LIMIT``: each task up to its kill limit, without one to its quantile
        at ``LIMIT_LEVEL``.

    Notes
    -----
    No hard bounds: what a plan promises, a scenario may break; lateness and waiting have prices.
    """
    policy = replace(
        request.policy, level=LIMIT_LEVEL if level >= LIMIT else level, scenarios=(),
        hard_deadlines=False, max_wait_s=None, max_stretch=None,
    )  # fmt: skip
    if level < LIMIT:
        return replace(request, policy=policy)
    estimates = dict(request.estimates)
    snapshot = request.snapshot
    for task in (*snapshot.pending, *(r.task for r in snapshot.running)):
        if task.requested_s is not None and task.id in estimates:
            known = DurationEstimate.certain(task.requested_s, "limit")
            estimates[task.id] = dict.fromkeys(estimates_of(estimates, task.id), known)
    return replace(request, policy=policy, estimates=estimates)


@dataclass(frozen=True, eq=False)
class Outlooks:
    """A request and its scenarios.

    Parameters
    ----------
    request : PlanRequest
    problem : Problem
        At the policy's level.
    requests : dict of float to PlanRequest
        The scenarios in which every task of the problem finds a place, by level.
    problems : list of Problem
        Of these, in that order.
    """

    request: PlanRequest
    problem: Problem
    requests: dict[float, PlanRequest]
    problems: list[Problem]

    def costs(self, plan: Plan) -> dict[float, float]:
        """What a plan costs in each scenario, by the evaluator.

        Notes
        -----
        On one machine or few alike a plan is the order of its starts, and each scenario its
        serial schedule; elsewhere its workers stay, and on each its order.
        """
        if suits(self.problem):
            order = order_of(self.problem, _schedule(self.problem, plan))
            return self.costs_of_order(order)
        followed = partial_order(self.request, plan)
        return {
            level: _judged(asked, _followed(followed, asked))
            for level, asked in self.requests.items()
        }

    def costs_of_order(self, order: Ints) -> dict[float, float]:
        """What the serial schedules of an order cost, by the evaluator; infinity for none."""
        futures = futures_of(self.problems)
        result = {}
        for s, (level, asked) in enumerate(self.requests.items()):
            found = schedule_in(futures, s, order)
            result[level] = (
                float("inf") if found is None else _judged(asked, decode(self.problems[s], found))
            )
        return result


def _followed(order: PartialOrder, asked: PlanRequest) -> Plan:
    """A plan with the times of a scenario, in which each task follows whom it follows."""
    snapshot = asked.snapshot
    run_s, ends = order.planned.copy(), order.ends.copy()
    for i, task in enumerate(order.tasks):
        if i < order.placed:
            on = [snapshot.worker_by_id[w] for w in order.workers[i]]
            run_s[i] = reserved_s(asked, task.id, on) or 1
        else:
            ends[i] = expected_end_s(asked, snapshot.running_by_id[task.id]) - snapshot.now_s
    return replace(order, ends=ends).executed(run_s)


def _schedule(problem: Problem, plan: Plan) -> Schedule:
    """A plan of every task of a problem as arrays."""
    now, index = problem.request.snapshot.now_s, {w.id: k for k, w in enumerate(problem.workers)}
    rows = [plan.by_task[task.id] for task in problem.tasks]
    return Schedule(
        np.array([r.start_s - now for r in rows], np.int64),
        np.array([r.end_s - now for r in rows], np.int64),
        np.array([index[w] for r in rows for w in r.workers], np.int64),
    )


def _judged(asked: PlanRequest, plan: Plan) -> float:
    """The price of a plan in a scenario, or infinity where it is not valid there."""
    left_out = [t.id for t in asked.snapshot.pending if t.id not in plan.by_task]
    found = evaluate(asked, plan, unplanned=left_out)
    return found.cost if found.valid else float("inf")


def outlooks_of(request: PlanRequest) -> Outlooks:
    """The scenarios of a request's policy.

    Notes
    -----
    A scenario in which a task finds no place any more (its workers drain away) is left out.
    """
    problem = encode(request)
    requests, problems = {}, []
    for level in request.policy.scenarios:
        asked = in_scenario(request, level)
        found = encode(asked)
        if found.tasks == problem.tasks:
            requests[level] = asked
            problems.append(found)
    return Outlooks(request, problem, requests, problems)


def mean(costs: Mapping[float, float]) -> float:
    """Mean cost over the scenarios."""
    return float(np.mean(list(costs.values()))) if costs else float("inf")


def plan_in_scenarios(request: PlanRequest, plan_one: PlanOne) -> PlanResponse:
    """The plan that costs least on average over the scenarios of the request's policy.

    Parameters
    ----------
    request : PlanRequest
        Its policy names scenarios.
    plan_one : callable
        Plans a request at its policy's level alone.

    Returns
    -------
    PlanResponse
        Valid, timed and priced at the policy's level like any other; ``scenarios`` tells what
        it costs in each. No costlier on average than the plan made at that level alone.

    Notes
    -----
    On one machine or few alike the order is searched with the mean over the scenarios as its
    price (``plancast.planner.solvers.lns.orders``), on a cluster the order and the workers of
    tasks are (``plancast.planner.solvers.lns.scenario_rows``). Where neither tells all of a plan,
    plans made at several levels are compared.
    """
    began = time.perf_counter()
    plain = replace(request, policy=replace(request.policy, scenarios=()))
    seen = outlooks_of(request)
    walks = len(seen.problem.tasks) >= WALKED_TASKS
    walks = walks and not suits(seen.problem) and suits_scenarios(seen.problem)
    if walks:
        clock = time.perf_counter()
        if warm((SCENARIOS,)):
            began += time.perf_counter() - clock
    budget = request.budget
    steps = None if budget.steps is None else int(PLAIN_PART * budget.steps)
    seconds = None if budget.seconds is None else PLAIN_PART * budget.seconds
    base = plan_one(replace(plain, budget=replace(budget, seconds=seconds, steps=steps)))
    if base.plan is None or not seen.requests or base.plan.preempted:
        return base
    clock = time.perf_counter()
    costs = seen.costs(base.plan)
    judged_s = time.perf_counter() - clock
    if suits(seen.problem):
        order = _searched(seen, base.plan, began)
        found = schedule_in(futures_of([seen.problem]), 0, order)
        plans = [] if found is None else [decode(seen.problem, found)]
    elif walks and (walk := _walk_from(seen, base.plan)) is not None:
        plans = _walked(seen, walk, began, judged_s)
    else:
        plans = _other_plans(seen, plain, plan_one, began)
    return _best(seen, base, costs, plans, began)


def reordered(request: PlanRequest, base: PlanResponse) -> PlanResponse:
    """A response whose plan is searched anew, from the order that is in force, for an event.

    Parameters
    ----------
    request : PlanRequest
        Its policy names scenarios.
    base : PlanResponse
        An answer to the request that keeps what it can of the plan in force.

    Returns
    -------
    PlanResponse
        On one machine or few alike no costlier than `base` on average over the scenarios;
        elsewhere `base`: an order alone says too little there.
    """
    began = time.perf_counter() - base.wall_s
    many = len(request.snapshot.workers) > FEW_WORKERS
    if many or base.plan is None or base.plan.preempted or not suits(encode(request)):
        return base
    seen = outlooks_of(request)
    if not seen.requests:
        return base
    order = order_of(seen.problem, _schedule(seen.problem, base.plan))
    walk = OrderWalk(futures_of(seen.problems), [order], request.seed, WARM)
    walk.step(WARM_MOVES, 0.0, 1.0)
    found = schedule_in(futures_of([seen.problem]), 0, walk.best)
    plans = [] if found is None else [decode(seen.problem, found)]
    return _best(seen, base, seen.costs(base.plan), plans, began)


def _searched(seen: Outlooks, plan: Plan, began: float) -> Ints:
    """The best order found with what is left of the budget."""
    request, problem = seen.request, seen.problem
    budget, futures = request.budget, futures_of(seen.problems)
    starts = first_orders(problem, _schedule(problem, plan))
    if len(problem.tasks) <= FEW_TASKS:
        each = (np.array(order) for order in permutations(range(len(problem.tasks))))
        starts += [in_topological_order(problem, order) for order in each]
        return min(starts, key=lambda order: cost_of(futures, order))
    walk = OrderWalk(futures, starts, request.seed)
    if budget.steps is not None:
        steps = budget.steps - int(PLAIN_PART * budget.steps)
        if steps:
            walk.step(steps, 0.0, 1.0)
    elif budget.seconds is not None:
        clock = time.perf_counter()
        left_s = budget.seconds - (clock - began) - RESERVE_S
        if left_s > 0:
            walk.step_until(clock + left_s, clock, left_s)
    return walk.best


def _walk_from(seen: Outlooks, plan: Plan) -> ScenarioWalk | None:
    """A search over the plans of a cluster; None where its kernel cannot tell how this one runs."""
    problem = seen.problem
    futures, start = scenarios_of(problem, seen.problems), _schedule(problem, plan)
    walk = ScenarioWalk(futures, name_ranks(problem), start, seen.request.seed)
    return walk if np.isfinite(walk.cost) else None


def _walked(seen: Outlooks, walk: ScenarioWalk, began: float, judged_s: float) -> list[Plan]:
    """The plan that a search finds with what is left of the budget."""
    budget = seen.request.budget
    if budget.steps is not None:
        walk.step_all(budget.steps - int(PLAIN_PART * budget.steps))
    elif budget.seconds is not None:
        walk.step_until(began + budget.seconds - RESERVE_S - JUDGED * judged_s)
    return [decode(seen.problem, walk.schedule())]


def _other_plans(seen: Outlooks, plain: PlanRequest, plan_one: PlanOne, began: float) -> list[Plan]:
    """Plans made at other levels, with the times that they have at the policy's."""
    budget, found = plain.budget, []
    for k, level in enumerate(OTHER_LEVELS):
        share = (1.0 - PLAIN_PART) / len(OTHER_LEVELS)
        steps = None if budget.steps is None else int(share * budget.steps)
        seconds = None
        if budget.seconds is not None:
            left_s = budget.seconds - (time.perf_counter() - began) - RESERVE_S
            seconds = max(0.0, left_s) / (len(OTHER_LEVELS) - k)
        asked = replace(
            plain, policy=replace(plain.policy, level=level),
            budget=replace(budget, seconds=seconds, steps=steps),
        )  # fmt: skip
        made = plan_one(asked)
        if made.plan is not None and not made.plan.preempted:
            found.append(_followed(partial_order(asked, made.plan), plain))
    return found


def _best(
    seen: Outlooks, base: PlanResponse, costs: dict[float, float], plans: list[Plan], began: float
) -> PlanResponse:
    """The response with the plan that costs least on average; the first of equals.

    `costs` are those of its own plan.
    """
    request = replace(seen.request, policy=replace(seen.request.policy, scenarios=()))
    assert base.plan is not None
    chosen = base.plan
    for plan in plans:
        if not evaluate(request, plan, unplanned=base.unplanned).valid:
            continue
        result = seen.costs(plan)
        if mean(result) < mean(costs):
            chosen, costs = plan, result
    found = evaluate(request, chosen, unplanned=base.unplanned)
    return replace(
        base,
        **judged(request, chosen, found.cost, found.terms, base.lower_bound),
        solver=base.solver if chosen is base.plan else f"{base.solver} in scenarios",
        scenarios={scenario_name(level): cost for level, cost in costs.items()},
        wall_s=time.perf_counter() - began,
    )


def scenario_name(level: float) -> str:
    """What a scenario is called: ``p30``, ``limit``."""
    return "limit" if level >= LIMIT else f"p{100 * level:g}"
