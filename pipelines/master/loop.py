"""The loop: hear, decide, promise, start, check.

An order is written down before it is sent, and what is heard is written down before anything
is done about it. A master that is killed finds in its file what it may have sent; it asks the
engine where those orders stand, and sends those again that never arrived: a key is carried out
at most once.

A run is void when the engine says of *it* that it is lost, or that its worker is gone for
certain. A worker that is closed (drains, is out of sight) takes nothing new, and no run on it is
touched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path

from plancast.pipelines.engines.base import (
    DEVICES,
    Ended,
    Engine,
    EngineEvent,
    Key,
    Order,
    Rejected,
    Standing,
    Started,
    WorkerClosed,
    WorkerDown,
    WorkerUp,
    WorkerWindows,
    by_piece,
    safe_name,
)
from plancast.pipelines.master.commands import ATTEMPT, Command, Invocation
from plancast.pipelines.master.forward_clock import ForwardClock
from plancast.pipelines.master.state import OPEN, WITHDRAWN, OrderRow, State
from plancast.pipelines.master.trust import Trust
from plancast.pipelines.master.windows import Windows
from plancast.planner.model.domain import Assignment, BadRequest, Estimates, Outcome, Worker
from plancast.planner.model.messages import (
    Event,
    PlanRequest,
    PlanResponse,
    TaskCancelled,
    TaskFinished,
    TaskPreempted,
    TaskStarted,
    WorkerDraining,
    WorkerJoined,
    WorkerLost,
)
from plancast.planner.planning.controller import Choice, Controller, Refused
from plancast.planner.planning.plan import plan

NOBODY = Worker("(no worker)", {})
"""Stands in the snapshot while there is no other: a cluster cannot be empty. It holds nothing."""

Ask = Callable[[PlanRequest, Choice], PlanResponse]


class NoAnswer(Exception):
    """A planner that did not answer in time, or died over it."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a master watches.

    Parameters
    ----------
    check_s : int
        Least seconds between two looks at where orders stand.
    tries : int
        How often a task is run again after its worker died.
    stops : int
        How often a task may be preempted; then it runs to its end.
    strikes : int
        Losses of a worker after which it is trusted no more for `banned_s`.
    banned_s : int
    patience_s : int
        How long a batch waits for a lost worker that it cannot do without.
    """

    check_s: int = 30
    tries: int = 5
    stops: int = 3
    strikes: int = 3
    banned_s: int = 600
    patience_s: int = 900


@dataclass
class Master:
    """Carries a batch out on an engine.

    Parameters
    ----------
    state : State
    engine : Engine
    mind : Controller
        Of ``State.restored``, or a new one.
    ask : callable, optional
        Plans; the controller's own planner if not given. May raise ``NoAnswer``.
    command : callable
        What runs for a task.
    options : Options
    output : Path, optional
        Folder for what the runs print, a file each.
    """

    state: State
    engine: Engine
    mind: Controller
    ask: Ask | None = None
    command: Command = field(default=lambda task: Invocation())
    options: Options = field(default_factory=Options)
    output: Path | None = None

    def __post_init__(self) -> None:
        self.orders: dict[Key, OrderRow] = {row.key: row for row in self._orders_known()}
        self.open: dict[str, OrderRow] = {
            row.key[0]: row for row in self.orders.values() if row.state in OPEN
        }
        self.attempts: dict[str, int] = {}
        for task, attempt in self.orders:
            self.attempts[task] = max(attempt, self.attempts.get(task, 0))
        self.mind.stopping = frozenset(
            task for task, row in self.open.items() if row.state == "stopping"
        )
        self.stopped = Counter(k[0] for k, row in self.orders.items() if row.preempted)
        # What no order of ours began no order of ours can stop.
        foreign = self.mind.snapshot.running_by_id.keys() - self.open.keys()
        often = {task for task, times in self.stopped.items() if times >= self.options.stops}
        self.mind.firm = frozenset(foreign | often)
        self.unwanted = {task for task, row in self.open.items() if row.state == "cancelling"}
        self.trust = Trust(self.options.strikes, self.options.banned_s)
        self.windows = Windows(lambda: self.state.first_request().snapshot.workers)
        self.refused: list[str] = []
        self.reason = ""
        # Durations are counted by the engine's steady clock: the other one may step.
        self.checked_s: float | None = None
        self.idle_since_s: float | None = None
        self.clock = ForwardClock(self.engine)

    def _orders_known(self) -> list[OrderRow]:
        """The orders that it goes on from."""
        return self.state.orders()

    # ------------------------------------------------------------------ the loop

    def recover(self) -> None:
        """Make the books and the engine agree: after a start, whatever was before."""
        there = {w.id: w for w in self.engine.workers()}
        known = set(self.mind.snapshot.worker_by_id) - {NOBODY.id}
        now = self._now()
        closed = self.engine.closed()
        for worker in there.values():
            if worker.id not in closed:
                self._hear(WorkerUp(worker, now))
            elif worker.id in known:
                self._hear(WorkerClosed(worker.id, now))
        self._check()
        for name in sorted(known - set(there)):
            self._hear(WorkerDown(name, now))
        self.mind.advance(now)
        self._think()
        self._start_due()

    def step(self, wait_s: float) -> None:
        """Hear what has happened, think, and start what is due."""
        self._hear_all(self.engine.events(wait_s))
        steady_s = self.engine.steady_s()
        if self.checked_s is None or steady_s - self.checked_s >= self.options.check_s:
            self._check()
        for worker in self.trust.pardoned(steady_s):
            if worker.id not in self.engine.closed():
                self._up(worker)
        self.mind.advance(self._now())
        self._think()
        self._start_due()

    @property
    def done(self) -> bool:
        """Whether nothing runs, and nothing that waits can run or will be able to.

        After the loss of a worker what waits for it is given ``Options.patience_s``.
        """
        snapshot = self.mind.snapshot
        if self.open or snapshot.running:
            self.idle_since_s = None
            return False
        if not snapshot.pending:
            return True
        if not snapshot.pending_by_id.keys() <= self.mind.hopeless().keys():
            self.idle_since_s = None
            return False
        if not self.trust.lost_any and not self._closed():
            return True
        steady_s = self.engine.steady_s()
        if self.idle_since_s is None:
            self.idle_since_s = steady_s
        return steady_s - self.idle_since_s >= self.options.patience_s

    # ------------------------------------------------------------------ hearing

    def _hear_all(self, heard: Sequence[EngineEvent]) -> None:
        """Fold messages in; starts and ends that come together are written down together."""
        for of_runs, group in groupby(heard, lambda event: isinstance(event, Started | Ended)):
            # What else happens may mean that the engine is asked, which takes its time.
            with self.state.together() if of_runs else nullcontext():
                for event in group:
                    self._hear(event)

    def _hear(self, event: EngineEvent) -> None:
        """Fold one message in, if it says something new."""
        if isinstance(event, Started):
            self._started(event.key, event.at_s)
            if event.devices:
                self._name_devices(event)
        elif isinstance(event, Ended):
            self._ended(event)
        elif isinstance(event, WorkerDown):
            self._down(event.worker)
        elif isinstance(event, WorkerClosed):
            self._close_worker(event.worker)
        elif isinstance(event, WorkerWindows):
            self.windows.known[event.worker] = event.windows
            self._block(event.worker)
        else:
            self._up(event.worker)

    def _started(self, key: Key, at_s: int) -> None:
        row = self.open.get(key[0])
        if row is None or row.key != key or row.state != "ordered":
            return  # of an earlier attempt, or reported twice
        row.state, row.start_s = "running", at_s
        with self.state.together():
            self._tell_start(row)
            self.state.put_order(row)

    def _name_devices(self, event: Started) -> None:
        """The engine chose devices: what runs has these."""
        row = self.open.get(event.key[0])
        run = self.mind.snapshot.running_by_id.get(event.key[0])
        if row is None or row.key != event.key or run is None:
            return
        have = {w.id: w.device_count for w in self.mind.snapshot.workers}
        devices = by_piece(run.workers, {w: d for w, d in event.devices.items() if have.get(w)})
        if any(devices) and devices != run.devices:
            try:
                self._tell(TaskStarted(self._now(), run.task.id, run.workers, run.mode, devices))
            except BadRequest as why:  # more than were asked for: they stay unknown
                self.refused.append(str(why))

    def _tell_start(self, row: OrderRow) -> None:
        """The snapshot has a task run from when it was ordered: its room is taken from then."""
        task = row.key[0]
        if task in self.mind.snapshot.pending_by_id:
            self._tell(TaskStarted(self._now(), task, row.workers))

    def _ended(self, event: Ended) -> None:
        row = self.open.get(event.key[0])
        if row is None or row.key != event.key:
            return
        stopped = row.state == "stopping" and event.outcome is Outcome.CANCELLED
        row.state, row.outcome = "stopped" if stopped else "ended", event.outcome
        row.reason = row.reason if stopped else event.reason
        # Nothing runs before it was ordered: where the engine's clock says so it is slow, and
        # the run as long as it says.
        slow_s = max(0, row.ordered_s - event.start_s)
        row.start_s = event.start_s + slow_s
        row.end_s = max(event.at_s, event.start_s) + slow_s
        self._close(row)

    def _close(self, row: OrderRow) -> None:
        """An order has come to its end: the task's, or one that a plan in force wanted."""
        task, now = row.key[0], self._now()
        del self.open[task]
        with self.state.together():
            self._tell_start(row)
            if row.state == "stopped":
                self._tell(TaskPreempted(now, task))
            else:
                self._tell(TaskFinished(now, task, row.outcome or Outcome.FAILED))
            self.state.put_order(row)
        if row.preempted:
            self.stopped[task] += 1
            if self.stopped[task] >= self.options.stops:
                self.mind.firm |= {task}

    def _down(self, name: str) -> None:
        snapshot = self.mind.snapshot
        self.trust.forget(name)
        if name not in snapshot.worker_by_id:
            return
        now = self._now()
        hit = [row for row in self.open.values() if name in row.workers]
        # The news of an end may still be on its way: what has ended does not run again.
        for key, stands in self.engine.status([row.key for row in hit]).items():
            if stands.state == "ended":
                self._settle(self.open[key[0]], stands)
        hit = [row for row in hit if row.state in OPEN]
        with self.state.together():
            if len(snapshot.workers) == 1:
                self._tell(WorkerJoined(now, NOBODY))
            self._tell(WorkerLost(now, name))
            for row in hit:
                row.state = "void"
                del self.open[row.key[0]]
                self.state.put_order(row)
                self._give_up(row.key[0])
        for row in hit:
            # Where the worker is only out of sight, its old runs must not go on.
            self.engine.cancel(row.key)
        self.trust.lost(name, self.engine.steady_s())

    def _give_up(self, task: str) -> None:
        """A task that is wanted no more, or has taken its worker with it too often, has ended."""
        died = sum(row.state == "void" for key, row in self.orders.items() if key[0] == task)
        given_up = died >= self.options.tries or task in self.unwanted
        if given_up and task in self.mind.snapshot.pending_by_id:
            self._tell(TaskCancelled(self._now(), task))

    def _up(self, worker: Worker) -> None:
        now, known = self._now(), self.mind.snapshot.worker_by_id.get(worker.id)
        if known is not None:
            if self.trust.is_banned(worker.id):
                return
            until_s = self._until_s(worker)
            if known.until_s != until_s:
                self._tell(WorkerDraining(now, worker.id, until_s))
            return
        if self.trust.bans(worker, self.engine.steady_s()):
            return
        with self.state.together():
            self._tell(WorkerJoined(now, worker))
            if NOBODY.id in self.mind.snapshot.worker_by_id:
                self._tell(WorkerLost(now, NOBODY.id))
            self._block(worker.id)

    def _block(self, name: str) -> None:
        worker = self.mind.snapshot.worker_by_id.get(name)
        if worker is not None and (event := self.windows.change(worker, self._now())) is not None:
            self._tell(event)

    def _close_worker(self, name: str) -> None:
        """It takes nothing new, and finishes what it runs."""
        worker = self.mind.snapshot.worker_by_id.get(name)
        if worker is not None and not self._is_closed(worker):
            self._tell(WorkerDraining(self._now(), name, self._now()))
        waiting = [row for row in self.open.values() if name in row.workers and row.start_s is None]
        for key, now in self.engine.status([row.key for row in waiting]).items():
            self._settle(self.open[key[0]], now)

    @cached_property
    def _drains(self) -> dict[str, int | None]:
        """Until when each worker is there by the cluster file."""
        return {w.id: w.until_s for w in self.state.first_request().snapshot.workers}

    def _until_s(self, worker: Worker) -> int | None:
        return self._drains.get(worker.id, worker.until_s)

    def _is_closed(self, worker: Worker) -> bool:
        now = self.mind.snapshot.now_s
        return worker.until_s is not None and worker.until_s <= now

    def _closed(self) -> bool:
        """Whether some worker is closed that the cluster file has open."""
        return any(
            self._is_closed(w) and w.until_s != self._until_s(w) for w in self.mind.snapshot.workers
        )

    def cancel(self, task: str) -> None:
        """Let a task not run, or stop it; one that has ended stays as it is."""
        row = self.unwant(task)
        if row is not None:
            self.engine.cancel(row.key)

    def unwant(self, task: str) -> OrderRow | None:
        """Write down that a task is wanted no more; its order, where the engine is to stop it."""
        row = self.open.get(task)
        if row is None:
            if task in self.mind.snapshot.pending_by_id:
                self._tell(TaskCancelled(self._now(), task))
            return None
        row.state = "cancelling"
        self.state.put_order(row)
        self.unwanted.add(task)
        # No plan may stop it for its own sake: then it would wait again.
        self.mind.firm |= {task}
        self.mind.stopping -= {task}
        return row

    def _tell(self, event: Event, estimates: Estimates | None = None) -> None:
        """Fold an event in and write it down; both, or neither."""
        before = self.mind.request
        if event.at_s < self.mind.snapshot.now_s:
            # The engine's clock stepped back between two looks at it.
            event = replace(event, at_s=self.mind.snapshot.now_s)
        self.mind.tell(event, estimates)
        try:
            self.state.add_event(event, estimates)
        except BaseException:
            self.mind.request = before
            raise

    def _now(self) -> int:
        return self.clock.now_s(self.mind.snapshot.now_s)

    # ------------------------------------------------------------------ checking

    def _check(self) -> None:
        """Ask the engine where the open orders stand: messages may have been lost."""
        self.checked_s = self.engine.steady_s()
        if not self.open:
            return
        standing = self.engine.status([row.key for row in self.open.values()])
        lost = set()
        for key, now in standing.items():
            row = self.open.get(key[0])
            if row is None or row.key != key or row.state == now.state == "running":
                continue  # of most of thousands that run there is nothing new
            self._settle(row, now)
            if now.state == "lost" and len(set(row.workers)) == 1:
                lost.add(row.workers[0])
        for name in sorted(lost):
            self._doubt(name)

    def _doubt(self, name: str) -> None:
        """A worker that is up has lost runs: one that loses all it is given gets no more."""
        worker, steady_s = self.mind.snapshot.worker_by_id.get(name), self.engine.steady_s()
        self.trust.lost(name, steady_s)
        if worker is not None and self.trust.bans(worker, steady_s):
            self._close_worker(name)

    def _settle(self, row: OrderRow, now: Standing) -> None:
        stops = row.state in ("stopping", "cancelling")
        if stops and now.state in ("unknown", "waiting", "running"):
            self._stop_again(row, now)
        elif now.state in ("unknown", "waiting") and self._on_closed(row):
            self._withdraw(row)
        elif now.state == "unknown":
            self._send(row)
        elif now.state == "running" and now.start_s is not None:
            self._started(row.key, now.start_s)
        elif now.state == "ended":
            start_s = row.ordered_s if now.start_s is None else now.start_s
            end_s = self._now() if now.end_s is None else now.end_s
            self._ended(Ended(row.key, start_s, end_s, now.outcome or Outcome.FAILED, now.reason))
        elif now.state == "lost":
            self._void(row)

    def _on_closed(self, row: OrderRow) -> bool:
        known = self.mind.snapshot.worker_by_id
        return any(name in known and self._is_closed(known[name]) for name in row.workers)

    def _withdraw(self, row: OrderRow) -> None:
        """It has not begun, and its worker takes nothing more: the task is planned elsewhere."""
        row.state, row.reason = "stopping", WITHDRAWN
        self.state.put_order(row)
        self.mind.stopping |= {row.key[0]}
        self.engine.cancel(row.key)

    def _stop_again(self, row: OrderRow, now: Standing) -> None:
        """The word may have been lost on its way, or a master killed before it was sent."""
        self.engine.cancel(row.key)
        if now.state == "unknown":
            # The order never arrived, and will not: there is nothing to wait for.
            row.state = "ended" if row.state == "cancelling" else "stopped"
            row.end_s, row.outcome = self._now(), Outcome.CANCELLED
            self._close(row)

    def _void(self, row: OrderRow) -> None:
        """It was lost with its worker, and this run only: the task waits again."""
        task = row.key[0]
        row.state = "void"
        del self.open[task]
        with self.state.together():
            self._tell_start(row)
            self._tell(TaskPreempted(self._now(), task))
            self.state.put_order(row)
            self._give_up(task)
        # What is left of it (pieces on other workers) must not go on.
        self.engine.cancel(row.key)

    # ------------------------------------------------------------------ deciding, starting

    def _think(self) -> None:
        decision = self.mind.decide()
        if decision.choice is Choice.KEEP:
            return
        asked = self.mind.ask(decision.choice)
        response = self._answer(asked, decision.choice)
        # What came in the meantime makes the answer an old one; then it is asked again.
        self._hear_all(self.engine.events(0.0))
        if self._commit(asked, response, decision.choice, decision.reason):
            self.reason = decision.reason
        elif response.snapshot_version == self.mind.snapshot.version and self.ask is not None:
            # A planner that answers nonsense is not asked twice about the same state.
            asked = self.mind.ask(decision.choice)
            self._commit(asked, plan(asked, "greedy"), decision.choice, "the planner failed")

    def _commit(
        self, asked: PlanRequest, response: PlanResponse, choice: Choice, reason: str
    ) -> bool:
        """Put a plan in force, and stop what it preempts; whether it was good enough."""
        try:
            self.mind.commit(asked, response, choice)
        except Refused as why:
            self.refused.append(str(why))
            return False
        assert response.plan is not None
        stopping = [self.open[task] for task in response.plan.preempted]
        with self.state.together():
            self.state.add_plan(self.mind, choice, reason, len(response.moved))
            for row in stopping:
                row.state = "stopping"
                self.state.put_order(row)
        for row in stopping:
            self.engine.cancel(row.key)
        return True

    def _answer(self, asked: PlanRequest, choice: Choice) -> PlanResponse:
        if self.ask is None:
            return self.mind.answer(asked, choice)
        try:
            return self.ask(asked, choice)
        except NoAnswer as why:
            self.refused.append(str(why))
            return plan(asked, "greedy")

    def _start_due(self) -> None:
        """Write down what is due, then send it."""
        due = [row for row in self.mind.due() if row.task not in self.open]
        if not due:
            return
        with self.state.together():
            ordered = [self._ordered(row) for row in due]
        for order in ordered:
            if order is not None and self.open.get(order.key[0]) is order:
                self._send(order)

    def _ordered(self, due: Assignment) -> OrderRow | None:
        """Write down that a task is ordered to start; None where it cannot."""
        attempt = self.attempts.get(due.task, 0) + 1
        now = self._now()
        row = OrderRow((due.task, attempt), due.workers, "ordered", now)
        devices = due.devices if DEVICES in self.engine.capabilities else ()
        try:
            with self.state.together():
                # Its room is taken from the moment of the order, not of the acknowledgement.
                self._tell(TaskStarted(now, due.task, due.workers, devices=devices))
                self.state.put_order(row)
        except BadRequest as why:
            self.refused.append(str(why))
            return None
        self.attempts[due.task] = attempt
        self.orders[row.key] = self.open[due.task] = row
        return row

    def _send(self, row: OrderRow) -> None:
        """Send an order; one that the engine refuses for good has failed."""
        try:
            self.engine.start(self._order(row))
        except Rejected as why:
            now = self._now()
            self._ended(Ended(row.key, now, now, Outcome.FAILED, f"refused: {why}"))

    def _order(self, row: OrderRow) -> Order:
        run = self.mind.snapshot.running_by_id[row.key[0]]
        task, runs = run.task, self.command(run.task)
        return Order(
            row.key, row.workers, task.demand, task.requested_s, runs.argv,
            {**dict(runs.environ), ATTEMPT: str(row.key[1])}, self.output_of(row.key),
            run.devices if DEVICES in self.engine.capabilities else (), counted=task.counted,
        )  # fmt: skip

    def output_of(self, key: Key) -> str:
        """File of what a run prints; empty where nothing is kept."""
        if self.output is None:
            return ""
        return str(self.output / f"{safe_name(key[0])}.{key[1]}.log")

    # ------------------------------------------------------------------ outcome

    def realised(self) -> Mapping[str, Assignment]:
        """What really ran to its end, by the engine's times."""
        return {
            row.key[0]: Assignment(row.key[0], row.workers, row.start_s, row.end_s)
            for row in self.orders.values()
            if row.state == "ended" and row.start_s is not None and row.end_s is not None
        }
