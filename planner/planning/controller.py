"""The master's side of planning: what is known, the plan in force, and when to change it.

No decision reads a clock, and nothing here starts a process or keeps a file: the same events at
the same times lead to the same decisions, so that a master can be replayed and restarted.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import decode
from plancast.planner.arrays.rates import without_moves
from plancast.planner.model import events
from plancast.planner.model.domain import (
    Assignment,
    BadRequest,
    Estimates,
    Plan,
    Snapshot,
)
from plancast.planner.model.evaluate import evaluate, price, terms
from plancast.planner.model.messages import (
    Budget,
    Event,
    PlanRequest,
    PlanResponse,
    Status,
    TaskChanged,
    TaskOverran,
    TaskPreempted,
    TaskStarted,
)
from plancast.planner.planning.expected_starts import Outlook, outlooks
from plancast.planner.planning.plan import plan
from plancast.planner.planning.repair import repair, response_of
from plancast.planner.solvers.lns.local_search import fixed_arrays, ranks
from plancast.planner.solvers.lns.reinsertion import reinserted, standing

KEPT = "kept"
"""Said to be the solver of a plan that was in force already."""


class Choice(str, Enum):
    """What to do about the plan in force."""

    KEEP = "keep"
    REPAIR = "repair"
    REPLAN = "replan"


@dataclass(frozen=True, slots=True)
class Decision:
    """A choice, and why in words."""

    choice: Choice
    reason: str


@dataclass(frozen=True, slots=True)
class ControlPolicy:
    """When a plan is kept, repaired, made anew.

    Parameters
    ----------
    slack_s : int
        A task may slip this far beyond its promised start before the plan is repaired.
    costlier : float
        How much costlier than when it was committed the plan may have become, relative, before
        it is repaired.
    much_costlier : float
        The same before it is made anew: the price of staleness.
    replan_every_s : int
        Least time between two full plans, seconds.
    frozen_s : int
        Tasks to start so soon keep their workers in a repair.
    repair_budget, replan_budget : Budget
    """

    slack_s: int = 60
    costlier: float = 0.01
    much_costlier: float = 0.10
    replan_every_s: int = 300
    frozen_s: int = 0
    repair_budget: Budget = field(default_factory=lambda: Budget(0.05))
    replan_budget: Budget = field(default_factory=lambda: Budget(2.0))

    def __post_init__(self) -> None:
        for name in ("slack_s", "costlier", "much_costlier", "replan_every_s", "frozen_s"):
            if getattr(self, name) < 0:
                raise BadRequest(f"control: {name} is {getattr(self, name)}; it must be 0 or more")
        if self.much_costlier < self.costlier:
            raise BadRequest("control: much_costlier must not be below costlier")


class Refused(Exception):
    """A plan that was not put in force; the text says why."""


@dataclass
class Controller:
    """What a master knows and has promised.

    Parameters
    ----------
    request : PlanRequest
        Snapshot, estimates, policy; its incumbent and budget are not looked at.
    control : ControlPolicy
    plan : Plan, optional
        In force: the promises.
    cost : float, optional
        What the plan cost when it was committed.
    planned_at_s : int, optional
        When a full plan was last committed.
    unplanned : mapping of str to str
        Tasks that the plan in force leaves out, each with the reason.
    stopping : frozenset of str
        Running tasks that a plan in force preempts and that have not stopped yet.
    firm : frozenset of str
        Tasks that are not preempted, whatever they say of themselves.
    """

    request: PlanRequest
    control: ControlPolicy = field(default_factory=ControlPolicy)
    plan: Plan | None = None
    cost: float | None = None
    planned_at_s: int | None = None
    unplanned: Mapping[str, str] = field(default_factory=dict)
    stopping: frozenset[str] = frozenset()
    firm: frozenset[str] = frozenset()
    room_changed: bool = False
    """Whether room has come free or been taken since the order was last searched."""
    left_out: frozenset[str] = frozenset()
    """Tasks that the last plan had no place for, whatever has happened since."""
    futile_version: int | None = None
    """Version of the snapshot for which no plan was found: asking again would find none."""
    _kept: list[tuple[tuple[PlanRequest, Plan | None], Plan | None]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )
    """The last plans that were timed anew, with what they were made of."""
    _hopeless: tuple[PlanRequest, dict[str, str]] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    @property
    def snapshot(self) -> Snapshot:
        """The cluster as the events so far make it."""
        return self.request.snapshot

    @property
    def expected(self) -> PlanRequest:
        """The request that plans are made for: what is being stopped waits already.

        Notes
        -----
        Of the same version. A task that was asked to stop holds its room until it has
        reportedly stopped; plans look ahead to that, starts do not.
        """
        snapshot = self.snapshot
        for name in sorted(self.stopping):
            stopped = events.apply(snapshot, TaskPreempted(snapshot.now_s, name))
            snapshot = stopped.evolved(version=self.snapshot.version)
        firm = self.firm and self.firm & snapshot.running_by_id.keys()
        if firm and any(snapshot.running_by_id[name].task.preemptible for name in firm):
            running = tuple(
                replace(r, task=replace(r.task, preemptible=False)) if r.task.id in self.firm else r
                for r in snapshot.running
            )
            snapshot = snapshot.evolved(running=running)
        if snapshot is self.snapshot:
            return self.request
        return self.request.evolved(snapshot=snapshot)

    # ------------------------------------------------------------------ what happens

    def tell(self, event: Event, estimates: Estimates | None = None) -> None:
        """Fold one event in.

        Parameters
        ----------
        event : Event
        estimates : mapping, optional
            Of the tasks that are new.

        Raises
        ------
        BadRequest
            Where the event cannot follow; nothing is changed then.
        """
        snapshot = events.apply(self.snapshot, event)
        known = self.request.estimates
        if estimates:
            known = {**known, **estimates}
        # Of a thousand tasks one is another than before: the others were looked at already.
        names = {*(estimates or ()), *_tasks_of(event)}
        before = self.request
        self.request = self.request.followed(snapshot, known, names)
        if isinstance(event, TaskStarted):
            self._starts_as_timed(before, event)
        self.stopping = self.stopping.intersection(snapshot.running_by_id)
        if isinstance(event, TaskChanged) and self.plan is not None:
            # Its place in the plan was another task's: it is placed anew.
            rows = tuple(a for a in self.plan.assignments if a.task != event.task.id)
            self.plan = replace(self.plan, assignments=rows)
        if not isinstance(event, TaskStarted | TaskOverran):
            # What had no place may have one now.
            self.unplanned = {}
            self.room_changed = True

    def advance(self, now_s: int) -> None:
        """Time passes; a clock that goes back is not believed."""
        if now_s > self.snapshot.now_s:
            self.request = self.request.evolved(snapshot=self.snapshot.evolved(now_s=now_s))

    # ------------------------------------------------------------------ what to do

    def retimed(self) -> Plan | None:
        """The plan in force with the times that it has by now.

        Returns
        -------
        Plan or None
            The same workers, and on each worker the same order; None where some task has no
            plan that could be kept.
        """
        return self._timed(self.expected)

    def _timed(self, request: PlanRequest) -> Plan | None:
        """As ``retimed`` under a request; kept, since a look follows a decision about the same."""
        key = (request, self.plan)
        for known, found in self._kept:
            if known[0] is key[0] and known[1] is key[1]:
                return found
        found = self._timed_anew(request)
        self._kept = [*self._kept[-1:], (key, found)]
        return found

    def _starts_as_timed(self, before: PlanRequest, event: TaskStarted) -> None:
        """What starts when and where it was timed to leaves the times of all others as they are."""
        for (request, in_force), found in self._kept:
            row = None if found is None else found.by_task.get(event.task)
            if (
                request is before and in_force is self.plan and found is not None
                and row is not None and row.workers == event.workers
                and row.start_s == event.at_s == self.snapshot.now_s
            ):  # fmt: skip
                rest = tuple(a for a in found.assignments if a is not row)
                left = replace(found, assignments=rest, snapshot_version=self.snapshot.version)
                self._kept = [*self._kept[-1:], ((self.request, in_force), left)]
                return

    def _timed_anew(self, request: PlanRequest) -> Plan | None:
        if self.plan is None:
            return None
        problem = encode(request.evolved(incumbent=self.plan), self.unplanned)
        if problem.infeasible:
            return None
        snapshot = request.snapshot
        if not problem.tasks:
            return Plan((), (), snapshot.now_s, snapshot.version)
        stands = standing(problem)
        if not stands.keeps.all():
            return None
        found = reinserted(problem, fixed_arrays(problem), stands, ranks(problem)[0], 1e-9, False)
        if found is None or found[1].any():
            return None
        return decode(problem, found[0])

    def decide(self) -> Decision:
        """Keep the plan in force, repair it, or plan anew."""
        snapshot = self.expected.snapshot
        waiting = [t for t in snapshot.pending if t.id not in self.unplanned]
        if not snapshot.pending:
            return Decision(Choice.KEEP, "nothing waits")
        if not waiting or self.futile_version == snapshot.version:
            return Decision(Choice.KEEP, "what waits cannot be planned")
        if self.plan is None:
            return Decision(Choice.REPLAN, "there is no plan yet")
        if self.room_changed and self.request.policy.scenarios:
            # It is searched anew whatever still holds: nothing has to be timed for that.
            lacks = self._what_does_not_hold()
            return Decision(
                Choice.REPAIR, lacks or "room has come free or is taken: who goes first?"
            )
        kept = self.retimed()
        if kept is None:
            lacks = self._what_does_not_hold()
            return Decision(Choice.REPAIR, lacks or "some task finds no place any more as planned")
        found = evaluate(
            self._asked(Budget(0.0)), kept,
            unplanned=[t.id for t in snapshot.pending if t.id not in kept.by_task],
        )  # fmt: skip
        if not found.valid:
            return Decision(Choice.REPAIR, found.violations[0].text)
        return self._worth_keeping(kept, self.plan, found.terms)

    def _worth_keeping(self, kept: Plan, in_force: Plan, amounts: Mapping[str, float]) -> Decision:
        """Whether a plan that still holds, of these terms, has become too late or too costly."""
        snapshot, control = self.expected.snapshot, self.control
        late = [(a.start_s - in_force.by_task[a.task].start_s, a.task) for a in kept.assignments]
        slip_s, slipped = max(late, default=(0, ""))
        stale = (
            self.planned_at_s is None
            or snapshot.now_s - self.planned_at_s >= control.replan_every_s
        )
        grown = 0.0
        # A cost is worked out only where something depends on it: it takes as long as a plan's.
        if (stale or slip_s > control.slack_s) and self.cost is not None and self.cost > 0:
            # What has ended is paid for: only what is still to come can be costlier than promised.
            grown = (self._priced(amounts) - self._cost_as_promised()) / self.cost
        if grown > control.much_costlier and stale:
            return Decision(Choice.REPLAN, f"the plan has become {grown:.0%} costlier")
        if slip_s > control.slack_s and grown > control.costlier:
            return Decision(
                Choice.REPAIR,
                f"{slipped} slips by {slip_s} s, and the plan has become {grown:.1%} costlier",
            )
        return Decision(Choice.KEEP, "the plan holds")

    def hopeless(self) -> dict[str, str]:
        """Waiting tasks that cannot be planned as things stand, each with the reason."""
        request = self.expected
        if self._hopeless is None or self._hopeless[0] is not request:
            self._hopeless = (request, encode(request).unplanned)
        return self._hopeless[1]

    def ask(self, choice: Choice) -> PlanRequest:
        """The request that a choice asks a planner."""
        budget = (
            self.control.repair_budget if choice is Choice.REPAIR else self.control.replan_budget
        )
        return self._asked(budget)

    def answer(self, request: PlanRequest, choice: Choice) -> PlanResponse:
        """What the house's own planner answers; any other may be asked instead."""
        if choice is Choice.REPAIR:
            return repair(request, frozen_s=self.control.frozen_s)
        return plan(request)

    def kept(self) -> PlanResponse | None:
        """The plan in force, timed anew, as a response; None where it does not hold."""
        began = time.perf_counter()
        asked, made = self._asked(Budget(0.0)), self.retimed()
        if made is None:
            return None
        left_out = {
            task: reason
            for task, reason in {**self.unplanned, **self.hopeless()}.items()
            if task not in made.by_task
        }
        found = evaluate(asked, made, unplanned=left_out)
        if not found.valid:
            return None
        return response_of(asked, made, found, began, solver=KEPT, unplanned=left_out)

    def rethought(self) -> tuple[Decision, PlanResponse]:
        """A decision and what comes of it: the plan in force as it stands, or another one."""
        decision = self.decide()
        if decision.choice is Choice.KEEP:
            kept = self.kept()
            if kept is not None:
                return decision, kept
            decision = Decision(Choice.REPLAN, decision.reason)
        return decision, self.answer(self.ask(decision.choice), decision.choice)

    def commit(self, request: PlanRequest, response: PlanResponse, choice: Choice) -> None:
        """Put a plan in force.

        Parameters
        ----------
        request : PlanRequest
            What was asked.
        response : PlanResponse
        choice : Choice

        Raises
        ------
        Refused
            Where the cluster has changed since the request, or the response answers another
            one, has no plan, or an invalid one. The old plan stays in force.
        """
        snapshot = self.snapshot
        if response.request_id != request.request_id:
            raise Refused(f"it answers request {response.request_id}, not {request.request_id}")
        if response.snapshot_version != snapshot.version:
            raise Refused(
                f"it was made for version {response.snapshot_version}; "
                f"{snapshot.version} has come since"
            )
        if response.plan is None:
            # What cannot be planned is no reason to ask again and again.
            if response.status is Status.INFEASIBLE:
                self.futile_version, self.unplanned = snapshot.version, dict(response.unplanned)
                self.left_out = frozenset(self.unplanned)
            raise Refused(f"there is no plan: {response.status.value}")
        found = evaluate(request, response.plan, unplanned=response.unplanned)
        if not found.valid:
            raise Refused(f"it is invalid: {found.violations[0].text}")
        self.plan, self.cost, self.room_changed = response.plan, found.cost, False
        self.unplanned = dict(response.unplanned)
        self.left_out = frozenset(self.unplanned)
        self.stopping |= set(response.plan.preempted)
        if response.plan.made_at_s == snapshot.now_s and not (self.stopping or self.unplanned):
            # Made for this moment, it has the times that it would be given.
            self._kept = [((self.request, self.plan), self.plan)]
        if choice is Choice.REPLAN:
            self.planned_at_s = snapshot.now_s

    def due(self) -> list[Assignment]:
        """What is to be started now, in the order of the plan.

        Notes
        -----
        Of the plan as it is timed now: a task starts once those before it have ended, whatever
        the hour. A retimed plan is valid for the snapshot, so that what starts now fits beside
        what runs, what is being stopped included.
        """
        kept = self._timed(self.request)
        if kept is None:
            return []
        snapshot = self.snapshot
        return [
            a for a in kept.assignments
            if a.start_s <= snapshot.now_s and not snapshot.unmet(snapshot.pending_by_id[a.task])
        ]  # fmt: skip

    def why(self, most: int | None = None) -> dict[str, Outlook]:
        """What each waiting task waits for, with the times that the plan has by now.

        Parameters
        ----------
        most : int, optional
            Only of so many, the first to start: a small part of the work where many wait.
        """
        kept = self.retimed()
        return {} if kept is None else outlooks(self._asked(Budget(0.0)), kept, most=most)

    # ------------------------------------------------------------------ inside

    def _asked(self, budget: Budget) -> PlanRequest:
        return self.expected.evolved(incumbent=self.plan, budget=budget)

    def _priced(self, amounts: Mapping[str, float]) -> float:
        """What terms cost, moves left out."""
        return price(without_moves(self.request.policy).prices, amounts)

    def _cost_as_promised(self) -> float:
        """What the tasks that wait would cost at their promised times, where these lie ahead."""
        assert self.plan is not None
        now = self.snapshot.now_s
        rows = []
        for task in self.expected.snapshot.pending:
            row = self.plan.by_task.get(task.id)
            if row is not None:
                late = max(0, now - row.start_s)
                rows.append(replace(row, start_s=row.start_s + late, end_s=row.end_s + late))
        promised = Plan(tuple(rows), (), now, self.snapshot.version)
        return self._priced(terms(self._asked(Budget(0.0)), promised))

    def _what_does_not_hold(self) -> str:
        """The first waiting task that has no plan to keep, and why; empty where all have one."""
        assert self.plan is not None
        known = self.snapshot.worker_by_id
        for task in self.expected.snapshot.pending:
            row = self.plan.by_task.get(task.id)
            if row is None and task.id not in self.unplanned:
                return f"{task.id} is not in the plan"
            if row is not None and any(w not in known for w in row.workers):
                gone = next(w for w in row.workers if w not in known)
                return f"worker {gone}, on which {task.id} was to run, is gone"
        return ""


def _tasks_of(event: Event) -> list[str]:
    """Tasks that an event names; those of a lost worker wait again as they did before."""
    named = getattr(event, "task", None)
    return [] if named is None else [named if isinstance(named, str) else named.id]
