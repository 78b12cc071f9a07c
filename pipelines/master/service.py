"""The living master in a thread of its own, from its engine to its end."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from plancast.pipelines.engines import Beginning, EngineKind
from plancast.pipelines.engines.base import EnvironmentFailed, of_the_disk
from plancast.pipelines.engines.patient import PatientEngine
from plancast.pipelines.inputs.counted import RunningLimits
from plancast.pipelines.master.commands import Command, Invocation
from plancast.pipelines.master.database import GONE, said_by
from plancast.pipelines.master.desk import Desk
from plancast.pipelines.master.leading import Fenced
from plancast.pipelines.master.learner_link import LearnerProcess
from plancast.pipelines.master.living import WINDOW, Living
from plancast.pipelines.master.loop import Ask
from plancast.pipelines.master.state import State
from plancast.planner.model.domain import BadRequest, Estimates
from plancast.planner.model.messages import PlanRequest
from plancast.planner.planning.controller import Controller, ControlPolicy

SILENT_S = 120.0
"""A loop that has done nothing for so long is not well."""


@dataclass(frozen=True)
class Settings:
    """What a living master is started with.

    Parameters
    ----------
    request : PlanRequest
        The cluster and the policy; nothing waits in it.
    engine : str
    kind : EngineKind
    control : ControlPolicy
    limits : RunningLimits
    window : int
        Tasks that a plan looks at.
    model : Path, optional
    command : Command, optional
        What runs for a task that was submitted without a command.
    command_of : callable, optional
        The command of a submission's template.
    output : Path, optional
    outage_s, speed, seed
        See ``Beginning``.
    """

    request: PlanRequest
    engine: str
    kind: EngineKind
    control: ControlPolicy
    limits: RunningLimits = field(default_factory=RunningLimits)
    window: int = WINDOW
    model: Path | None = None
    command: Command | None = None
    command_of: Callable[[str], Command] | None = None
    output: Path | None = None
    outage_s: float = 1800.0
    speed: float = 1.0
    seed: int = 0


class Service:
    """Brings the engine up, runs the loop until it is asked to end, and lets go of all.

    Parameters
    ----------
    state : State
        Closed at the end.
    settings : Settings
    ask : callable, optional
        As of ``Master``; its ``close`` is called at the end, if it has one.
    note : callable
        Takes what happens, for the log.
    failed : callable
        Called where the loop ends by a fault, which is in ``failure`` then.
    """

    def __init__(
        self,
        state: State,
        settings: Settings,
        *,
        ask: Ask | None = None,
        note: Callable[..., None] = lambda what, **facts: None,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        self.state, self.settings, self.ask = state, settings, ask
        self.note, self.failed = note, failed
        self._batch = state.batch  # read here, by the thread that has the connection
        self._mind: Controller | None = None
        self._learner: LearnerProcess | None = None
        self.living: Living | None = None
        self.desk: Desk | None = None
        self.failure: BaseException | None = None
        self.away = ""
        """Why the engine is waited for; empty while it answers."""
        self.beat_s = time.monotonic()
        self.ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="master")

    def start(self) -> None:
        """Begin; ``living`` is there once the books and the engine agree."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step under way; what runs goes on."""
        self.ending.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def batch(self) -> str:
        """Identity of all that this master ever carries out."""
        return self._batch

    @property
    def ready(self) -> bool:
        """Whether asks are taken and the engine answers."""
        return self.living is not None and not self.ending.is_set() and not self.away

    @property
    def well(self) -> bool:
        """Whether the loop goes on."""
        return self.failure is None and time.monotonic() - self.beat_s < SILENT_S

    # ------------------------------------------------------------------ inside

    def _run(self) -> None:
        target: Any = None
        try:
            getattr(self.ask, "start", lambda: None)()  # it loads while the cluster comes up
            target, living = self._bring_up()
            self.living = living
            self.note("ready", engine=self.settings.engine, batch=self.state.batch)
            notify("READY=1")
            while not self.ending.is_set():
                self.state.check()
                living.step(living.engine.step_s)
                self.away = ""
                self._beat()
            living.settle()
        except GONE as why:
            self._fail(EnvironmentFailed(f"{self.state.name}: cannot be read: {said_by(why)}"))
        except BaseException as why:
            self._fail(why)
        finally:
            self._let_go(target)

    def _fail(self, why: BaseException) -> None:
        try:
            self.state.check()
        except Fenced as fenced:  # it is why the rest failed
            why = fenced
        self.failure = of_the_disk(why)
        self.failed()

    def _bring_up(self) -> tuple[Any, Living]:
        settings, state = self.settings, self.state
        mind = state.restored(settings.control)
        now_s = int(time.time())
        if mind is not None:
            now_s = max(now_s, mind.snapshot.now_s)
        asked = replace(
            settings.request, snapshot=settings.request.snapshot.evolved(now_s=now_s)
        )  # fmt: skip

        def estimates() -> Estimates:
            return {} if self._mind is None else self._mind.request.estimates

        settings.kind.require(settings.engine)
        target, begun, _ = settings.kind.begin(
            Beginning(
                asked, (), state.batch, settings.seed,
                state.place.files.absolute().with_suffix(f".{settings.engine}"), state.made_s,
                settings.outage_s, self._waits, estimates, settings.speed,
            )
        )  # fmt: skip
        try:
            return target, self._living(target, mind, begun)
        except BaseException:
            target.close()
            raise

    def _living(self, target: Any, mind: Controller | None, begun: PlanRequest) -> Living:
        settings, state = self.settings, self.state
        if mind is None:
            state.begin(begun)
            mind = Controller(begun, settings.control)
        else:
            mind.request = replace(mind.request, policy=settings.request.policy)
        engine = PatientEngine(target, settings.outage_s, away=self._waits, sleep=self._sleep,
                               guard=state.check)  # fmt: skip
        runs = settings.command or (lambda task: Invocation())
        living = Living(
            state, engine, mind, self.ask, runs, output=settings.output, limits=settings.limits,
            window=settings.window,
            command_of=settings.command_of, note=self.note,
        )  # fmt: skip
        if settings.model is not None:
            cpus = sum(w.capacity.get("cpu", 0) for w in settings.request.snapshot.workers)
            self._learner = LearnerProcess(
                settings.model, living.submitted.ended_rows,
                kept=state.place.files.absolute().with_suffix(".model"), procs=max(1, cpus // 1000),
            )  # fmt: skip
            living.learner = self._learner
        self._mind = mind
        living.recover()
        living.show()
        self.desk = living.desk = Desk(
            state, workers=lambda: mind_of(living).snapshot.worker_by_id.keys(),
            now_s=lambda: mind_of(living).snapshot.now_s,
            asked=getattr(target, "wake", lambda: None),
        )  # fmt: skip
        return living

    def _let_go(self, target: Any) -> None:
        if self.desk is not None:
            self.desk.close()
        for process in (self.ask, self._learner):
            getattr(process, "close", lambda: None)()
        if target is not None:
            # A cluster on which nothing runs ends with its master; else it goes on.
            # Another master may lead by now, and need it.
            left = self.state.place.shared and self.failure is not None
            busy = self.living is None or self.living.open or left
            (target.close if busy else target.stop)()
        self.state.close()

    def _waits(self, why: str) -> None:
        self.away = why
        self.note("engine_away", why=why)

    def _sleep(self, seconds: float) -> None:
        self._beat()
        if self.ending.wait(seconds):
            raise BadRequest(f"the engine did not answer, and it was not waited for: {self.away}")

    def _beat(self) -> None:
        self.beat_s = time.monotonic()
        notify("WATCHDOG=1")


def mind_of(living: Living) -> Controller:
    """What the loop last knew."""
    return living.mind if living.shown is None else living.shown.mind


def notify(text: str) -> None:
    """Tell systemd, where it has started us and waits for it; see sd_notify(3)."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if not where:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
        address = f"\0{where[1:]}" if where.startswith("@") else where
        try:
            link.sendto(text.encode(), address)
        except OSError:
            return  # nobody listens
