"""The master that stays: between two steps of the loop it takes up what users have asked for."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from plancast.pipelines.engines.base import (
    CHARGES,
    PREEMPT,
    Ended,
    EngineEvent,
    Key,
    Order,
    WorkerUp,
)
from plancast.pipelines.inputs.counted import RunningLimits
from plancast.pipelines.inputs.models import CHARGE_COLUMNS
from plancast.pipelines.inputs.slurm_nodes import partition_required
from plancast.pipelines.master.desk import Desk
from plancast.pipelines.master.leads import Leads
from plancast.pipelines.master.learner_link import Forecasts, requested
from plancast.pipelines.master.loop import Master
from plancast.pipelines.master.state import OrderRow, estimates_from
from plancast.pipelines.master.submitted import Submitted, task_of
from plancast.planner.model.domain import (
    Assignment,
    BadRequest,
    CountedResource,
    Estimates,
    Outcome,
    Task,
    Worker,
    estimate_for,
)
from plancast.planner.model.messages import (
    Event,
    ResourceCounted,
    TaskCancelled,
    TaskChanged,
    TaskStarted,
    TaskSubmitted,
    WorkerDraining,
)
from plancast.planner.planning.controller import Controller
from plancast.planner.planning.expected_starts import SURE, start_levels

HELD = "plancast-held"
"""A label that no worker has: a task that requires it waits until it is released."""
WINDOW = 500
"""Tasks that a plan looks at by default."""
CHECKPOINT_EVENTS = 500
"""Events between two checkpoints, from which a restart goes on; what has ended is let go of."""
MOST_REFUSED = 100
"""Refused plans that are remembered."""


@dataclass(frozen=True)
class Shown:
    """What the loop last knew, for whoever looks from another thread; nothing of it changes."""

    mind: Controller
    open: Mapping[str, OrderRow]
    promised: Mapping[str, int | None]
    drained: frozenset[str]
    event: int
    reason: str
    planned_s: float
    """When the plan in force was made, by ``time.monotonic``."""
    late: int
    """Tasks that wait still, though they were promised to have started."""


@dataclass
class Living(Master):
    """A master to which tasks come while it runs; parameters as of ``Master``, and these.

    Parameters
    ----------
    limits : RunningLimits
        Of the cluster file.
    learner : Forecasts, optional
        Forecasts tasks that come without estimates; requested times are believed without one.
    window : int
        Tasks that the plan looks at: the others wait outside until there is room. It bounds how
        long a decision takes.
    command_of : callable
        The command of a submission's template.
    note : callable
        Called with what happens, in words of the log.
    """

    limits: RunningLimits = field(default_factory=RunningLimits)
    learner: Forecasts | None = None
    window: int = WINDOW
    command_of: Callable[[str], Callable[[Task], Any]] | None = None
    note: Callable[..., None] = field(default=lambda what, **facts: None)

    def __post_init__(self) -> None:
        self.submitted = Submitted(self.state.writer)
        self.promised = self.submitted.promises()
        self.drained = frozenset(json.loads(self.state.fact("drained") or b"[]"))
        self.desk: Desk | None = None
        self.shown: Shown | None = None
        self.starts: list[tuple[int, int]] = []
        """Promised and true starts since they were last asked for."""
        self.ends: list[tuple[float, bool]] = []
        """Of runs that completed, likewise: log2 of the run time over its median forecast, and
        whether it ended within what plans reserve."""
        self.decided_s: list[float] = []
        """Seconds of decisions, likewise."""
        self._over_now: list[str] = []
        self._contests = 0
        self.leads = Leads(self.engine.begins_s, float(self.state.fact("stretch") or 1.0))
        self._waited: set[str] = {name for name, at_s in self.promised.items() if at_s is not None}
        self._planned_s = time.monotonic()
        self._checkpoint = self.state.last_event
        self._templates: dict[str, Any] = {}
        self._required: dict[str, tuple[str, ...]] = {}
        """Labels by partition."""
        super().__post_init__()

    def _orders_known(self) -> list[OrderRow]:
        wanted = self.submitted.open_orders()
        return [row for row in self.state.orders() if row.key[0] in wanted]

    # ------------------------------------------------------------------ the loop

    def step(self, wait_s: float) -> None:
        """Do what was asked, then hear, decide and start; promise, and let others look."""
        for key in self.take_asks():
            self.engine.cancel(key)
        came = self.let_in()
        if came:
            self.show()  # before a plan is made, which may take a while
        super().step(0.0 if came else wait_s)
        self._promise()
        self._learn()
        if self.state.last_event - self._checkpoint >= CHECKPOINT_EVENTS:
            self.settle()
        self.show()

    def take_asks(self) -> list[Key]:
        """Do what users asked for; the runs that are to be stopped for it."""
        found = self.submitted.untaken()
        if not found:
            return []
        stops: list[Key] = []
        with self.state.together():
            for number, kind, body in found:
                self.submitted.take(number)
                for name in body.get("names", []):
                    stops += self._do(kind, name, body)
        self.note("asked", asks=len(found))
        return stops

    def let_in(self) -> int:
        """Let tasks into the plan while there is room; how many came."""
        snapshot = self.mind.snapshot
        room = self.window - len(snapshot.pending)
        if any(w.capacity and not self._is_closed(w) for w in snapshot.workers):
            # What no plan has a place for does not keep others out, unless there is none at all.
            room += len(self.mind.left_out & snapshot.pending_by_id.keys())
        if self.learner is not None and self.learner.busy:
            return 0
        came = 0
        while room > 0 and (rows := self.submitted.next(room)):
            with self.state.together():
                ready = self._in_order(rows)
                estimates = self._estimates(ready)
                self._enter(ready, estimates)
            came, room = came + len(ready), room - len(ready)
        if came:
            if self.desk is not None:
                self.desk.took(came)
            self.note("let_in", tasks=came)
        return came

    def _think(self) -> None:
        if getattr(self.ask, "loading", False):
            return  # the plan in force goes on meanwhile
        began, before = time.monotonic(), self.mind.plan
        super()._think()
        del self.refused[:-MOST_REFUSED]
        if self.mind.plan is not before:
            self._planned_s = time.monotonic()
            self.decided_s.append(self._planned_s - began)
            self.submitted.forget_plans()
            self.note("planned", reason=self.reason, cost=self.mind.cost)

    def show(self) -> None:
        """Let other threads see where all stands."""
        now, snapshot = self.mind.snapshot.now_s, self.mind.snapshot
        late = sum((at or now) < now for t in snapshot.pending for at in [self.promised.get(t.id)])
        self.shown = Shown(
            replace(self.mind), dict(self.open), dict(self.promised), self.drained,
            self.state.last_event, self.reason, self._planned_s, late,
        )  # fmt: skip

    # ------------------------------------------------------------------ tasks that come

    def _estimates(self, new: list[tuple[Task, Any]]) -> Estimates:
        """Of new tasks: what they brought, else the model's forecast, else the requested time."""
        found: dict[str, Any] = {}
        rest = [row for _, row in new if not row.estimates]
        if self.learner is not None and rest:
            classes = [w.machine_class for w in self.mind.snapshot.workers]
            found.update(self.learner.forecast(rest, self._now(), classes))
        for task, row in new:
            if row.estimates:
                found.update(estimates_from(row.estimates))
            elif task.id not in found:
                found.update(requested(task))
        return found

    def _in_order(self, rows: list[Any]) -> list[tuple[Task, Any]]:
        """Tasks of rows that may come in now; the others are put behind what they follow."""
        new = {row.id: (self._as_of_now(row), row) for row in rows}
        before = {b for task, _ in new.values() for b in task.predecessors}
        out = self.submitted.outside(before - new.keys()) if before else set()
        found: dict[str, tuple[Task, Any]] = {}
        todo, left = list(new), len(new) + 1
        while todo and len(todo) < left:
            left, rest = len(todo), []
            for name in todo:
                waits = [b for b in new[name][0].predecessors if b in new and b not in found]
                if waits:
                    rest.append(name)
                    continue
                missing = [b for b in new[name][0].predecessors if b in out]
                if missing:
                    self.submitted.put_behind(name, missing[0])
                    out.add(name)
                    del new[name]
                else:
                    found[name] = new[name]
            todo = [name for name in rest if not self._falls_behind(name, new, out)]
        return list(found.values())

    def _as_of_now(self, row: Any) -> Task:
        """The task of a row, which may start now unless its row says when it may.

        It was submitted before, perhaps by a clock that was ahead and has been set back since.
        """
        task, now = task_of(row), self._now()
        if task.release_s > now and "release_s" not in self._said(row):
            return replace(task, release_s=now)
        return task

    @staticmethod
    def _said(row: Any) -> dict[str, Any]:
        """What was written of a task when it was submitted."""
        return dict(json.loads(row.row)["row"]) if row.row else {}

    def _falls_behind(self, name: str, new: dict[str, Any], out: set[str]) -> bool:
        """Put a task behind one that has just been put behind another."""
        missing = [b for b in new[name][0].predecessors if b in out]
        if missing:
            self.submitted.put_behind(name, missing[0])
            out.add(name)
            del new[name]
        return bool(missing)

    def _enter(self, new: list[tuple[Task, Any]], estimates: Estimates) -> None:
        """New tasks wait from now on; one that cannot is refused, with the reason."""
        now, there = self._now(), {c.id: c for c in self.mind.snapshot.counted}
        for task, row in new:
            try:
                for name in task.counted.keys() - there.keys():
                    there[name] = CountedResource(name, self._places(task, name))
                    self._tell(ResourceCounted(now, there[name]))
                known = estimates.get(task.id)
                ready = self._in_partition(self._without_ended(task), row)
                if PREEMPT not in self.engine.capabilities or self.options.stops == 0:
                    ready = replace(ready, preemptible=False)
                self._tell(TaskSubmitted(now, ready), None if known is None else {task.id: known})
                self.promised[task.id] = None
                self.submitted.let_in(task.id)
            except BadRequest as why:
                self.submitted.ended(task.id, None, now, None, str(why))

    def _in_partition(self, task: Task, row: Any) -> Task:
        """A task that runs where its partition is, on an engine that submits it there."""
        if CHARGES not in self.engine.capabilities:
            return task
        named = str(self._said(row).get("partition") or "")
        if named not in self._required:
            self._required[named] = partition_required(named, self.engine.workers())
        return replace(task, requires=(*task.requires, *self._required[named]))

    def _places(self, task: Task, name: str) -> int:
        """Units of a running limit that a task is under: its row says how many."""
        raw = self.submitted.row(task.id).row
        return int(json.loads(raw)["places"][name])

    def _without_ended(self, task: Task) -> Task:
        """A task without predecessors that have ended and were let go of."""
        snapshot = self.mind.snapshot
        release_s, left = task.release_s, []
        for on in task.dependencies:
            known = (snapshot.pending_by_id, snapshot.running_by_id, snapshot.finished_by_id)
            if any(on.task in some for some in known):
                left.append(on)
                continue
            row = self.submitted.row(on.task)
            if row is None or row.state != "ended":
                raise BadRequest(f"it follows {on.task}, which is no task")
            if row.outcome == "refused" or not on.is_met_by(Outcome(row.outcome)):
                raise BadRequest(f"it follows {on.task}, which ended as {row.outcome}")
            release_s = max(release_s, row.end_s + on.lag_s)
        plain = {on.task for on in left} & set(task.after)
        return replace(
            task, release_s=release_s, after=tuple(b for b in task.after if b in plain),
            depends=tuple(on for on in left if on.task not in plain),
        )  # fmt: skip

    # ------------------------------------------------------------------ what else is asked for

    def _do(self, kind: str, name: str, body: Mapping[str, Any]) -> list[Key]:
        """Do what was asked of one task or worker; the run that is to be stopped for it."""
        now, task = self._now(), self.mind.snapshot.pending_by_id.get(name)
        if kind in ("drain", "undrain"):
            self._drain(name, kind == "drain")
        elif task is None and self.submitted.outside([name]):
            self._do_outside(kind, name, body)
        elif kind == "cancel":
            row = self.unwant(name)
            return [] if row is None else [row.key]
        elif task is not None:  # what runs, or has ended in the meantime, stays as it is
            if kind == "prioritise":
                self._tell(TaskChanged(now, replace(task, weight=body["weight"])))
            elif (HELD in task.requires) != (kind == "hold"):
                requires = tuple(r for r in task.requires if r != HELD)
                held = (HELD,) if kind == "hold" else ()
                self._tell(TaskChanged(now, replace(task, requires=(*requires, *held))))
                # What is held is promised nothing, and promised anew once it is released.
                self.promised[name] = None
                self._waited.discard(name)
                self.submitted.promise(name, None, None)
        return []

    def _do_outside(self, kind: str, name: str, body: Mapping[str, Any]) -> None:
        """Do what was asked of a task that is not in the plan yet."""
        if kind == "cancel":
            self.submitted.ended(name, None, self._now(), Outcome.CANCELLED, "")
            if self.desk is not None:
                self.desk.took(1)
        elif kind == "prioritise":
            self.submitted.weigh(name, body["weight"])
        else:
            self.submitted.move(name, "held" if kind == "hold" else "submitted")

    def _drain(self, name: str, closed: bool) -> None:
        self.drained = self.drained | {name} if closed else self.drained - {name}
        self.state.set_fact("drained", json.dumps(sorted(self.drained)).encode())
        if not closed:
            self.trust.forget(name)
        worker = self.mind.snapshot.worker_by_id.get(name)
        if worker is None or self._is_closed(worker) == closed:
            return
        until_s = self._now() if closed else super()._until_s(worker)
        self._tell(WorkerDraining(self._now(), name, until_s))

    def _until_s(self, worker: Worker) -> int | None:
        if worker.id not in self.drained:
            return super()._until_s(worker)
        known = self.mind.snapshot.worker_by_id.get(worker.id)
        return known.until_s if known is not None and self._is_closed(known) else self._now()

    def _hear(self, event: EngineEvent) -> None:
        super()._hear(event)
        if isinstance(event, WorkerUp) and event.worker.id in self.drained:
            self._drain(event.worker.id, True)

    # ------------------------------------------------------------------ what becomes of tasks

    def _tell(self, event: Event, estimates: Estimates | None = None) -> None:
        with self.state.together():
            runs = isinstance(event, TaskStarted) and event.task in self.mind.snapshot.running_by_id
            super()._tell(event, estimates)
            if isinstance(event, TaskStarted) and not runs:  # else its devices are named
                self.submitted.started(event.task, event.at_s)
            elif isinstance(event, TaskCancelled):
                # Before it ran, or as its worker was lost once too often.
                self._over(event.task, None, event.at_s, Outcome.CANCELLED)
        if not isinstance(event, TaskSubmitted):
            named = {name: getattr(event, name) for name in ("task", "worker", "workers")
                     if isinstance(getattr(event, name, None), str | tuple)}  # fmt: skip
            self.note(event.kind, **named)

    def _started(self, key: Key, at_s: int) -> None:
        row = self.open.get(key[0])
        if row is None or row.key != key or row.state != "ordered":
            return
        with self.state.together():
            super()._started(key, at_s)
            self._judge_start(row, at_s)

    def _ended(self, event: Ended) -> None:
        row = self.open.get(event.key[0])
        with self.state.together():
            ran = event.outcome is not Outcome.CANCELLED
            if ran and row is not None and row.key == event.key and row.start_s is None:
                # No word of its start has come.
                self._judge_start(row, max(row.ordered_s, event.start_s))
            super()._ended(event)

    def _judge_start(self, row: OrderRow, at_s: int) -> None:
        """Compare a start with what was promised."""
        task = row.key[0]
        self.submitted.started(task, at_s)
        self.leads.began(at_s - row.ordered_s)
        promised = self.promised.get(task)
        if promised is not None:
            self.starts.append((promised, at_s))
        if promised is not None and task in self._waited:
            # What ran at once tells nothing of those that wait.
            self._waited.discard(task)
            self.leads.judged(at_s > promised)
            self.state.set_fact("stretch", repr(self.leads.stretch).encode())

    def _close(self, row: OrderRow) -> None:
        self._judge_forecast(row)
        with self.state.together():
            super()._close(row)
            if row.state == "ended":
                end_s = self._now() if row.end_s is None else row.end_s
                self._over(row.key[0], row.start_s, end_s, row.outcome, row.reason)

    def _judge_forecast(self, row: OrderRow) -> None:
        """Compare a run that completed with what it was expected to take, of a gang the longest."""
        if row.outcome is not Outcome.COMPLETED or row.start_s is None or row.end_s is None:
            return
        request, known = self.mind.request, self.mind.snapshot.worker_by_id
        found = [
            estimate_for(request.estimates, row.key[0], known[name].machine_class)
            for name in row.workers if name in known
        ]  # fmt: skip
        expected = [estimate for estimate in found if estimate is not None]
        if expected:
            run_s = max(1, row.end_s - row.start_s)
            median_s = max(estimate.at(0.5) for estimate in expected)
            reserved_s = max(estimate.at(request.policy.level) for estimate in expected)
            self.ends.append((math.log2(run_s / median_s), run_s <= reserved_s))

    def _over(
        self, task: str, start_s: int | None, end_s: int, outcome: Outcome | None, reason: str = ""
    ) -> None:
        self.submitted.ended(task, start_s, end_s, outcome or Outcome.FAILED, reason)
        self.unwanted.discard(task)
        self.promised.pop(task, None)
        self._waited.discard(task)
        self._over_now.append(task)

    def _order(self, row: OrderRow) -> Order:
        order = self._with_command(row)
        if CHARGES not in self.engine.capabilities:
            return order
        said = self._said(self.submitted.row(row.key[0]))
        return replace(order, charged={n: said[n] for n in CHARGE_COLUMNS if said.get(n)})

    def _with_command(self, row: OrderRow) -> Order:
        template = self.submitted.command_of(row.key[0])
        if not template or self.command_of is None:
            return super()._order(row)
        if template not in self._templates:
            self._templates[template] = self.command_of(template)
        usual, self.command = self.command, self._templates[template]
        try:
            return super()._order(row)
        finally:
            self.command = usual

    def _learn(self) -> None:
        if self.learner is not None and self.learner.facts.get("contests", 0) > self._contests:
            self._contests = self.learner.facts["contests"]
            self.note("model_judged", **self.learner.facts)
        if self.learner is not None and self._over_now:
            rows = [self.submitted.row(name) for name in self._over_now]
            self.learner.ended([row for row in rows if row.start_s is not None])
        self._over_now.clear()

    # ------------------------------------------------------------------ promises

    def _promise(self) -> None:
        """Say of each task that has a place in the plan for the first time when it starts."""
        waits = [name for name, at_s in self.promised.items() if at_s is None]
        if not waits or self.mind.plan is None:
            return
        snapshot, plan = self.mind.snapshot, self.mind.plan
        found: dict[str, tuple[int, Assignment]] = {}
        for name in waits:
            run = snapshot.running_by_id.get(name)
            if run is not None and name in plan.by_task:
                found[name] = (run.start_s + self.leads.delay_s, plan.by_task[name])
        kept = self.mind.retimed()
        rest = [] if kept is None else [n for n in waits if n not in found and n in kept.by_task]
        if kept is not None and rest:
            levels = start_levels(self.mind.expected, kept, (SURE,), names=set(rest))
            for name in rest:
                row = kept.by_task[name]
                start_s = max(row.start_s, levels[name][0])
                found[name] = (self.leads.promised(snapshot.now_s, start_s), row)
                self._waited.add(name)
        with self.state.together():
            for name, (at_s, row) in found.items():
                self.promised[name] = at_s
                self.submitted.promise(name, at_s, row)

    # ------------------------------------------------------------------ letting go

    def settle(self) -> None:
        """Forget what has ended, and write down where a restart goes on from."""
        snapshot = self.mind.snapshot
        live = {*snapshot.pending_by_id, *snapshot.running_by_id}
        named = {b for t in snapshot.pending for b in t.predecessors}
        named |= {b for r in snapshot.running for b in r.task.predecessors}
        finished = tuple(f for f in snapshot.finished if f.id in named)
        estimates = {n: e for n, e in self.mind.request.estimates.items() if n in live}
        self.mind.request = replace(
            self.mind.request, snapshot=snapshot.evolved(finished=finished), estimates=estimates
        )
        with self.state.together():
            self.state.checkpoint(self.mind.request)
        self._checkpoint = self.state.last_event
        for key in [key for key in self.orders if key[0] not in live]:
            del self.orders[key]
        self.attempts = {name: n for name, n in self.attempts.items() if name in live}
        self.stopped = Counter({name: n for name, n in self.stopped.items() if name in live})
        self.mind.firm &= frozenset(live)
