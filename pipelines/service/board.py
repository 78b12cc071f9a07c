"""What the service holds between calls: the cluster as told, the estimates, the plan in force."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from planner import events
from planner.domain import BadRequest, Estimates, Snapshot
from planner.messages import Budget, Event, PlanRequest, PlanResponse


class Conflict(Exception):
    """What was asked does not go with what is held: nothing is held, or it has moved on."""


@dataclass
class Board:
    """The state of one cluster. Versions of its snapshot only ever rise.

    Parameters
    ----------
    request : PlanRequest, optional
        Holds the snapshot, the estimates and the policy.
    response : PlanResponse, optional
        The plan in force, made for this or an older version of the snapshot.
    """

    request: PlanRequest | None = None
    response: PlanResponse | None = None

    @property
    def held(self) -> PlanRequest:
        """The request that is held.

        Raises
        ------
        Conflict
            Where nothing is.
        """
        if self.request is None:
            raise Conflict("no cluster is held; POST a request to /v1/plan?hold=true first")
        return self.request

    def check_newer(self, snapshot: Snapshot) -> None:
        """Refuse a snapshot older than the one that is held."""
        if self.request is not None and snapshot.version < self.request.snapshot.version:
            raise Conflict(
                f"the snapshot's version is {snapshot.version}, but "
                f"{self.request.snapshot.version} is held; send a newer one"
            )

    def hold(self, request: PlanRequest, response: PlanResponse) -> None:
        """Make a planned request the state and its plan the one in force."""
        self.check_newer(request.snapshot)
        self.request, self.response = request, response

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
        request = self.held
        snapshot = request.snapshot
        if expected_version is not None and expected_version != snapshot.version:
            raise Conflict(
                f"version {snapshot.version} is held, not {expected_version}; "
                "GET /v1/state and send what it lacks"
            )
        for place, event in enumerate(happened):
            try:
                snapshot = events.apply(snapshot, event)
            except BadRequest as error:
                raise BadRequest(f"events.{place}: {error}") from None
        self.request = replace(
            request, snapshot=snapshot, estimates={**request.estimates, **estimates}
        )
        return snapshot

    def to_replan(self, budget: Budget | None, seed: int | None, now_s: int | None) -> PlanRequest:
        """The state as a request whose incumbent is the plan in force.

        Parameters
        ----------
        budget : Budget, optional
        seed : int, optional
            Those of the held request by default.
        now_s : int, optional
            The time of planning, seconds since the epoch: that of the last event by default.
        """
        request = self.held
        snapshot = request.snapshot
        if now_s is not None:
            if now_s < snapshot.now_s:
                raise BadRequest(f"now_s: {now_s} lies before the last event, at {snapshot.now_s}")
            snapshot = snapshot.evolved(now_s=now_s)
        plan = self.response.plan if self.response else None
        return replace(
            request,
            snapshot=snapshot,
            incumbent=plan,
            budget=budget or request.budget,
            seed=request.seed if seed is None else seed,
        )

    def commit(self, request: PlanRequest, response: PlanResponse) -> None:
        """Put a replanned plan in force, unless the cluster has changed in the meantime.

        A response without a plan leaves the old one in force.
        """
        held = self.held.snapshot.version
        if held != response.snapshot_version:
            raise Conflict(
                f"version {held} came while version {response.snapshot_version} was planned; "
                "the plan is not in force, ask again"
            )
        if response.plan is not None:
            self.request = replace(self.held, snapshot=request.snapshot)
            self.response = response

    def explain(self, task: str) -> dict[str, Any]:
        """Where a task stands, and what it waits for.

        Raises
        ------
        Conflict
            Where nothing is held.
        KeyError
            Where the task is not known.
        """
        snapshot, response = self.held.snapshot, self.response
        if (run := snapshot.running_by_id.get(task)) is not None:
            return {"task": task, "state": "running", "workers": run.workers,
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
