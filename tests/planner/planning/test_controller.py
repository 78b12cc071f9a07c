"""The controller keeps what holds, repairs what does not, and never promises on an old state."""

from __future__ import annotations

import heapq
import time
from dataclasses import replace

import numpy as np
import pytest

from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import (
    SCENARIOS,
    Assignment,
    BadRequest,
    DurationEstimate,
    Outcome,
    Plan,
    Policy,
    Running,
    Snapshot,
    Task,
    Worker,
)
from plancast.planner.model.evaluate import evaluate
from plancast.planner.model.explain import clock
from plancast.planner.model.messages import (
    Budget,
    PlanRequest,
    TaskChanged,
    TaskFinished,
    TaskStarted,
    TaskSubmitted,
    WorkerJoined,
    WorkerLost,
)
from plancast.planner.planning.controller import Choice, Controller, ControlPolicy, Refused
from plancast.planner.planning.expected_starts import amount, start_levels
from plancast.planner.planning.plan import plan

STEPS = ControlPolicy(repair_budget=Budget(None, 60), replan_budget=Budget(None, 60))


def controller(seed: int = 0, tasks: int = 16, workers: int = 4) -> Controller:
    """With a batch, and no plan yet."""
    request = generate_batch(tasks, generate_cluster(workers, seed), seed, gang_share=0.1)
    return Controller(request, STEPS)


def think(mind: Controller) -> Choice:
    """One decision, carried out."""
    choice = mind.decide().choice
    if choice is not Choice.KEEP:
        asked = mind.ask(choice)
        mind.commit(asked, mind.answer(asked, choice), choice)
    return choice


def carry_out(mind: Controller, run_s: dict[str, int], losses: dict[int, str]) -> list[Assignment]:
    """Drive a controller through a batch: true run times, workers lost at given times."""
    ran: dict[str, Assignment] = {}
    ends: list[tuple[int, str]] = []
    left = dict(losses)
    for _ in range(10_000):
        think(mind)
        now = mind.snapshot.now_s
        started = mind.due()
        for row in started:
            mind.tell(TaskStarted(now, row.task, row.workers))
            heapq.heappush(ends, (now + run_s[row.task], row.task))
            ran[row.task] = Assignment(row.task, row.workers, now, now + run_s[row.task])
        if not mind.snapshot.pending and not mind.snapshot.running:
            return list(ran.values())
        if started:
            continue
        moments = [end for end, task in ends] + [t for t in left if t > now]
        kept = mind.retimed()
        moments += [a.start_s for a in kept.assignments if a.start_s > now] if kept else []
        if not moments:
            return list(ran.values())
        now = min(moments)
        mind.advance(now)
        while ends and ends[0][0] <= now:
            _, task = heapq.heappop(ends)
            if task in mind.snapshot.running_by_id and ran[task].end_s == now:
                mind.tell(TaskFinished(now, task))
        if now in left:
            lost = left.pop(now)
            hit = {r.task.id for r in mind.snapshot.running if lost in r.workers}
            mind.tell(WorkerLost(now, lost))
            ends = [(e, t) for e, t in ends if t not in hit]
            heapq.heapify(ends)
    raise AssertionError("the batch does not end")


class Checked(Controller):
    """Times each plan anew whose times it has kept, and compares."""

    kept_ones = 0

    def _timed(self, request: PlanRequest) -> Plan | None:
        before = [
            found for (known, of), found in self._kept if known is request and of is self.plan
        ]
        found = super()._timed(request)
        if before:
            self.kept_ones += 1
            anew = self._timed_anew(request)
            assert found is not None
            assert anew is not None
            assert sorted(found.assignments, key=str) == sorted(anew.assignments, key=str)
        return found


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_is_carried_out_whatever_its_run_times(seed: int) -> None:
    """A task could be forgotten, run twice, or start where there is no room or earlier than due."""
    mind = Checked(controller(seed).request, STEPS)
    start, rng = mind.request, np.random.default_rng(seed)
    run_s = {}
    for task in mind.snapshot.pending:
        guess = next(iter(mind.request.estimates[task.id].values())).at(0.5)
        run_s[task.id] = max(1, int(guess * rng.lognormal(0, 0.7)))
    ran = carry_out(mind, run_s, {})
    assert mind.kept_ones > len(ran)
    assert len(ran) == len(start.snapshot.pending)
    realised = Plan(tuple(ran), (), start.snapshot.now_s, start.snapshot.version)
    assert evaluate(start, realised, realised=True).violations == ()


def test_what_ran_on_a_lost_worker_runs_again() -> None:
    """Work could wait forever for a worker that is gone."""
    for seed in range(3):
        mind = controller(seed)
        run_s = {t.id: 400 for t in mind.snapshot.pending}
        carry_out(mind, run_s, {300: mind.snapshot.workers[-1].id})
        assert mind.snapshot.pending_by_id.keys() == mind.hopeless().keys()
        assert not mind.snapshot.running


def test_nothing_happens_and_the_plan_is_kept() -> None:
    """A master could replan forever."""
    mind = controller(1)
    assert think(mind) is Choice.REPLAN
    assert mind.decide().choice is Choice.KEEP
    mind.advance(mind.snapshot.now_s)
    assert mind.decide().choice is Choice.KEEP


def test_a_lost_worker_means_a_repair() -> None:
    """A plan with a worker that is gone could be kept."""
    mind = controller(2)
    alike = tuple(Worker(f"w{k}", {"cpu": 64_000, "mem": 1 << 20}) for k in range(3))
    tasks = tuple(replace(t, requires=(), demand={"cpu": 9_000}) for t in mind.snapshot.pending)
    certain = {t.id: {"*": DurationEstimate.certain(100)} for t in tasks}
    snapshot = replace(mind.snapshot, workers=alike, pending=tasks)
    mind = Controller(replace(mind.request, snapshot=snapshot, estimates=certain), STEPS)
    think(mind)
    assert mind.plan is not None
    lost = mind.plan.assignments[-1].workers[0]
    mind.tell(WorkerLost(mind.snapshot.now_s, lost))
    decision = mind.decide()
    assert decision.choice is Choice.REPAIR
    assert lost in decision.reason
    assert think(mind) is Choice.REPAIR
    assert all(lost not in a.workers for a in mind.plan.assignments)


def test_an_old_plan_is_never_put_in_force() -> None:
    """An answer could come after the world has changed."""
    mind = controller(3)
    asked = mind.ask(Choice.REPLAN)
    answer = mind.answer(asked, Choice.REPLAN)
    joined = Worker("late", {"cpu": 1000, "mem": 1024})
    mind.tell(WorkerJoined(mind.snapshot.now_s, joined))
    with pytest.raises(Refused, match="has come since"):
        mind.commit(asked, answer, Choice.REPLAN)
    assert mind.plan is None


def test_invalid_and_foreign_answers_are_refused() -> None:
    """A planner that is broken could overload the cluster."""
    mind = controller(4)
    asked = mind.ask(Choice.REPLAN)
    answer = mind.answer(asked, Choice.REPLAN)
    assert answer.plan is not None
    rows = tuple(replace(a, start_s=a.start_s - 1, end_s=a.end_s - 1)
                 for a in answer.plan.assignments)  # fmt: skip
    broken = replace(answer, plan=replace(answer.plan, assignments=rows))
    with pytest.raises(Refused, match="invalid"):
        mind.commit(asked, broken, Choice.REPLAN)
    with pytest.raises(Refused, match="answers request"):
        mind.commit(asked, replace(answer, request_id="another"), Choice.REPLAN)
    short = replace(answer, plan=replace(answer.plan, assignments=answer.plan.assignments[1:]))
    with pytest.raises(Refused, match="not in the plan"):
        mind.commit(asked, short, Choice.REPLAN)
    assert mind.plan is None
    mind.commit(asked, answer, Choice.REPLAN)
    assert mind.plan == answer.plan


def test_a_changed_task_is_placed_anew() -> None:
    """A task that matters more would keep the turn that it was given when it mattered less."""
    machine, certain = Worker("w", {"cpu": 1000}), {"*": DurationEstimate.certain(600)}
    pending = tuple(Task(f"t{k}", {"cpu": 1000}) for k in range(4))
    estimates = {t.id: certain for t in pending}
    policy = Policy(scenarios=SCENARIOS)
    request = PlanRequest("r", Snapshot(0, 0, (machine,), pending), estimates, policy)
    mind = Controller(request, STEPS)
    think(mind)
    assert mind.plan is not None
    last = max(mind.plan.assignments, key=lambda a: a.start_s).task
    mind.tell(TaskChanged(0, replace(mind.snapshot.pending_by_id[last], weight=50.0)))
    assert think(mind) is Choice.REPAIR
    assert mind.plan.by_task[last].start_s == 0


def waits_for_gpus() -> Controller:
    """T17 holds the GPUs of the only V100 worker; T1 needs two of them."""
    machine = Worker("v1", {"cpu": 8000, "gpu": 2000}, labels=frozenset({"V100"}))
    holder = Task("T17", {"cpu": 1000, "gpu": 2000})
    task = Task("T1", {"cpu": 1000, "gpu": 2000}, release_s=36_000, requires=("V100",))
    levels = (0.5, 0.9)
    estimates = {
        "T17": {"*": DurationEstimate(levels, (14_700, 15_600))},
        "T1": {"*": DurationEstimate(levels, (60, 90))},
    }
    snapshot = Snapshot(1, 36_000, (machine,), (task,), (Running(holder, ("v1",), 36_000),))
    return Controller(PlanRequest("r", snapshot, estimates, Policy(level=0.5)), STEPS)


def test_why_says_what_is_waited_for_and_until_when() -> None:
    """A user could be told nothing, or a time that says nothing of how sure it is."""
    mind = waits_for_gpus()
    think(mind)
    found = mind.why()["T1"]
    assert found.text.startswith("waits for 2 gpus on a V100 worker; planned 14:05 when T17 ends, ")
    # Q(0.9) of T17 is 14:20; the sample above it lies at most at the highest known quantile.
    assert found.text.endswith("50% by 14:05, 90% by 14:20")
    mind.advance(36_000 + 14_800)
    later = mind.why()["T1"]
    assert later.start_s > found.start_s
    assert later.sure_s >= found.sure_s - 60


def waiting(tasks: int, workers: int, seed: int = 0) -> Controller:
    """A batch with a greedy plan in force, of which the first tasks run already."""
    request = generate_batch(tasks, generate_cluster(workers, seed), seed)
    rng = np.random.default_rng(seed)
    pending = tuple(
        replace(t, shards=2 if rng.random() < 0.1 else 1) for t in request.snapshot.pending
    )
    request = replace(request, snapshot=replace(request.snapshot, pending=pending))
    mind = Controller(request, STEPS)
    asked = mind.ask(Choice.REPLAN)
    mind.commit(asked, plan(asked, "greedy"), Choice.REPLAN)
    for row in mind.due():
        mind.tell(TaskStarted(mind.snapshot.now_s, row.task, row.workers))
    return mind


@pytest.mark.parametrize("seed", range(8))
def test_the_first_outlooks_are_those_of_all(seed: int) -> None:
    """The rows that are shown could say something else than what a task is asked for alone."""
    mind = waiting(60, 6, seed)
    every = mind.why()
    starts = [outlook.start_s for outlook in every.values()]
    assert starts == sorted(starts)
    assert len(every) > 12
    for most in (1, 5, 12, len(every), 1_000):
        some = mind.why(most)
        assert list(some) == list(every)[:most]
        for task, outlook in some.items():
            assert (outlook.start_s, outlook.until) == (every[task].start_s, every[task].until)
            assert outlook.text.split(", 50% by")[0] == every[task].text.split(", 50% by")[0]
            # Drawn anew from the same run times: 40 samples apart.
            assert outlook.sure_s >= max(outlook.start_s, outlook.half_s)


@pytest.mark.slow
def test_the_rows_shown_cost_little_and_all_of_them_no_more_than_in_proportion() -> None:
    """A master of 10,000 tasks would spend 40 s on each look at a table of twelve rows."""
    took: dict[tuple[int, int | None], float] = {}
    waiting(100, 10).why()
    for tasks in (200, 1_000):
        mind = waiting(tasks, tasks // 20)
        mind.retimed()
        for most in (12, None):
            best = []
            for _ in range(3):
                began = time.process_time()
                mind.why(most)
                best.append(time.process_time() - began)
            took[tasks, most] = min(best)
    assert took[1_000, 12] < 0.2 * took[1_000, None]
    # Five times the tasks: linear is 5, quadratic 25.
    assert took[1_000, None] < 12 * took[200, None]


def test_forecasts_are_conditioned_on_the_time_run() -> None:
    """A task that has outlived its median could still be expected to end in the past."""
    mind = waits_for_gpus()
    think(mind)
    ends = []
    for minute in (0, 100, 240, 255):
        mind.advance(36_000 + 60 * minute)
        kept = mind.retimed()
        assert kept is not None
        ends.append(kept.by_task["T1"].start_s)
        assert ends[-1] > mind.snapshot.now_s
    assert ends == sorted(ends)


def test_a_slip_that_costs_is_mended() -> None:
    """An overrun could hold up what another worker could do."""
    workers = (Worker("a", {"cpu": 1000}), Worker("b", {"cpu": 1000}))
    tasks = tuple(Task(f"t{k}", {"cpu": 1000}) for k in range(4))
    estimates = {t.id: {"*": DurationEstimate.certain(100)} for t in tasks}
    mind = Controller(PlanRequest("r", Snapshot(1, 0, workers, tasks), estimates), STEPS)
    think(mind)
    first = mind.due()
    for row in first:
        mind.tell(TaskStarted(0, row.task, row.workers))
    mind.advance(100)
    mind.tell(TaskFinished(100, first[1].task))
    nxt = mind.due()
    mind.tell(TaskStarted(100, nxt[0].task, nxt[0].workers))
    mind.advance(190)
    decision = mind.decide()
    assert decision.choice is Choice.REPAIR
    assert "slips" in decision.reason


def test_a_new_task_is_planned_in_and_an_impossible_one_not_asked_for_again() -> None:
    """New work could be forgotten, or a hopeless task keep the planner busy forever."""
    mind = controller(5)
    think(mind)
    now = mind.snapshot.now_s
    fresh = Task("fresh", {"cpu": 1000}, release_s=now)
    mind.tell(TaskSubmitted(now, fresh), {"fresh": {"*": DurationEstimate.certain(60)}})
    assert think(mind) is Choice.REPAIR
    assert mind.plan is not None
    assert "fresh" in mind.plan.by_task
    huge = Task("huge", {"cpu": 10**9}, release_s=now)
    mind.tell(TaskSubmitted(now, huge), {"huge": {"*": DurationEstimate.certain(60)}})
    think(mind)
    assert mind.decide().choice is Choice.KEEP
    assert "huge" not in mind.plan.by_task


@pytest.mark.parametrize(("runs_s", "ran"), [(50, 2), (25, 3)], ids=["as said", "half"])
def test_what_had_no_room_before_the_drain_runs_once_there_is(runs_s: int, ran: int) -> None:
    """One task too many would leave a worker idle that has time for the others."""
    worker = Worker("a", {"cpu": 1000}, until_s=100)
    tasks = tuple(Task(f"t{k}", {"cpu": 1000}) for k in range(6))
    estimates = {t.id: {"*": DurationEstimate.certain(50)} for t in tasks}
    mind = Controller(PlanRequest("r", Snapshot(1, 0, (worker,), tasks), estimates), STEPS)
    assert think(mind) is Choice.REPLAN
    assert len(mind.unplanned) == 4
    assert think(mind) is Choice.KEEP
    assert mind.kept() is not None
    done = carry_out(mind, {t.id: runs_s for t in tasks}, {})
    assert len(done) == ran  # the last one needs the 50 s that it was expected to take
    assert max(row.end_s for row in done) <= 100


def test_a_failed_predecessor_holds_its_successors_back_for_good() -> None:
    """A task could start although what it needs was never made."""
    worker = Worker("a", {"cpu": 1000})
    tasks = (Task("first", {"cpu": 1000}), Task("second", {"cpu": 1000}, after=("first",)))
    estimates = {t.id: {"*": DurationEstimate.certain(10)} for t in tasks}
    mind = Controller(PlanRequest("r", Snapshot(1, 0, (worker,), tasks), estimates), STEPS)
    think(mind)
    mind.tell(TaskStarted(0, "first", ("a",)))
    mind.tell(TaskFinished(5, "first", Outcome.FAILED))
    assert mind.due() == []
    assert mind.decide().choice is Choice.KEEP


def test_amounts_and_times_are_told_as_people_say_them() -> None:
    """2,000 milli-GPU and 1,700,000,000 seconds tell a user little."""
    assert amount("gpu", 2000) == "2 gpus"
    assert amount("gpu", 500) == "0.5 gpus"
    assert amount("cpu", 1000) == "1 core"
    assert amount("mem", 16384) == "16 GiB"
    assert amount("licence", 3) == "3 licence"
    assert clock(1_700_000_000, 1_700_000_000) == "22:13"
    assert clock(1_700_000_000, 0) == "2023-11-14 22:13"


def test_wrong_policies_are_named() -> None:
    """A price of staleness below that of a slip could pass in silence."""
    with pytest.raises(BadRequest, match="slack_s"):
        ControlPolicy(slack_s=-1)
    with pytest.raises(BadRequest, match="much_costlier"):
        ControlPolicy(costlier=0.5, much_costlier=0.1)


def test_the_starts_of_some_tasks_are_those_of_the_whole_plan() -> None:
    """A part of a plan could leave out whom a task waits for, and promise it too early a start."""
    asked = 0
    for seed in range(8):
        request = generate_batch(30, generate_cluster(4, seed), seed, gang_share=0.2)
        certain = {
            name: {kind: DurationEstimate.certain(e.at(0.8)) for kind, e in known.items()}
            for name, known in request.estimates.items()
        }
        request = replace(request, estimates=certain, budget=Budget(None, 10))
        made = plan(request, "greedy").plan
        assert made is not None
        whole = start_levels(request, made, (0.5, 0.9))
        for name in list(whole)[::4]:
            assert start_levels(request, made, (0.5, 0.9), names={name})[name] == whole[name]
            asked += whole[name][0] > request.snapshot.now_s
    assert asked > 10
    assert start_levels(request, made, (0.5,), names=set()) == {}


def test_what_an_event_brings_is_looked_at_though_the_rest_is_not() -> None:
    """A task without an estimate could run, and no plan know when its room comes free."""
    mind = controller(1)
    before = mind.request
    new = Task("new", {"cpu": 1})
    mind.tell(TaskSubmitted(mind.snapshot.now_s, new))
    with pytest.raises(BadRequest, match="running task new has no estimate"):
        mind.tell(TaskStarted(mind.snapshot.now_s, "new", (mind.snapshot.workers[0].id,)))
    assert mind.snapshot.pending_by_id["new"] is new
    by_mode = {"other": {"fast": {"*": DurationEstimate.certain(3)}}}
    with pytest.raises(BadRequest, match="estimates of task other are by mode, but it has no mode"):
        mind.tell(TaskSubmitted(mind.snapshot.now_s, Task("other", {"cpu": 1})), by_mode)
    assert before.estimates == mind.request.estimates
