"""Preemption at the time of planning: which running tasks to stop, and what a bound then says.

A preempted task loses its work and is pending again; ``moves`` charges 1 for it and the hours
it had run. A set of tasks to preempt makes another request, in which they are pending: any
solver answers it, and the evaluator judges the answer as a plan of the request at hand.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.rates import stop_cost
from plancast.planner.bounds.lower_bound import lower_bound
from plancast.planner.model.domain import HOUR_S, RELATIVE_TOLERANCE, Finished, Plan, Running
from plancast.planner.model.evaluate import (
    evaluate,
    unplanned_weight,
)
from plancast.planner.model.messages import AutoChoice, Budget, PlanRequest, PlanResponse, Status
from plancast.planner.planning.response import judged
from plancast.planner.solvers.base import Observe

ALL_SETS_OF = 4
"""Up to this many preemptible tasks every set of them is bounded, and tried if that lets it."""
MOST_TRIED = 16
"""Sets that are tried where there are more."""
FIRST_SHARE = 0.5
"""Share of the seconds for the plan that preempts nothing."""

BOUND_SHARE = 0.1
"""Share of the seconds, about, in which sets are bounded where there are many."""

MOST_LEFT_OUT = 4
"""Up to this many tasks that have no place without preemption every set of them may be left out
with it; of more, all or none."""

Answer = Callable[[PlanRequest, Mapping[str, str], Observe | None], PlanResponse]
"""Plans a request without preempting anything, and without the tasks named, each with the reason
why it is left out; tells of better schedules."""


def preemptible(request: PlanRequest) -> list[Running]:
    """The running tasks that a plan may stop, those first that free most for least lost work.

    Notes
    -----
    A task whose predecessor is in the request no more cannot be planned again.
    """
    snapshot = request.snapshot
    known = set(snapshot.pending_by_id) | set(snapshot.running_by_id)
    known |= {f.id for f in snapshot.finished}
    loose = [
        r for r in snapshot.running if r.task.preemptible and known.issuperset(r.task.predecessors)
    ]

    def lost_share(run: Running) -> float:
        held = sum(snapshot.worker_by_id[w].dominant_share(run.task.demand) for w in run.workers)
        return (snapshot.now_s - run.start_s + 1) / max(held, 1e-9)

    return sorted(loose, key=lost_share)


def preempting(request: PlanRequest, names: Collection[str]) -> PlanRequest:
    """The request in which these running tasks are pending, and no task is preemptible.

    Notes
    -----
    Where they ran the worker is on: it need not be booted. A plan of it costs as much as the
    same plan with `names` preempted costs here, less ``stop_price``.
    """
    snapshot = request.snapshot
    stopped = [r for r in snapshot.running if r.task.id in names]
    on = {w for run in stopped for w in run.workers}
    incumbent = request.incumbent
    if incumbent is not None:
        # It may tell of them from before they started; only pending tasks can move.
        kept = tuple(a for a in incumbent.assignments if a.task not in names)
        incumbent = replace(incumbent, assignments=kept)
    return replace(
        request,
        snapshot=replace(
            snapshot,
            workers=tuple(replace(w, boot_kwh=0.0) if w.id in on else w for w in snapshot.workers),
            pending=(*snapshot.pending, *(r.task for r in stopped)),
            running=tuple(
                replace(r, task=replace(r.task, preemptible=False))
                for r in snapshot.running
                if r.task.id not in names
            ),
        ),
        incumbent=incumbent,
    )


def stop_price(request: PlanRequest, names: Collection[str]) -> float:
    """What the ``moves`` of preempting these tasks cost."""
    snapshot = request.snapshot
    lost_h = sum((snapshot.now_s - snapshot.running_by_id[n].start_s) / HOUR_S for n in names)
    return stop_cost(request.policy, len(names), lost_h)


def bound_of_any_set(
    request: PlanRequest,
    loose: Collection[Running],
    left_out: Mapping[str, str] | None = None,
) -> float:
    """No plan costs less that leaves out the tasks `left_out`, whichever of `loose` it preempts.

    Notes
    -----
    The bound of the request without them, their workers left on. Each term is then at its
    least: they hold nothing, nothing waits for them, and what they add to it is at least 0
    (their waits so far excepted, which are added where they are below 0).
    """
    snapshot = request.snapshot
    names = {r.task.id for r in loose}
    on = {w for run in loose for w in run.workers}
    bare = replace(
        request,
        snapshot=replace(
            snapshot,
            workers=tuple(replace(w, boot_kwh=0.0) if w.id in on else w for w in snapshot.workers),
            running=tuple(r for r in snapshot.running if r.task.id not in names),
            finished=(
                *snapshot.finished,
                *(
                    Finished(r.task.id, snapshot.now_s, start_s=r.start_s)
                    for r in sorted(loose, key=lambda r: r.task.id)
                ),
            ),
        ),
    )
    problem = encode(bare, left_out)
    owner = {name: k for k, name in enumerate(problem.owners)}
    tasks, waits = problem.owner_tasks.copy(), problem.owner_wait_h.copy()
    early = 0.0
    for run in loose:
        wait_s = min(0, run.start_s - run.task.release_s)
        early += problem.rates.wait * run.task.weight * wait_s
        if run.task.owner in owner:
            tasks[owner[run.task.owner]] += 1
            waits[owner[run.task.owner]] += wait_s / HOUR_S
    return lower_bound(replace(problem, owner_tasks=tasks, owner_wait_h=waits)) + early


def with_preemption(
    request: PlanRequest, answer: Answer, observe: Observe | None = None
) -> PlanResponse:
    """The best answer over sets of running tasks to preempt, the empty set among them.

    Parameters
    ----------
    request : PlanRequest
    answer : callable
        Plans a request and preempts nothing.
    observe : callable, optional
        Called with the cost of each better schedule; of a bound nothing is known until the end.

    Returns
    -------
    PlanResponse
        Its lower bound holds whatever is preempted. A set is tried only if its bound is below
        the best cost; with up to ``ALL_SETS_OF`` preemptible tasks every set is bounded, with
        more each alone (and the best of them together), and the rest by
        ``bound_of_any_set``. A budget in steps is spent on each set that is tried.
    """
    return _Choice(request, answer, preemptible(request), observe).made()


@dataclass(frozen=True, slots=True)
class _Set:
    """Tasks to preempt, and what is known of a plan that stops these.

    ``left_out`` is the weight of the pending tasks `out` that such a plan leaves out, `without`
    those of them that it leaves out by choice, with the reasons, and `bound` a cost that it is not
    below.
    """

    names: tuple[str, ...] = ()
    left_out: float = 0.0
    bound: float = -math.inf
    out: frozenset[str] = frozenset()
    without: Mapping[str, str] = field(default_factory=dict)


class _Choice:
    """The best response so far, over the sets of tasks that are preempted."""

    def __init__(
        self,
        request: PlanRequest,
        answer: Answer,
        loose: list[Running],
        observe: Observe | None,
    ) -> None:
        self.request, self.answer, self.loose, self.observe = request, answer, loose, observe
        self.began = time.perf_counter()
        self.best: tuple[float, float] = (math.inf, math.inf)
        self.reported = math.inf
        self.plan: Plan | None = None
        self.solver = ""
        self.auto: AutoChoice | None = None
        self.unplanned: dict[str, str] = {}
        self.homeless: Mapping[str, str] = {}
        """Tasks that have no place if nothing is preempted, each with the reason."""
        self.all_sets = len(loose) <= ALL_SETS_OF
        self.proven: dict[tuple[frozenset[str], frozenset[str]], float] = {}
        """A cost that no plan is below which preempts some tasks and leaves out some others."""
        self.warnings: dict[str, None] = {}
        self.open: list[float] = []
        """Weights left out by sets of which nobody knows whether they have a plan."""

    def made(self) -> PlanResponse:
        """The response over all sets."""
        kept, without = self._ask(_Set(), FIRST_SHARE)
        self.homeless = kept.unplanned
        impossible = kept.status is Status.INFEASIBLE
        sets = sorted(self._sets(), key=lambda s: (s.left_out, s.bound))
        gains: list[tuple[tuple[float, float], str]] = []
        tried = 0
        for number, candidate in enumerate(sets):
            share = 1.0 / (len(sets) - number)
            turns, rank, possible = self._try(candidate, share)
            tried += turns
            impossible &= not possible
            if rank < without:
                gains.append((rank, candidate.names[0]))
        if not self.all_sets:
            impossible = False
            self._grow([name for _, name in sorted(gains)])
        if not tried and kept.status is not Status.OPTIMAL and self._budget(1.0).seconds:
            self._ask(_Set(), 1.0)  # the time that was set aside
        if self.plan is None:
            status = Status.INFEASIBLE if impossible else Status.NO_PLAN_IN_TIME
            return replace(kept, status=status, wall_s=time.perf_counter() - self.began)
        return self._response(kept)

    def _try(self, candidate: _Set, share: float) -> tuple[int, tuple[float, float], bool]:
        """Ask for a set; where it has no plan, without tasks that have no place anyway.

        Returns
        -------
        turns : int
            How often was asked.
        rank : tuple of float
            Least (weight left out, cost).
        possible : bool
            Whether there is or might be a plan.
        """
        turns, rank, possible = 0, (math.inf, math.inf), False
        line, planned = [candidate], list[frozenset[str]]()
        while line:
            one = line.pop(0)
            if any(out <= one.out for out in planned):
                continue  # it leaves out more than it must
            if self._settled(one) or self._budget(1.0).seconds == 0:
                self._note(one, one.out, one.bound)
                self.open.append(one.left_out)
                possible = True
                continue
            turns += 1
            response, found = self._ask(one, share)
            rank = min(rank, found)
            if response.plan is not None:
                planned.append(one.out)
            possible |= response.status is not Status.INFEASIBLE
            if response.status is Status.INFEASIBLE and not one.without:
                line += self._with_less(one.names)
        return turns, rank, possible

    def _sets(self) -> Iterator[_Set]:
        names = [r.task.id for r in self.loose]
        if self.all_sets:
            chosen = [c for n in range(1, len(names) + 1) for c in combinations(names, n)]
        else:
            chosen = [(name,) for name in names[:MOST_TRIED]]
        for number, some in enumerate(chosen):
            left_s = self._budget(1.0).seconds
            if number and not self.all_sets and left_s is not None:
                spent_s = time.perf_counter() - self.began
                if left_s < (1.0 - FIRST_SHARE - BOUND_SHARE) * (left_s + spent_s):
                    return
            found = self._set(some, {})
            if found is not None:
                yield found
            else:
                # Impossible with all tasks; perhaps not without those that have no place anyway.
                yield from self._with_less(some)

    def _with_less(self, names: tuple[str, ...]) -> list[_Set]:
        """The same preempted tasks without more of those that have no place anyway."""
        if not self.homeless:
            return []
        problem = encode(preempting(self.request, names))
        more = [name for name in self.homeless if name not in problem.unplanned]
        chosen: list[tuple[str, ...]] = [tuple(n for n in more if n in problem.infeasible)]
        if len(more) <= MOST_LEFT_OUT:
            chosen = [c for n in range(len(more)) for c in combinations(more, n)]
        chosen = [some for some in dict.fromkeys([*chosen, tuple(more)]) if some]
        found = [self._set(names, {name: self.homeless[name] for name in c}) for c in chosen]
        return sorted((s for s in found if s), key=lambda s: (s.left_out, len(s.out)))

    def _set(self, names: tuple[str, ...], without: Mapping[str, str]) -> _Set | None:
        """What is known of a set; None where it has no plan, or nobody would gain by it."""
        problem = encode(preempting(self.request, names), without)
        waiting = self.request.snapshot.pending_by_id
        if waiting and waiting.keys() <= problem.unplanned.keys():
            return None
        if problem.infeasible or not problem.unplanned.keys().isdisjoint(names):
            return None
        bound = lower_bound(problem) + stop_price(self.request, names)
        out = frozenset(problem.unplanned)
        return _Set(names, self._weight(out), bound, out, without)

    def _weight(self, names: Collection[str]) -> float:
        tasks = self.request.snapshot.pending_by_id
        return sum(tasks[name].weight for name in names)

    def _grow(self, gainful: list[str]) -> None:
        """Preempt together what was worth it alone, while it gets cheaper."""
        names: tuple[str, ...] = tuple(gainful[:1])
        for name in gainful[1:]:
            before = self.best
            if self._budget(1.0).seconds == 0:
                return
            if self._ask(_Set((*names, name)), FIRST_SHARE)[1] <= before:
                names = (*names, name)

    def _settled(self, candidate: _Set) -> bool:
        """Whether neither a set nor the same without more tasks can lead to a better plan."""
        if not self._hopeless(candidate):
            return False
        less = [] if candidate.without else self._with_less(candidate.names)
        return all(self._hopeless(one) for one in less)

    def _hopeless(self, candidate: _Set) -> bool:
        left_out, cost = self.best
        least = candidate.bound * (1 + RELATIVE_TOLERANCE / 2)
        return (candidate.left_out, least) >= (left_out, cost)

    def _budget(self, share: float) -> Budget:
        budget = self.request.budget
        if budget.seconds is None:
            return budget
        left_s = budget.seconds - (time.perf_counter() - self.began)
        return replace(budget, seconds=max(0.0, left_s * share))

    def _ask(self, one: _Set, share: float) -> tuple[PlanResponse, tuple[float, float]]:
        """The answer for a set, and its (weight left out, cost)."""
        names, rank = one.names, (math.inf, math.inf)
        price = stop_price(self.request, names)
        asked = replace(preempting(self.request, names), budget=self._budget(share))
        response = self.answer(asked, one.without, lambda cost, _: self._tell(cost + price))
        if response.warning is not None:
            self.warnings[response.warning] = None
        bound = -math.inf if response.lower_bound is None else response.lower_bound + price
        if response.status is Status.INFEASIBLE:
            bound = math.inf
        elif response.plan is None:
            self.open.append(self._weight(response.unplanned.keys() - {*names}))
        self._note(one, frozenset(response.unplanned), max(bound, one.bound))
        if response.plan is not None and response.unplanned.keys().isdisjoint(names):
            plan = replace(response.plan, preempted=names)
            found = evaluate(self.request, plan, unplanned=response.unplanned)
            if found.valid:
                rank = (unplanned_weight(self.request, plan), found.cost)
            if rank < self.best:
                self.best, self.plan, self.solver = rank, plan, response.solver
                self.auto = response.auto
                self.unplanned = dict(response.unplanned)
        return response, rank

    def _note(self, one: _Set, out: frozenset[str], bound: float) -> None:
        """Write down that no plan of a set that leaves these tasks out costs less."""
        key = (frozenset(one.names), out)
        self.proven[key] = max(bound, self.proven.get(key, -math.inf))

    def _tell(self, cost: float) -> None:
        if self.observe is not None and cost < self.reported:
            self.reported = cost
            self.observe(cost, -math.inf)

    def _lower_bound(self) -> float:
        """No plan of the tasks that are planned costs less, whatever it preempts.

        Notes
        -----
        That a set has no plan with all tasks that fit says nothing of plans without those that the
        best plan leaves out: each set is bounded for exactly these.
        """
        if not self.all_sets:
            return bound_of_any_set(self.request, self.loose, self.unplanned)
        names = [r.task.id for r in self.loose]
        out = frozenset(self.unplanned)
        bounds = []
        for some in (c for n in range(len(names) + 1) for c in combinations(names, n)):
            bound = self.proven.get((frozenset(some), out))
            if bound is None and self._budget(1.0).seconds == 0:
                bound = bound_of_any_set(self.request, self.loose, self.unplanned)
            bounds.append(self._bound_of(some) if bound is None else bound)
        return min(bounds)

    def _bound_of(self, names: tuple[str, ...]) -> float:
        """No plan that preempts these tasks and plans what the best plan does costs less."""
        problem = encode(preempting(self.request, names), self.unplanned)
        if problem.infeasible or not problem.unplanned.keys() <= self.unplanned.keys():
            return math.inf
        return lower_bound(problem) + stop_price(self.request, names)

    def _response(self, kept: PlanResponse) -> PlanResponse:
        assert self.plan is not None
        cost = self.best[1]
        bound = min(self._lower_bound(), cost)
        if any(left_out < self.best[0] for left_out in self.open):
            bound = min(0.0, bound)  # more could perhaps be planned: that is not comparable
        terms = evaluate(self.request, self.plan, unplanned=self.unplanned).terms
        return replace(
            kept,
            **judged(self.request, self.plan, cost, terms, bound),
            warning="; ".join(self.warnings) or None,
            unplanned=self.unplanned,
            solver=self.solver,
            auto=self.auto,
            wall_s=time.perf_counter() - self.began,
        )
