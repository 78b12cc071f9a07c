"""Which devices what a master starts has: those of the plan, or those that the engine chose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from plancast.pipelines.engines.base import DEVICES, PREEMPT, EngineEvent, Order, Started
from plancast.pipelines.engines.sim import Faults, SimEngine, overloads
from plancast.pipelines.master.batch import master_of
from plancast.pipelines.master.loop import Master, Options
from plancast.pipelines.master.state import State
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import DEVICE, GPU
from plancast.planner.model.messages import Budget, PlanRequest, PlanResponse
from plancast.planner.planning.controller import Choice, ControlPolicy
from plancast.planner.planning.plan import plan
from tests.conftest import cases

QUICK = ControlPolicy(repair_budget=Budget(None, 20), replan_budget=Budget(None, 20))
FAULTY = Faults(lost=0.1, twice=0.1, late=0.2, deaf=0.1, clock_s=3)


def greedily(request: PlanRequest, choice: Choice) -> PlanResponse:
    """A planner that takes milliseconds."""
    return plan(request, "greedy")


def shared(seed: int, tasks: int = 14) -> PlanRequest:
    """A batch whose tasks take whole devices and shares of one, few of which there are."""
    made = generate_batch(tasks, generate_cluster(3, seed), seed, gang_share=0.2, label_share=0.0)
    rng = np.random.default_rng(seed)
    workers = tuple(
        replace(w, capacity={**w.capacity, GPU: 3 * DEVICE}, devices=True)
        for w in made.snapshot.workers
    )
    pending = tuple(
        replace(t, demand={**t.demand, GPU: int(rng.choice([300, 400, 600, 1000, 2000]))})
        for t in made.snapshot.pending
    )
    return replace(made, snapshot=replace(made.snapshot, workers=workers, pending=pending))


def run_s_of(request: PlanRequest, seed: int) -> Callable[[str, str], int]:
    """True run times, off the estimates by a factor of two or so."""
    rng = np.random.default_rng(seed)
    found = {}
    for task in request.snapshot.pending:
        estimate = next(iter(request.estimates[task.id].values()))
        found[task.id] = max(1, int(estimate.at(0.5) * rng.lognormal(0, 0.6)))  # type: ignore[union-attr]
    return lambda task, _: found[task]


@dataclass
class ChoosingEngine(SimEngine):
    """A cluster that picks devices itself, the highest free ones, and says which it gave."""

    capabilities: frozenset[str] = frozenset({PREEMPT})
    chosen: dict[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)

    def start(self, order: Order) -> None:
        """Begin a run with devices that are free."""
        assert order.devices == ()
        wanted = order.demand.get(GPU, 0)
        each, number = min(wanted, DEVICE), -(-wanted // DEVICE)
        use = {(w.id, d): 0 for w in self.machines for d in range(w.device_count)}
        for run in self.runs.values():
            for worker, devices in zip(run.workers, run.devices, strict=False):
                for d in devices if run.end_s is None else ():
                    use[worker, d] += min(run.demand[GPU], DEVICE)
        pieces = []
        for worker in order.workers:
            fits = [d for (w, d), used in use.items() if w == worker and used + each <= DEVICE]
            mine = tuple(sorted(fits)[-number:])
            for d in mine:
                use[worker, d] += each
            pieces.append(mine)
        known = set(self.runs)
        super().start(replace(order, devices=tuple(pieces)))
        if order.key not in known and order.key in self.runs:
            self.chosen[order.key[0]] = tuple(pieces)

    def _tell(self, message: EngineEvent) -> None:
        if isinstance(message, Started):
            run = self.runs[message.key]
            devices: dict[str, tuple[int, ...]] = {}
            for worker, held in zip(run.workers, run.devices, strict=True):
                devices[worker] = (*devices.get(worker, ()), *held)
            message = replace(message, devices=devices)
        super()._tell(message)


def carried_out(engine: SimEngine, request: PlanRequest, path: Path, kills: float) -> Master:
    """A batch to its end, its master killed now and then; devices are watched at every step."""
    rng = np.random.default_rng(1)
    state = State(path)
    options = Options(tries=50, strikes=1000)

    def fresh() -> Master:
        return master_of(state, engine, request, QUICK, ask=greedily, options=options)

    master = fresh()
    for _ in range(3_000):
        if rng.random() < kills:
            master = fresh()
        master.step(60.0)
        for run in engine.runs.values():
            known = master.mind.snapshot.running_by_id.get(run.key[0])
            if known is not None and run.end_s is None and known.devices:
                assert known.devices == run.devices
        if master.done:
            state.close()
            return master
    raise AssertionError(f"not done: {list(master.open)} open")


@pytest.mark.parametrize("seed", cases(2, 4))
def test_what_starts_has_the_devices_of_the_plan(seed: int, tmp_path: Path) -> None:
    """An engine would run two tasks on one device while another one is idle."""
    request = shared(seed)
    run_s, now = run_s_of(request, seed), request.snapshot.now_s
    faults = FAULTY if seed % 2 else Faults()
    engine = SimEngine(request.snapshot.workers, run_s, now, faults, seed)
    assert DEVICES in engine.capabilities
    carried_out(engine, request, tmp_path / "state.db", kills=0.1)
    assert overloads(engine) == []
    ended = {run.key[0] for run in engine.runs.values() if run.cause == "completed"}
    assert ended == {task.id for task in request.snapshot.pending}
    assert all(len(run.devices) == len(run.workers) for run in engine.runs.values())
    assert all(all(run.devices) for run in engine.runs.values())


@pytest.mark.parametrize("seed", cases(2, 4))
def test_devices_that_an_engine_chose_are_known(seed: int, tmp_path: Path) -> None:
    """The next plan would give a device that is taken, and leave the free one idle."""
    request = shared(10 + seed)
    run_s, now = run_s_of(request, seed), request.snapshot.now_s
    engine = ChoosingEngine(request.snapshot.workers, run_s, now, Faults(), seed)
    state = State(tmp_path / "state.db")
    options = Options(tries=50, strikes=1000)
    master = master_of(state, engine, request, QUICK, ask=greedily, options=options)
    named = 0
    for _ in range(3_000):
        master.step(60.0)
        for row in master.open.values():
            if row.state == "running":
                known = master.mind.snapshot.running_by_id[row.key[0]]
                assert known.devices == engine.chosen[row.key[0]]
                assert known.start_s == row.ordered_s
                named += 1
        if master.done:
            break
    assert master.done
    assert named > 0
    assert master.refused == []
    assert overloads(engine) == []
    state.close()


def test_a_new_master_knows_which_devices_run(tmp_path: Path) -> None:
    """After a kill every device would count as unknown, and be given again."""
    request = shared(3)
    run_s, now = run_s_of(request, 3), request.snapshot.now_s
    for engine in (
        SimEngine(request.snapshot.workers, run_s, now),
        ChoosingEngine(request.snapshot.workers, run_s, now),
    ):
        state = State(tmp_path / f"{type(engine).__name__}.db")
        master = master_of(state, engine, request, QUICK, ask=greedily)
        for _ in range(3):
            master.step(1.0)
        running = {name: run.devices for name, run in master.mind.snapshot.running_by_id.items()}
        assert running
        assert all(running.values())
        mind = state.restored(QUICK)
        assert mind is not None
        assert {name: run.devices for name, run in mind.snapshot.running_by_id.items()} == running
        state.close()
