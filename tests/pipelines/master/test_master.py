"""Batches carried out on a cluster that misbehaves: nothing lost, nothing twice, no overload."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from plancast.pipelines.engines.base import Key, Order
from plancast.pipelines.engines.sim import Faults, SimEngine, overloads
from plancast.pipelines.master.batch import master_of
from plancast.pipelines.master.joblog import append_log
from plancast.pipelines.master.loop import Master, NoAnswer, Options
from plancast.pipelines.master.state import State
from plancast.pipelines.master.view import facts
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import BadRequest, DurationEstimate, Snapshot, Task, Worker
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.messages import (
    Budget,
    PlanRequest,
    PlanResponse,
)
from plancast.planner.planning.controller import Choice, ControlPolicy
from plancast.planner.planning.plan import plan
from plancast.predictor.logs.table import read_jobs
from tests.conftest import cases

QUICK = ControlPolicy(repair_budget=Budget(None, 20), replan_budget=Budget(None, 20))
FAULTY = Faults(lost=0.1, twice=0.1, late=0.2, deaf=0.1, clock_s=5)


def quick_plan(request: PlanRequest, choice: Choice) -> PlanResponse:
    """A planner that takes milliseconds."""
    from plancast.planner.planning.repair import repair

    return repair(request) if choice is Choice.REPAIR else plan(request, "greedy")


def batch(seed: int, tasks: int = 8, workers: int = 3, preemptible: float = 0.0) -> PlanRequest:
    """Any task may run on any worker, so that none is hopeless while one is left."""
    request = generate_batch(tasks, generate_cluster(workers, seed), seed, label_share=0.0)
    kinds = {name for t in request.snapshot.pending for name in t.demand}
    most = {k: max(t.demand.get(k, 0) for t in request.snapshot.pending) for k in kinds}
    room = {k: (1 if preemptible else 2) * amount for k, amount in most.items()}
    same = tuple(replace(w, capacity=room) for w in request.snapshot.workers)
    rng = np.random.default_rng(seed)
    # Some may be stopped for the sake of others that matter a hundred times as much.
    pending = tuple(
        replace(t, preemptible=True, weight=0.1) if rng.random() < preemptible
        else replace(t, weight=10.0 if preemptible else t.weight)
        for t in request.snapshot.pending
    )  # fmt: skip
    certain = {
        task: {"*": next(iter(by_class.values()))} for task, by_class in request.estimates.items()
    }
    snapshot = replace(request.snapshot, workers=same, pending=pending)
    return replace(request, snapshot=snapshot, estimates=certain)


def truth(request: PlanRequest, seed: int) -> Callable[[str, str], int]:
    """True run times, off the estimates by a factor of two or so."""
    rng = np.random.default_rng(seed)
    run_s = {
        t.id: max(1, int(request.estimates[t.id]["*"].at(0.5) * rng.lognormal(0, 0.6)))
        for t in request.snapshot.pending
    }
    return lambda task, _: run_s[task]


def engine_for(
    request: PlanRequest, seed: int, faults: Faults, kind: type[SimEngine] = SimEngine
) -> SimEngine:
    """A simulated cluster for a batch."""
    return kind(
        request.snapshot.workers, truth(request, seed), request.snapshot.now_s, faults, seed
    )


def drive(master: Master, most_steps: int = 5_000) -> None:
    """Step until all is done."""
    for _ in range(most_steps):
        master.step(60.0)
        if master.done:
            return
    waiting = [t.id for t in master.mind.snapshot.pending]
    raise AssertionError(f"not done: {waiting} wait, {list(master.open)} open")


def check_truth(engine: SimEngine, request: PlanRequest, master: Master) -> None:
    """What the guarantee says, by the engine's own books."""
    assert overloads(engine) == []
    causes = Counter(run.cause for run in engine.runs.values())
    assert causes[""] == 0
    hopeless = master.mind.hopeless()
    for task in request.snapshot.pending:
        runs = [run for run in engine.runs.values() if run.key[0] == task.id]
        ended = [run for run in runs if run.cause in ("completed", "failed", "timeout")]
        if task.id in hopeless:
            assert ended == []
            continue
        assert len(ended) == 1, (task.id, runs)
        stops = [run for run in runs if run.cause == "cancelled"]
        assert all(run.cause == "died" for run in runs if run not in (*ended, *stops))
        assert len(stops) <= (master.options.stops if task.preemptible else 0)
        # It runs again only after its worker has died with it, or it was preempted.
        for earlier, later in pairwise(runs):
            assert earlier.end_s is not None
            assert earlier.end_s <= later.start_s
    order = {run.key[0]: run for run in engine.runs.values() if run.cause == "completed"}
    for task in request.snapshot.pending:
        for before in task.after:
            if task.id in order:
                assert order[before].end_s <= order[task.id].start_s


def random_faults(seed: int, request: PlanRequest) -> Faults:
    """Any mixture of faults, and workers that die and come back."""
    rng = np.random.default_rng(seed)
    names = [w.id for w in request.snapshot.workers]
    deaths = []
    for _ in range(int(rng.integers(0, 4))):
        back = int(rng.integers(1, 600)) if rng.random() < 0.7 else None
        at_s = request.snapshot.now_s + int(rng.integers(1, 3600))
        deaths.append((at_s, names[int(rng.integers(len(names)))], back))
    # One worker lives, or nothing could ever be finished.
    deaths = [d for d in deaths if d[1] != names[0] or d[2] is not None]
    return Faults(
        lost=float(rng.choice([0, 0.05, 0.3])), twice=float(rng.choice([0, 0.3])),
        late=float(rng.choice([0, 0.3])), late_s=int(rng.integers(1, 300)),
        deaf=float(rng.choice([0, 0.2])), clock_s=int(rng.choice([0, 3, 60])),
        deaths=tuple(deaths), fail=float(rng.choice([0, 0.05])),
    )  # fmt: skip


def random_run(seed: int, folder: Path) -> int:
    """One batch under random faults, its master killed now and then; how many runs it stopped."""
    rng = np.random.default_rng(seed)
    request = batch(
        seed, int(rng.integers(2, 9)), int(rng.integers(1, 4)), float(rng.choice([0.0, 0.5]))
    )
    engine = engine_for(request, seed, random_faults(seed, request))
    path = folder / f"{seed}.db"
    kills = float(rng.choice([0.0, 0.1]))
    master = fresh(path, engine, request)
    for _ in range(5_000):
        if rng.random() < kills:
            # Killed: nothing of it is left but its file.
            master = fresh(path, engine, request)
        master.step(60.0)
        if master.done:
            break
    else:
        raise AssertionError(f"seed {seed}: not done, {list(master.open)} open")
    check_truth(engine, request, master)
    HELD.pop(path).close()
    path.unlink()
    return sum(run.cause == "cancelled" for run in engine.runs.values())


HELD: dict[Path, State] = {}
"""States that tests have open: the file of a master that was killed is let go of first."""


def reopened(path: Path) -> State:
    """A state, as it is for whoever comes after a kill: uncommitted writes are undone."""
    if path in HELD:
        HELD.pop(path).close()
    HELD[path] = State(path)
    return HELD[path]


def fresh(path: Path, engine: SimEngine, request: PlanRequest) -> Master:
    """A master before the engine, from its file."""
    options = Options(tries=50, strikes=1000)
    return master_of(reopened(path), engine, request, QUICK, ask=quick_plan, options=options)


@pytest.mark.parametrize("part", cases(1, 3))
def test_nothing_is_lost_under_random_faults(part: int, tmp_path: Path) -> None:
    """Losses, doubles, delays, clock steps, deaths and kills together could lose or repeat work."""
    # 3127: the clock steps back between the news of a death and what is made of it.
    seeds = (*range(part * 8, part * 8 + 8), *((3127,) if part == 0 else ()))
    for seed in seeds:
        random_run(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_nothing_is_lost_in_ten_thousand_runs(tmp_path: Path) -> None:
    """The same, at the length that rare orders of events need."""
    stopped = sum(random_run(seed, tmp_path) for seed in range(1_000, 11_000))
    assert stopped > 300


class Killed(BaseException):
    """Stands for kill -9: nothing is cleaned up."""


def test_a_kill_at_every_write_loses_nothing(tmp_path: Path) -> None:
    """There could be one moment between two writes at which a task is forgotten or doubled."""
    request = batch(3, tasks=5, workers=2)
    left = [10**9]
    engine = engine_for(request, 3, FAULTY)
    drive(dying_master(tmp_path / "whole.db", engine, request, left))
    total = 10**9 - left[0]
    assert total > 20
    for moment in range(1, total, 5):
        engine = engine_for(request, 3, FAULTY)
        path = tmp_path / f"{moment}.db"
        with pytest.raises(Killed):
            drive(dying_master(path, engine, request, [moment]))
        again = fresh(path, engine, request)
        drive(again)
        check_truth(engine, request, again)


def dying_master(path: Path, engine: SimEngine, request: PlanRequest, left: list[int]) -> Master:
    """A master that dies before its so-many-th write or sending."""

    def dying(inner: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                # SQLite undoes what was not committed; so does a kill.
                raise Killed
            return inner(*arguments, **named)

        return call

    state = reopened(path)
    for name in ("add_event", "put_order", "add_plan"):
        setattr(state, name, dying(getattr(state, name)))
    proxy = _Proxy(engine, dying(engine.start), dying(engine.cancel))
    options = Options(tries=50, strikes=1000)
    return master_of(state, proxy, request, QUICK, ask=quick_plan, options=options)  # type: ignore[arg-type]


class _Proxy:
    """An engine whose ``start`` and ``cancel`` are others."""

    def __init__(
        self, engine: SimEngine, start: Callable[..., object], cancel: Callable[..., object]
    ) -> None:
        self._engine, self.start, self.cancel = engine, start, cancel

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)


def test_a_realised_batch_is_priced_like_any_plan(tmp_path: Path) -> None:
    """What ran could break a rule that the books hide."""
    from plancast.planner.model.domain import Plan

    request = batch(1, tasks=10)
    engine = engine_for(request, 1, Faults())
    master = fresh(tmp_path / "m.db", engine, request)
    drive(master)
    snapshot = request.snapshot
    realised = Plan(tuple(master.realised().values()), (), snapshot.now_s, snapshot.version)
    found = evaluate(request, realised, realised=True)
    assert found.violations == ()
    assert next(p.choice for p in master.state.plans()) is Choice.REPLAN


# ---------------------------------------------------------------- misbehaving parties


def never(request: PlanRequest, choice: Choice) -> PlanResponse:
    """A planner that never answers: whoever asks it gives up in time."""
    raise NoAnswer("the planner gave no answer within 1.0 s")


def old(request: PlanRequest, choice: Choice) -> PlanResponse:
    """A planner that answers for an old snapshot."""
    return replace(quick_plan(request, choice), snapshot_version=request.snapshot.version - 1)


def invalid(request: PlanRequest, choice: Choice) -> PlanResponse:
    """A planner that starts everything in the past."""
    response = quick_plan(request, choice)
    assert response.plan is not None
    now = request.snapshot.now_s
    rows = tuple(replace(a, start_s=now - 1, end_s=now - 1 + a.end_s - a.start_s)
                 for a in response.plan.assignments)  # fmt: skip
    return replace(response, plan=replace(response.plan, assignments=rows))


@pytest.mark.parametrize("planner", [never, invalid], ids=["never answers", "answers nonsense"])
def test_a_broken_planner_stops_nothing(
    planner: Callable[[PlanRequest, Choice], PlanResponse], tmp_path: Path
) -> None:
    """A batch could hang with its planner, or follow it over the cliff."""
    request = batch(2)
    engine = engine_for(request, 2, Faults())
    master = master_of(State(tmp_path / "m.db"), engine, request, QUICK, ask=planner)
    drive(master)
    check_truth(engine, request, master)
    assert master.refused


def test_answers_for_an_old_state_are_never_followed(tmp_path: Path) -> None:
    """A late answer could start tasks on workers that have gone since."""
    request = batch(2)
    engine = engine_for(request, 2, Faults())
    master = master_of(State(tmp_path / "m.db"), engine, request, QUICK, ask=old)
    for _ in range(5):
        master.step(60.0)
    assert not engine.runs
    assert all("has come since" in why for why in master.refused)
    master.ask = quick_plan
    drive(master)
    check_truth(engine, request, master)


def test_no_plan_counts_on_what_an_engine_cannot_do(tmp_path: Path) -> None:
    """A plan would stop a task that goes on, and the master would repair forever."""
    request = batch(3)
    pending = tuple(replace(t, preemptible=True) for t in request.snapshot.pending)
    request = replace(request, snapshot=replace(request.snapshot, pending=pending))
    engine = SimEngine(
        request.snapshot.workers, truth(request, 3), request.snapshot.now_s,
        capabilities=frozenset(),
    )  # fmt: skip
    asked: list[PlanRequest] = []

    def ask(one: PlanRequest, choice: Choice) -> PlanResponse:
        asked.append(one)
        return quick_plan(one, choice)

    state = State(tmp_path / "master.db")
    master = master_of(state, engine, request, QUICK, ask=ask)
    for _ in range(200):
        if not master.done:
            master.step(60.0)
    state.close()
    assert master.done
    assert asked
    tasks = [t for a in asked for t in (*a.snapshot.pending, *(r.task for r in a.snapshot.running))]
    assert not any(t.preemptible for t in tasks)


def urgent_and_loose() -> PlanRequest:
    """Two workers, of which one will die under a task that matters more than the other's."""
    workers = tuple(Worker(name, {"cpu": 1000}) for name in ("a", "b"))
    tasks = (
        Task("loose", {"cpu": 1000}, weight=0.01, preemptible=True),
        Task("urgent", {"cpu": 1000}, weight=100.0, deadline_s=1_000),
    )
    estimates = {t.id: {"*": DurationEstimate.certain(600)} for t in tasks}
    return PlanRequest("r", Snapshot(0, 0, workers, tasks), estimates)


def losing_under_urgent(request: PlanRequest, faults: Faults, seed: int = 0) -> SimEngine:
    """A cluster whose worker dies 20 s after the urgent task has begun on it."""

    class Losing(SimEngine):
        def start(self, order: Order) -> None:
            super().start(order)
            run = self.runs.get(order.key)
            if order.key == ("urgent", 1) and run is not None and run.start_s == self.clock:
                self._at(self.clock + 20, lambda: self._dies(order.workers[0]))

    return Losing(request.snapshot.workers, lambda *_: 600, 0, faults, seed)


def test_what_is_less_urgent_makes_room(tmp_path: Path) -> None:
    """A task could wait for one that may be stopped, run beside it, or lose it for good."""
    request = urgent_and_loose()
    engine = losing_under_urgent(request, Faults())
    master = fresh(tmp_path / "m.db", engine, request)
    drive(master)
    check_truth(engine, request, master)
    loose = [run for run in engine.runs.values() if run.key[0] == "loose"]
    assert [run.cause for run in loose] == ["cancelled", "completed"]
    urgent = engine.runs["urgent", 2]
    assert (urgent.workers, urgent.start_s) == (loose[0].workers, loose[0].end_s)
    assert urgent.end_s is not None
    assert loose[1].start_s >= urgent.end_s
    assert facts(master)["runs_preempted"] == 1


@pytest.mark.parametrize("moment", range(1, 30, 2))
def test_a_kill_while_a_task_is_stopped_loses_nothing(moment: int, tmp_path: Path) -> None:
    """A task could be told to stop and be forgotten, or a plan count on a stop nobody ordered."""
    request = urgent_and_loose()
    engine = losing_under_urgent(request, Faults(lost=0.2, deaf=0.2, late=0.2), moment)
    with suppress(Killed):
        drive(dying_master(tmp_path / "m.db", engine, request, [moment]))
    again = fresh(tmp_path / "m.db", engine, request)
    drive(again)
    check_truth(engine, request, again)


def test_an_order_to_stop_that_is_lost_is_sent_again(tmp_path: Path) -> None:
    """An urgent task could wait until the other one has ended by itself."""
    request = urgent_and_loose()
    engine, lost = deaf_to_the_first_stop(request)
    master = fresh(tmp_path / "m.db", engine, request)
    drive(master)
    check_truth(engine, request, master)
    assert lost
    first = engine.runs["loose", 1]
    assert first.cause == "cancelled"
    assert first.end_s is not None
    assert first.end_s <= 20 + 2 * master.options.check_s + 60


def deaf_to_the_first_stop(request: PlanRequest) -> tuple[SimEngine, list[Key]]:
    """A cluster that does not hear the first order to stop the loose task, and that order."""
    engine = losing_under_urgent(request, Faults())
    cancel, lost = engine.cancel, []

    def deaf_once(key: Key) -> None:
        # Orders to stop what died with its worker mean nothing here.
        if key[0] == "loose" and not lost:
            lost.append(key)
        else:
            cancel(key)

    engine.cancel = deaf_once  # type: ignore[method-assign]
    return engine, lost


def test_a_new_master_knows_what_is_being_stopped(tmp_path: Path) -> None:
    """It could plan around a task that is to go, or stop another one in its place."""
    request = urgent_and_loose()
    engine, lost = deaf_to_the_first_stop(request)
    master = fresh(tmp_path / "m.db", engine, request)
    while not lost:
        master.step(60.0)
    again = fresh(tmp_path / "m.db", engine, request)
    assert again.mind.stopping == {"loose"}
    assert again.mind.plan == master.mind.plan
    assert again.mind.cost == master.mind.cost
    assert again.mind.planned_at_s == master.mind.planned_at_s
    drive(again)
    check_truth(engine, request, again)


def test_a_task_is_not_stopped_for_ever(tmp_path: Path) -> None:
    """Each time that something more urgent comes it could lose all its work again."""
    request = urgent_and_loose()
    engine = losing_under_urgent(request, Faults())
    options = Options(stops=0)
    master = master_of(
        State(tmp_path / "m.db"), engine, request, QUICK, ask=quick_plan, options=options
    )
    drive(master)
    check_truth(engine, request, master)
    assert facts(master)["runs_preempted"] == 0


def test_an_end_on_its_way_when_the_worker_dies_is_an_end(tmp_path: Path) -> None:
    """What has ended could run again, because its worker died before the news came."""
    request = batch(8, tasks=3, workers=2)
    engine = engine_for(request, 8, Faults(late=0.99, late_s=5_000))
    master = fresh(tmp_path / "m.db", engine, request)
    first = next(iter(engine.runs.values()))
    while first.end_s is None:
        engine.events(1.0)
    engine._dies(first.workers[0])
    drive(master)
    check_truth(engine, request, master)
    assert len([run for run in engine.runs.values() if run.key[0] == first.key[0]]) == 1


def test_finishes_before_starts_and_doubles_are_told_apart(tmp_path: Path) -> None:
    """An end that comes before its start could be dropped, a second one counted."""
    from plancast.pipelines.engines.base import Ended, Started
    from plancast.planner.model.domain import Outcome

    request = batch(5, tasks=3, workers=1)
    engine = engine_for(request, 5, Faults())
    master = fresh(tmp_path / "m.db", engine, request)
    master.step(0.0)
    row = next(iter(master.open.values()))
    ended = Ended(row.key, request.snapshot.now_s, request.snapshot.now_s + 7, Outcome.COMPLETED)
    for entry in (ended, Started(row.key, request.snapshot.now_s), ended):
        master._hear(entry)
    snapshot = master.mind.snapshot
    assert [f.id for f in snapshot.finished].count(row.key[0]) == 1
    assert row.key[0] not in snapshot.running_by_id


def test_the_last_worker_may_go_and_come_back(tmp_path: Path) -> None:
    """A cluster without workers could bring the master down."""
    request = batch(6, tasks=4, workers=1)
    now, name = request.snapshot.now_s, request.snapshot.workers[0].id
    engine = engine_for(request, 6, Faults(deaths=((now + 5, name, 800),)))
    master = fresh(tmp_path / "m.db", engine, request)
    drive(master)
    check_truth(engine, request, master)
    assert not master.mind.snapshot.pending


def test_what_nothing_can_run_any_more_is_waited_for_only_so_long(tmp_path: Path) -> None:
    """A batch could wait forever for a worker that does not come back, or not wait at all."""
    request = batch(6, tasks=4, workers=1)
    now, name = request.snapshot.now_s, request.snapshot.workers[0].id
    engine = engine_for(request, 6, Faults(deaths=((now + 5, name, None),)))
    master = fresh(tmp_path / "m.db", engine, request)
    drive(master, 100)
    assert master.mind.hopeless().keys() == {t.id for t in request.snapshot.pending}
    patience_s = master.options.patience_s
    assert patience_s <= engine.clock - now <= patience_s + 200


def test_a_task_that_kills_its_workers_is_given_up(tmp_path: Path) -> None:
    """One bad task could take down a cluster forever."""
    worker = Worker("w", {"cpu": 1000})
    tasks = (Task("bad", {"cpu": 1000}),)
    request = PlanRequest(
        "r", Snapshot(0, 0, (worker,), tasks), {"bad": {"*": DurationEstimate.certain(100)}}
    )
    deaths = tuple((10 + 100 * k, "w", 5) for k in range(10))
    engine = SimEngine((worker,), lambda *_: 100, 0, Faults(deaths=deaths))
    options = Options(tries=3, strikes=1000)
    master = master_of(
        State(tmp_path / "m.db"), engine, request, QUICK, ask=quick_plan, options=options
    )
    drive(master)
    assert len(engine.runs) == 3
    assert not master.mind.snapshot.pending


def test_finished_tasks_become_a_log(tmp_path: Path) -> None:
    """The next day's model could learn nothing of this day."""
    request = batch(7, tasks=6)
    engine = engine_for(request, 7, Faults())
    master = fresh(tmp_path / "m.db", engine, request)
    drive(master)
    path = tmp_path / "jobs.parquet"
    assert append_log(master, path) == 6
    assert append_log(master, path) == 0
    jobs = read_jobs(path)
    assert sorted(jobs["job_id"]) == sorted(t.id for t in request.snapshot.pending)
    true = {run.key[0]: run.end_s - run.start_s for run in engine.runs.values()}
    assert dict(zip(jobs["job_id"], jobs["run_s"], strict=True)) == true


def test_a_file_that_is_no_state_is_refused(tmp_path: Path) -> None:
    """A database of something else could be written over."""
    other = tmp_path / "notes.txt"
    other.write_text("these are my notes, and they are longer than a database header " * 20)
    with pytest.raises(BadRequest, match=r"notes\.txt: is no state of a master"):
        State(other)
