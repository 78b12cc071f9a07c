"""Workers that drain, engines that do not answer, orders that are refused."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plancast.pipelines.engines.base import (
    Ended,
    EnvironmentFailed,
    Key,
    Order,
    Rejected,
    Standing,
    Unreachable,
)
from plancast.pipelines.engines.patient import PatientEngine, patiently
from plancast.pipelines.engines.sim import Faults, SimEngine
from plancast.pipelines.master.batch import account, master_of
from plancast.pipelines.master.loop import Options
from plancast.pipelines.master.outcome import failures, outputs, tail
from plancast.pipelines.master.state import State
from plancast.pipelines.master.view import facts
from plancast.planner.model.domain import DurationEstimate, Outcome, Snapshot, Task, Worker
from plancast.planner.model.messages import PlanRequest
from tests.pipelines.master.test_master import (
    QUICK,
    batch,
    check_truth,
    drive,
    engine_for,
    fresh,
    quick_plan,
    random_faults,
    reopened,
)


def test_what_runs_on_a_worker_that_drains_goes_on(tmp_path: Path) -> None:
    """Four running tasks would be cancelled and begun again because a node is to be serviced."""
    request = batch(1, tasks=12, workers=3)
    now, names = request.snapshot.now_s, [w.id for w in request.snapshot.workers]
    engine = engine_for(request, 1, Faults(drains=tuple((now + 5, n, 4_000) for n in names[1:])))
    master = fresh(tmp_path / "m.db", engine, request)
    drive(master)
    check_truth(engine, request, master)
    assert {run.cause for run in engine.runs.values()} == {"completed"}
    assert [run for run in engine.runs.values() if run.workers[0] in names[1:]]
    # Nothing begins there until it is open again, and then something does.
    begun = [r.start_s - now for r in engine.runs.values() if r.workers[0] in names[1:]]
    assert not [at for at in begun if 5 < at < 4_005]


def test_a_batch_waits_for_what_drains_and_is_needed(tmp_path: Path) -> None:
    """Its last tasks would count as hopeless while their worker is serviced."""
    request = batch(2, tasks=6, workers=1)
    now, name = request.snapshot.now_s, request.snapshot.workers[0].id
    engine = engine_for(request, 2, Faults(drains=((now + 1, name, 600),)))
    master = fresh(tmp_path / "m.db", engine, request)
    drive(master)
    assert failures(master) == []
    check_truth(engine, request, master)


def test_what_has_not_begun_on_a_closed_worker_is_planned_elsewhere(tmp_path: Path) -> None:
    """An order that its node never takes any more would be waited for without end."""

    class Slow(SimEngine):
        """Takes orders, and begins them only on the second worker."""

        taken: set[Key]

        def start(self, order: Order) -> None:
            if order.workers == ("w0",):
                self.taken.add(order.key)
            else:
                super().start(order)

        def cancel(self, key: Key) -> None:
            if key in self.taken:
                self.taken.discard(key)
                self._post(Ended(key, self.clock, self.clock, Outcome.CANCELLED), self.clock)
            super().cancel(key)

        def status(self, keys: Collection[Key]) -> dict[Key, Standing]:
            found = super().status(keys)
            return {k: Standing("waiting") if k in self.taken else found[k] for k in keys}

    workers = (Worker("w0", {"cpu": 2000}), Worker("w1", {"cpu": 1000}))
    tasks = tuple(Task(f"t{k}", {"cpu": 1000}) for k in range(3))
    estimates = {t.id: {"*": DurationEstimate.certain(100)} for t in tasks}
    request = PlanRequest("r", Snapshot(0, 0, workers, tasks), estimates)
    engine = Slow(workers, lambda *_: 100, faults=Faults(drains=((50, "w0", None),)))
    engine.taken = set()
    master = fresh(tmp_path / "m.db", engine, request)
    drive(master)
    assert failures(master) == []
    assert {run.workers for run in engine.runs.values()} == {("w1",)}
    assert len(engine.runs) == 3
    assert facts(master)["runs_preempted"] == 0
    assert engine.clock < 3_000


def test_a_new_master_knows_what_drains(tmp_path: Path) -> None:
    """It would start tasks where nothing is taken, or void what runs there."""
    request = batch(1, tasks=8, workers=2)
    now, name = request.snapshot.now_s, request.snapshot.workers[1].id
    engine = engine_for(request, 1, Faults(drains=((now + 1, name, None),)))
    master = fresh(tmp_path / "m.db", engine, request)
    engine.events(5.0)  # nobody hears it
    again = fresh(tmp_path / "m.db", engine, request)
    drive(again)
    check_truth(engine, request, again)
    assert {run.cause for run in engine.runs.values()} == {"completed"}
    del master


@pytest.mark.parametrize("part", range(2))
def test_nothing_is_lost_while_an_engine_comes_and_goes(part: int, tmp_path: Path) -> None:
    """An outage in the middle of a call could lose an order, repeat one, or void what runs."""
    for seed in range(100 + part * 6, 106 + part * 6):
        rng = np.random.default_rng(seed)
        request = batch(seed, int(rng.integers(2, 9)), int(rng.integers(1, 4)))
        now, names = request.snapshot.now_s, [w.id for w in request.snapshot.workers]
        away = tuple((now + int(rng.integers(0, 4_000)), int(rng.integers(1, 9))) for _ in range(6))
        drains = tuple(
            (now + int(rng.integers(0, 2_000)), names[int(rng.integers(len(names)))],
             int(rng.integers(1, 2_000)))
            for _ in range(int(rng.integers(0, 4)))
        )  # fmt: skip
        faults = replace(random_faults(seed, request), away=away, drains=drains)
        engine = engine_for(request, seed, faults)
        patient = PatientEngine(engine, sleep=lambda _: None)
        options = Options(tries=50, strikes=1000)
        path = tmp_path / f"{seed}.db"
        for step in range(5_000):
            if step == 0 or rng.random() < 0.05:
                master = master_of(
                    reopened(path), patient, request, QUICK, ask=quick_plan, options=options
                )
            master.step(60.0)
            if master.done:
                break
        check_truth(engine, request, master)


def test_a_lost_run_takes_no_other_with_it(tmp_path: Path) -> None:
    """One piece of a gang would take down all that runs on its healthy workers."""

    class Failing(SimEngine):
        def lose(self, task: str) -> None:
            run = self.runs[task, 1]
            run.end_s, run.cause = self.clock, "died"

    workers = (Worker("a", {"cpu": 2000}), Worker("b", {"cpu": 1000}))
    tasks = (Task("gang", {"cpu": 1000}, shards=2), Task("other", {"cpu": 1000}))
    estimates = {t.id: {"*": DurationEstimate.certain(600)} for t in tasks}
    request = PlanRequest("r", Snapshot(0, 0, workers, tasks), estimates)
    engine = Failing(workers, lambda *_: 600)
    master = fresh(tmp_path / "m.db", engine, request)
    master.step(60.0)
    assert set(engine.runs) == {("gang", 1), ("other", 1)}
    engine.lose("gang")
    drive(master)
    assert set(engine.runs) == {("gang", 1), ("gang", 2), ("other", 1)}
    assert engine.runs["other", 1].cause == "completed"


def test_an_outage_is_waited_out_with_growing_pauses() -> None:
    """A busy loop would hammer the controller that tries to come back, or give up at once."""
    pauses: list[float] = []
    left = [6]

    def call() -> str:
        left[0] -= 1
        if left[0] > 0:
            raise Unreachable("away")
        return "there"

    said: list[str] = []
    assert patiently(call, 100.0, away=said.append, sleep=pauses.append) == "there"
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert said == ["away"]


def test_an_outage_that_does_not_end_is_a_failure() -> None:
    """A master could wait forever for a controller that was taken away."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def call() -> None:
        raise Unreachable("squeue: away")

    with pytest.raises(EnvironmentFailed, match=r"no answer for \d+ s: squeue: away"):
        patiently(call, 60.0, sleep=sleep, clock=lambda: now[0])
    assert 30 <= now[0] <= 60


def test_an_order_that_is_refused_fails_and_others_go_on(tmp_path: Path) -> None:
    """One task that the engine does not take could stop the batch, or be sent again forever."""

    class Picky(SimEngine):
        def start(self, order: Order) -> None:
            if order.key[0] == "bad":
                raise Rejected("Invalid account")
            super().start(order)

    workers = (Worker("w", {"cpu": 1000}),)
    tasks = (Task("bad", {"cpu": 1000}), Task("good", {"cpu": 1000}),
             Task("late", {"cpu": 1000}, after=("bad",)))  # fmt: skip
    estimates = {t.id: {"*": DurationEstimate.certain(60)} for t in tasks}
    request = PlanRequest("r", Snapshot(0, 0, workers, tasks), estimates)
    engine = Picky(workers, lambda *_: 60)
    state = State(tmp_path / "m.db")
    master = master_of(state, engine, request, QUICK, ask=quick_plan, output=tmp_path / "out")
    drive(master)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "good.1.log").write_text("fine\n")
    (tmp_path / "out" / "bad.1.log").write_text("line\n" * 40 + "the \x1b[31mend\n")
    found = {one["task"]: one for one in failures(master)}
    assert set(found) == {"bad", "late"}
    assert (found["bad"]["outcome"], found["bad"]["reason"]) == (
        "failed",
        "refused: Invalid account",
    )
    assert found["bad"]["tail"].splitlines()[-1] == "the ?[31mend"
    assert len(found["bad"]["tail"].splitlines()) == 10
    assert found["late"]["outcome"] == "never ran"
    assert "bad" in found["late"]["reason"]
    assert found["late"]["attempt"] is None
    files = {name: [str(tmp_path / "out" / f"{name}.1.log")] for name in ("bad", "good")}
    assert outputs(master) == files
    assert tail(tmp_path / "none") == ""
    state.close()


def test_no_batch_costs_less_than_nothing(tmp_path: Path) -> None:
    """An engine's slow clock could put runs before the batch, and its cost below zero."""
    for seed in range(6):
        request = batch(seed, tasks=5)
        engine = engine_for(request, seed, Faults(clock_s=5_000))
        master = fresh(tmp_path / f"{seed}.db", engine, request)
        drive(master)
        assert account(master)["realised_cost"] >= 0
        for row in master.orders.values():
            if row.state == "ended":
                assert row.start_s is not None
                assert row.start_s >= row.ordered_s >= request.snapshot.now_s
