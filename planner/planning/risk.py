"""Plans against the distribution of run times, not one quantile of it.

Candidate plans (made at several quantile levels, by several solvers) are executed under the
same sampled run times, and the one whose cost has the best mean or tail is taken.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from plancast.planner.arrays.hours import refuse_hours
from plancast.planner.arrays.problem import Floats, Ints, csr
from plancast.planner.arrays.rates import moves_cost, rates_of
from plancast.planner.arrays.relations import refuse_relations
from plancast.planner.arrays.running import expected_end_s, reserved_s
from plancast.planner.arrays.schedule import FAR
from plancast.planner.arrays.worker_table import worker_arrays
from plancast.planner.model.domain import (
    BadRequest,
    DurationEstimate,
    Plan,
    estimate_for,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import PlanRequest, PlanResponse, RiskReport
from plancast.planner.planning.partial_order import PartialOrder, partial_order
from plancast.planner.planning.plan import plan
from plancast.planner.planning.response import judged
from plancast.planner.planning.rollouts import sampled_costs as sampled_costs_of
from plancast.planner.solvers.base import Observe

LEVELS = (0.5, 0.65, 0.8, 0.9)
"""Quantile levels at which candidates are planned, besides the policy's own."""
MOST_SAMPLES = 100_000


@dataclass(frozen=True, slots=True)
class RiskMeasure:
    """What is made small: the mean cost, or the mean of its worst share.

    Parameters
    ----------
    level : float
        0 for the mean; CVaR at 0.9 is the mean of the costliest tenth.
    """

    level: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.level < 1:
            raise BadRequest(f"risk: the level of CVaR is {self.level}; it must lie in [0, 1)")

    @classmethod
    def parse(cls, text: str) -> RiskMeasure:
        """A measure from ``mean`` or ``cvar:0.9``."""
        name, _, level = text.partition(":")
        if text == "mean":
            return cls()
        try:
            if name == "cvar":
                return cls(float(level))
        except ValueError:
            pass
        raise BadRequest(f"risk {text!r}: write mean, or cvar: and a level in [0, 1), as cvar:0.9")

    def __str__(self) -> str:
        return f"cvar:{self.level:g}" if self.level else "mean"

    def of(self, costs: Floats) -> float:
        """The measure of sampled costs.

        Notes
        -----
        ``min over t of t + mean(max(0, cost - t)) / (1 - level)``, at its minimiser, the
        quantile at the level: exact where the level cuts through a sample.

        References
        ----------
        Rockafellar, Uryasev (2000), "Optimization of conditional value-at-risk",
        doi:10.21314/JOR.2000.038.
        """
        if not self.level:
            return float(costs.mean())
        at = float(np.quantile(costs, self.level, method="inverted_cdf"))
        return at + float(np.maximum(0.0, costs - at).mean()) / (1.0 - self.level)


class Samples:
    """Run times of every task of a request, the same for every plan (common random numbers).

    Parameters
    ----------
    request : PlanRequest
    count : int
    seed : int
        The request's own where not given.
    names : sequence of str, optional
        Tasks that are asked for; all of the request where not given.

    Notes
    -----
    Each task has a uniform number in every sample, stratified: one in each of `count` equal
    parts of (0, 1), in an order of its own (Latin hypercube). Its run time on any class is that
    quantile of its estimate; a gang takes as long as its slowest piece.

    References
    ----------
    McKay, Beckman, Conover (1979), "A comparison of three methods for selecting values of
    input variables in the analysis of output from a computer code", doi:10.2307/1268522.
    """

    def __init__(
        self, request: PlanRequest, count: int, seed: int | None = None,
        names: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        if not 1 <= count <= MOST_SAMPLES:
            raise BadRequest(f"risk: samples is {count}; it must lie in 1 to {MOST_SAMPLES:,}")
        self.request, self.count = request, count
        rng = np.random.default_rng(request.seed if seed is None else seed)
        snapshot = request.snapshot
        if names is None:
            names = [*snapshot.pending_by_id, *snapshot.running_by_id]
        self.level = {name: (rng.permutation(count) + rng.random(count)) / count for name in names}

    def run_s(self, task: str, workers: Sequence[str]) -> Ints:
        """Run times of a task that starts anew on these workers. Shape (samples,)."""
        return self._slowest(task, workers, self.level[task])

    def end_s(self, task: str) -> Ints:
        """Ends of a running task, seconds after now. Shape (samples,).

        Notes
        -----
        As ``running.expected_end_s``, at the sampled level instead of the policy's.
        """
        now = self.request.snapshot.now_s
        run = self.request.snapshot.running_by_id[task]
        elapsed = now - run.start_s
        remaining = np.ones(self.count, np.int64)
        for name in set(run.workers):
            estimate = self._estimate(task, name)
            if estimate is not None:
                left = [estimate.remaining_at(float(u), elapsed) for u in self.level[task]]
                remaining = np.maximum(remaining, np.array(left, np.int64))
        if run.task.requested_s is not None:
            remaining = np.maximum(1, np.minimum(remaining, run.task.requested_s - elapsed))
        return remaining

    def _estimate(self, task: str, worker: str) -> DurationEstimate | None:
        machine = self.request.snapshot.worker_by_id[worker]
        return estimate_for(self.request.estimates, task, machine.machine_class)

    def _slowest(self, task: str, workers: Sequence[str], level: Floats) -> Ints:
        slowest = np.ones(self.count, np.int64)
        for estimate in {self._estimate(task, w) for w in workers} - {None}:
            assert estimate is not None
            seconds = np.interp(level, estimate.levels, estimate.seconds)
            slowest = np.maximum(slowest, np.ceil(seconds - 1e-9).astype(np.int64))
        return slowest


def sampled_costs(order: PartialOrder, samples: Samples) -> Floats:
    """Cost of a plan, executed as a partial order, in every sample. Shape (samples,).

    Notes
    -----
    What ``evaluate`` says of each execution (mode realised), in one kernel; ``moves`` are
    those of the plan.
    """
    request, plan_ = order.request, order.plan
    snapshot = request.snapshot
    now = snapshot.now_s
    tasks, workers = order.tasks, order.workers
    owners = {*(t.owner for t in snapshot.pending), *(r.task.owner for r in snapshot.running)}
    owner = {name: k for k, name in enumerate(sorted(owners))}
    owner_tasks = np.zeros(len(owner))
    for task in (*snapshot.pending, *(r.task for r in snapshot.running)):
        owner_tasks[owner[task.owner]] += 1
    index = {w.id: k for k, w in enumerate(snapshot.workers)}
    machines = worker_arrays(snapshot.workers, (), now)
    on = np.zeros(len(index), np.bool_)
    for run in snapshot.running:
        on[[index[w] for w in run.workers]] = True
    runs, ends = _drawn(order, samples)
    share = [
        snapshot.worker_by_id[w].dominant_share(tasks[i].demand)
        for i in range(len(tasks))
        for w in workers[i]
    ]
    rates = rates_of(request.policy.prices, snapshot.workers, now)
    costs: Floats = sampled_costs_of(
        rates,
        order.order, runs, ends, order.planned, order.earliest, order.link_ptr, order.link,
        order.window_ptr, order.window_start, order.window_end, order.began,
        np.array([t.release_s - now for t in tasks], np.int64),
        np.array([FAR if t.deadline_s is None else t.deadline_s - now for t in tasks], np.int64),
        np.array([t.weight for t in tasks]),
        np.array([owner[t.owner] for t in tasks], np.int64), owner_tasks,
        *csr([[index[w] for w in names] for names in workers]), np.array(share),
        machines["free_from"], machines["health"], on,
    )  # fmt: skip
    return costs + moves_cost(request.policy, evaluate(request, plan_).terms)


def _drawn(order: PartialOrder, samples: Samples) -> tuple[Ints, Ints]:
    """Durations of what is placed and ends of what runs, each of shape (samples, tasks)."""
    runs = np.ones((samples.count, len(order.tasks)), np.int64)
    ends = np.zeros((samples.count, len(order.tasks)), np.int64)
    for i, task in enumerate(order.tasks):
        if i < order.placed:
            runs[:, i] = samples.run_s(task.id, order.workers[i])
        else:
            ends[:, i] = samples.end_s(task.id)
    return runs, ends


def plan_under_risk(
    request: PlanRequest,
    measure: RiskMeasure,
    *,
    samples: int = 200,
    solver: str = "auto",
    levels: Sequence[float] = LEVELS,
    observe: Observe | None = None,
    **parameters: Any,
) -> PlanResponse:
    """The plan whose executions cost least by a measure of risk.

    Parameters
    ----------
    request : PlanRequest
        Its budget is shared by the candidates; a budget in steps is spent on each.
    measure : RiskMeasure
    samples : int
        Sampled sets of run times; the request's seed fixes them.
    solver : str
    levels : sequence of float
        Quantile levels at which candidates are planned, besides the policy's own.
    observe : callable, optional
        Called at better schedules at the policy's own level.
    **parameters
        The solver's own.

    Returns
    -------
    PlanResponse
        Valid and priced at the policy's level like any other; ``risk`` tells the measure of the
        plan taken and of each candidate. Never worse by the measure than the plain plan.

    Notes
    -----
    A plan made at another level is a worker and an order for each task: it is given the times
    of its execution with the policy's durations, and dropped where a hard bound is broken then.
    """
    request.snapshot.refuse_modes("planning under risk")
    refuse_relations(request.snapshot, "risk", only_lags=True)
    refuse_hours(request, "planning under risk")
    began = time.perf_counter()
    drawn = Samples(request, samples)
    own = request.policy.level
    tried = [own, *(x for x in dict.fromkeys(levels) if x != own)]
    base: PlanResponse | None = None
    found: list[tuple[float, float, str, Plan, Floats]] = []
    for number, level in enumerate(tried):
        for name in dict.fromkeys((solver, "greedy")):
            asked = _at_level(request, level, began, len(tried) - number)
            result = observe if level == own else None
            response = plan(asked, name, observe=result, **(parameters if name == solver else {}))
            if base is None:
                base = response
            if response.plan is None or response.unplanned.keys() != base.unplanned.keys():
                continue
            order = partial_order(asked, response.plan)
            timed = partial_order(request, _retimed(request, order))
            if evaluate(request, timed.plan, unplanned=base.unplanned).valid:
                costs = sampled_costs(timed, drawn)
                found.append((measure.of(costs), level, response.solver, timed.plan, costs))
    assert base is not None
    if not found:
        return base
    # Equals: the first, which is the plain plan's.
    best = min(range(len(found)), key=lambda k: (found[k][0], k))
    risk, level, name, chosen, costs = found[best]
    report = RiskReport(
        measure=str(measure),
        samples=samples,
        level=level,
        value=risk,
        mean=float(costs.mean()),
        cvar_90=RiskMeasure(0.9).of(costs),
        worst=float(costs.max()),
        plain=found[0][0],
        candidates=len(found),
    )
    return _response(request, base, chosen, name, report, began)


def _retimed(request: PlanRequest, order: PartialOrder) -> Plan:
    """A plan of any level with the times that it has at the policy's durations."""
    machines = request.snapshot.worker_by_id
    planned = order.planned.copy()
    for i in range(order.placed):
        on = [machines[w] for w in order.workers[i]]
        planned[i] = reserved_s(request, order.tasks[i].id, on) or 1
    kept = [order.request.snapshot.running_by_id[t.id] for t in order.tasks[order.placed :]]
    ends = order.ends.copy()
    ends[order.placed :] = [expected_end_s(request, r) - request.snapshot.now_s for r in kept]
    return replace(order, planned=planned, ends=ends).executed(planned)


def _at_level(request: PlanRequest, level: float, began: float, still_to_plan: int) -> PlanRequest:
    """The request at another level, with its share of the seconds that are left."""
    budget = request.budget
    if budget.seconds is not None:
        left_s = max(0.0, budget.seconds - (time.perf_counter() - began))
        budget = replace(budget, seconds=left_s / still_to_plan)
    return replace(request, policy=replace(request.policy, level=level), budget=budget)


def _response(
    request: PlanRequest,
    base: PlanResponse,
    chosen: Plan,
    solver: str,
    report: RiskReport,
    began: float,
) -> PlanResponse:
    """The response at the policy's level, with what its plan costs there."""
    found = evaluate(request, chosen, unplanned=base.unplanned)
    return replace(
        base,
        **judged(request, chosen, found.cost, found.terms, base.lower_bound),
        solver=solver,
        risk=report,
        wall_s=time.perf_counter() - began,
    )
