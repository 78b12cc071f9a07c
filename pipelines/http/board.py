"""What the service holds between calls: the cluster by its events, estimates, the plan in force."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plancast.planner.model.domain import BadRequest, Estimates, Snapshot
from plancast.planner.model.messages import Budget, Event, PlanRequest, PlanResponse
from plancast.planner.planning.controller import (
    Choice,
    Controller,
    ControlPolicy,
    Decision,
    Refused,
)
from plancast.planner.planning.expected_starts import Outlook

MOST_AHEAD_S = 366 * 86_400
"""How far after the last event a moment may lie: one in milliseconds lies 50,000 years after it,
and once it was believed every event of the present would be one of the past."""


class Conflict(Exception):
    """What was asked does not go with what is held: nothing is held, or it has moved on."""


@dataclass
class Board:
    """The state of one cluster. Versions of its snapshot only ever rise.

    Parameters
    ----------
    control : ControlPolicy
        When a plan is kept, repaired, made anew.
    mind : Controller, optional
        What is known, and the plan in force with its promises.
    response : PlanResponse, optional
        The last answer about the plan in force.
    decision : Decision, optional
        What was last chosen, and why.
    """

    control: ControlPolicy = field(default_factory=ControlPolicy)
    mind: Controller | None = None
    response: PlanResponse | None = None
    decision: Decision | None = None

    def __post_init__(self) -> None:
        self._outlooks: tuple[Any, Mapping[str, Outlook]] | None = None
        self._looking = threading.Lock()
        # Requests are answered by several threads; each change is whole.
        self._changing = threading.Lock()

    @property
    def known(self) -> Controller:
        """What is held.

        Raises
        ------
        Conflict
            Where nothing is.
        """
        if self.mind is None:
            raise Conflict("no cluster is held; POST a request to /v1/plan?hold=true first")
        return self.mind

    @property
    def held(self) -> PlanRequest:
        """The request that is held; see ``known``."""
        return self.known.request

    def check_newer(self, snapshot: Snapshot) -> None:
        """Refuse a snapshot older than the one that is held."""
        if self.mind is not None and snapshot.version < self.mind.snapshot.version:
            raise Conflict(
                f"the snapshot's version is {snapshot.version}, but "
                f"{self.mind.snapshot.version} is held; send a newer one"
            )

    def hold(self, request: PlanRequest, response: PlanResponse) -> None:
        """Make a planned request the state and its plan the one in force."""
        mind = Controller(request, self.control)
        if response.plan is not None:
            _commit(mind, request, response, Choice.REPLAN)
        with self._changing:
            self.check_newer(request.snapshot)
            self.mind, self.response = mind, response
            self.decision = Decision(Choice.REPLAN, "it was sent to be held")

    def tell(
        self, happened: Sequence[Event], estimates: Estimates, expected_version: int | None
    ) -> Snapshot:
        """Fold events into the snapshot: all of them, or none.

        Raises
        ------
        Conflict
            Where the version held is not the expected one.
        BadRequest
            Where an event cannot follow, naming its place in the list.
        """
        with self._changing:
            mind = replace(self.known)
            held = mind.snapshot.version
            if expected_version is not None and expected_version != held:
                raise Conflict(
                    f"version {held} is held, not {expected_version}; "
                    "GET /v1/state and send what it lacks"
                )
            for place, event in enumerate(happened):
                _check_moment(f"events.{place}.at_s", event.at_s, mind.snapshot.now_s)
                try:
                    mind.tell(event, estimates)
                except BadRequest as error:
                    raise BadRequest(f"events.{place}: {error}") from None
            self.mind = mind
            return mind.snapshot

    def asked(self, seed: int | None, now_s: int | None) -> Controller:
        """What is held, to be thought about.

        Parameters
        ----------
        seed : int, optional
            That of the held request by default.
        now_s : int, optional
            The time of planning, seconds since the epoch: that of the last event by default.
        """
        mind = self._at(now_s)
        if seed is not None:
            mind.request = replace(mind.request, seed=seed)
        return mind

    def commit(self, asked: Controller, decision: Decision, response: PlanResponse) -> None:
        """Take an answer, unless the cluster has changed in the meantime.

        A response without a plan leaves the old one in force, and one that keeps it leaves its
        promises as they were.
        """
        with self._changing:
            mind = replace(self.known)
            version = mind.snapshot.version
            if version != response.snapshot_version:
                raise Conflict(
                    f"version {version} came while version {response.snapshot_version} was "
                    "planned; the plan is not in force, ask again"
                )
            self.decision = decision
            if response.plan is None:
                return
            mind.advance(asked.snapshot.now_s)
            if decision.choice is not Choice.KEEP:
                _commit(mind, asked.ask(decision.choice), response, decision.choice)
            self.mind, self.response = mind, response

    def stands(self, task: str) -> dict[str, Any]:
        """Where a task stands, by the plan in force as it was made.

        Raises
        ------
        Conflict
            Where nothing is held.
        KeyError
            Where the task is not known.
        """
        snapshot, response = self.known.snapshot, self.response
        if (run := snapshot.running_by_id.get(task)) is not None:
            state = "stopping" if task in self.known.stopping else "running"
            return {"task": task, "state": state, "workers": run.workers,
                    "start_s": run.start_s}  # fmt: skip
        if (ended := snapshot.finished_by_id.get(task)) is not None:
            return {"task": task, "state": ended.outcome.value, "end_s": ended.end_s}
        if task not in snapshot.pending_by_id:
            raise KeyError(task)
        planned = response.plan.by_task.get(task) if response and response.plan else None
        if planned is None:
            reason = "it came after the plan in force was made; POST /v1/replan"
            if response is not None:
                reason = response.unplanned.get(task) or response.why.get(task) or reason
            return {"task": task, "state": "unplanned", "why": reason}
        assert response is not None
        why = response.why.get(task, "it waits for nothing: the plan starts it at its release")
        return {"task": task, "state": "planned", "workers": planned.workers,
                "start_s": planned.start_s, "end_s": planned.end_s, "why": why}  # fmt: skip

    def explain(self, task: str, now_s: int | None = None) -> dict[str, Any]:
        """Where a task stands now, and what it waits for until when.

        Parameters
        ----------
        task : str
        now_s : int, optional
            Seconds since the epoch: the time of the last event by default.

        Notes
        -----
        The times are those that the plan in force has by now, and the start by which it has
        begun with 90% is a quantile over executions of it
        (``plancast.planner.planning.expected_starts``). Where the plan does not hold any more it is
        given as it was made.
        """
        mind = self._at(now_s)
        found = self.stands(task)
        if found["state"] != "planned":
            return found
        outlook = self._outlook(mind).get(task)
        if outlook is not None:
            length_s = found["end_s"] - found["start_s"]
            found |= {"why": outlook.text, "start_s": outlook.start_s,
                      "end_s": outlook.start_s + length_s, "half_s": outlook.half_s,
                      "sure_s": outlook.sure_s}  # fmt: skip
            if outlook.until:
                found["until"] = outlook.until
        return found

    # ------------------------------------------------------------------ inside

    def _at(self, now_s: int | None) -> Controller:
        mind = replace(self.known)
        if now_s is not None:
            last_s = mind.snapshot.now_s
            if now_s < last_s:
                raise BadRequest(f"now_s: {now_s} lies before the last event, at {last_s}")
            _check_moment("now_s", now_s, last_s)
            mind.advance(now_s)
        return mind

    def _outlook(self, mind: Controller) -> Mapping[str, Outlook]:
        """Of all that waits; kept until something changes, as it is asked for task by task."""
        state = (mind.snapshot.version, mind.snapshot.now_s, mind.plan)
        with self._looking:
            if self._outlooks is None or self._outlooks[0] != state:
                self._outlooks = (state, mind.why())
            return self._outlooks[1]


def _check_moment(name: str, at_s: int, last_s: int) -> None:
    if at_s - last_s > MOST_AHEAD_S:
        raise BadRequest(
            f"{name}: {at_s} lies {(at_s - last_s) // 86_400} days after the last event, at "
            f"{last_s}; times are seconds since the epoch, not milliseconds"
        )


def control_of(control: ControlPolicy, budget: Budget, given: bool) -> ControlPolicy:
    """A policy whose plans have this budget; repairs have it too where it was asked for.

    Parameters
    ----------
    control : ControlPolicy
    budget : Budget
    given : bool
        Whether it was asked for, or is only the most there is.
    """
    repairing = budget
    if not given and budget.seconds is not None:
        usual = control.repair_budget.seconds
        repairing = replace(budget, seconds=min(budget.seconds, usual or budget.seconds))
    return replace(control, repair_budget=repairing, replan_budget=budget)


def _commit(mind: Controller, asked: PlanRequest, response: PlanResponse, choice: Choice) -> None:
    try:
        mind.commit(asked, response, choice)
    except Refused as why:
        raise Conflict(f"the plan is not in force: {why}") from None
