"""The master that stays: tasks come while it runs, under faults and kills, and none is lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from plancast.pipelines.engines import ENGINES
from plancast.pipelines.engines.base import CHARGES, PREEMPT, EnvironmentFailed, Order, Started
from plancast.pipelines.engines.sim import Faults, SimEngine, overloads
from plancast.pipelines.http.master_metrics import MasterMetrics
from plancast.pipelines.inputs.models import TaskRow
from plancast.pipelines.master.desk import Ask, Clash, Desk, Flooded, Unknown
from plancast.pipelines.master.living import WINDOW, Living
from plancast.pipelines.master.looks import Looks
from plancast.pipelines.master.loop import Options
from plancast.pipelines.master.service import Settings
from plancast.pipelines.master.state import State
from plancast.pipelines.master.submissions import names_before, new_tasks
from plancast.planner.model.domain import (
    SCENARIOS,
    BadRequest,
    DurationEstimate,
    Policy,
    Snapshot,
    Worker,
)
from plancast.planner.model.messages import Budget, PlanRequest, to_json
from plancast.planner.planning.controller import Controller, ControlPolicy
from tests.conftest import spans
from tests.pipelines.master.test_master import quick_plan

QUICK = ControlPolicy(repair_budget=Budget(None, 20), replan_budget=Budget(None, 20))
WORKERS = tuple(Worker(f"w{k}", {"cpu": 2000, "mem": 4096}) for k in range(3))
START_S = 1_700_000_000


@dataclass
class Town:
    """A cluster that outlives its masters, their file, and the one that runs now."""

    path: Path
    workers: Sequence[Worker] = WORKERS
    faults: Faults = field(default_factory=Faults)
    policy: Policy = field(default_factory=Policy)
    truth: Callable[[str], int] = lambda task: 60
    window: int = WINDOW
    options: Options = field(default_factory=lambda: Options(tries=50, strikes=1000))
    engine_kind: type[SimEngine] = SimEngine

    def __post_init__(self) -> None:
        self.engine = self.engine_kind(
            self.workers, lambda task, _: self.truth(task), START_S, self.faults, 1
        )
        self.open()

    def open(self) -> None:
        """A new master before the same cluster."""
        snapshot = Snapshot(0, START_S, tuple(self.workers))
        request = PlanRequest("living", snapshot, {}, self.policy)
        self.state = State(self.path)
        mind = self.state.restored(QUICK)
        if mind is None:
            self.state.begin(request)
            mind = Controller(request, QUICK)
        self.master = Living(
            self.state, self.engine, mind, quick_plan, options=self.options, window=self.window
        )
        self.settings = Settings(request, "sim", ENGINES["sim"], QUICK)
        self.master.recover()
        self.master.show()
        self.desk = self.master.desk = Desk(
            self.state, workers=lambda: self.master.mind.snapshot.worker_by_id.keys(),
            now_s=lambda: self.master.mind.snapshot.now_s,
        )  # fmt: skip
        self.looks = Looks(self.master)

    def kill(self) -> None:
        """End the master as kill -9 does: nothing is said or settled."""
        self.desk.close()
        self.looks.close()
        self.state.close()

    def reopen(self) -> None:
        """Kill the master, and start another."""
        self.kill()
        self.open()

    def submit(
        self, *rows: dict[str, Any], array: str = "", key: str | None = None,
        estimates: Mapping[str, Any] = MappingProxyType({}),
    ) -> Any:  # fmt: skip
        """Submit rows; the receipt."""
        whole = [TaskRow.model_validate({"requested_s": 90, "cpus": 1, **row}) for row in rows]
        made = new_tasks(
            whole, array, estimates, "", self.looks.states(names_before(whole)),
            self.master.mind.snapshot, self.settings,
        )  # fmt: skip
        return self.desk.put(Ask("submit", {"command": ""}, key, made)).result(10)

    def ask(self, kind: str, *names: str, **more: Any) -> Any:
        """Ask for something else."""
        return self.desk.put(Ask(kind, {"names": list(names), **more})).result(10)

    def step(self, times: int = 1) -> None:
        """Let the master work."""
        for _ in range(times):
            self.master.step(60.0)

    def finish(self, most: int = 2_000) -> None:
        """Until nothing runs, and nothing waits that can run."""
        for _ in range(most):
            self.step()
            if self.master.done and not self.master.submitted.next(1):
                return
        raise AssertionError("it goes on and on")

    def starts(self) -> list[str]:
        """Tasks in the order in which they first began, by the engine."""
        runs = sorted(self.engine.runs.values(), key=lambda r: r.start_s)
        return list(dict.fromkeys(run.key[0] for run in runs))


@pytest.fixture
def town(tmp_path: Path) -> Any:
    """A town without faults."""
    found = Town(tmp_path / "m.db")
    yield found
    found.kill()


def random_life(seed: int, folder: Path) -> None:
    """Tasks come in waves to a faulty cluster, some are called off; masters are killed."""
    rng = np.random.default_rng(seed)
    names = [w.id for w in WORKERS]
    deaths = [
        (
            START_S + int(rng.integers(1, 2000)),
            str(rng.choice(names[1:])),
            int(rng.integers(1, 300)),
        )
        for _ in range(int(rng.integers(0, 3)))
    ]
    faults = Faults(
        lost=float(rng.choice([0, 0.1])), twice=float(rng.choice([0, 0.2])),
        late=float(rng.choice([0, 0.2])), deaf=float(rng.choice([0, 0.1])),
        clock_s=int(rng.choice([0, 5])), deaths=tuple(deaths), fail=float(rng.choice([0, 0.05])),
    )  # fmt: skip
    lengths = {f"t{k}": int(rng.integers(5, 90)) for k in range(40)}
    town = Town(
        folder / f"{seed}.db", faults=faults, truth=lengths.__getitem__,
        window=int(rng.choice([2, 5, WINDOW])),
    )  # fmt: skip
    came: list[str] = []
    off: set[str] = set()
    held: set[str] = set()
    for _ in range(int(rng.integers(3, 7))):
        wave = [f"t{k}" for k in range(len(came), len(came) + int(rng.integers(1, 6)))]
        rows = [{"id": name, "weight": float(rng.choice([1, 5]))} for name in wave]
        if came and rng.random() < 0.5:
            rows[0]["after"] = f"afterany:{rng.choice(came)}" if rng.random() < 0.5 else ""
        town.submit(*rows)
        came += wave
        if rng.random() < 0.3:
            town.reopen()
        town.step(int(rng.integers(1, 4)))
        for kind in rng.choice(["cancel", "hold", "release", "prioritise", "drain", "undrain"], 2):
            name = str(rng.choice(came))
            try:
                if kind in ("drain", "undrain"):
                    town.ask(kind, names[0])
                else:
                    town.ask(kind, name, **({"weight": 9.0} if kind == "prioritise" else {}))
            except Clash:
                continue  # it has ended
            off |= {name} if kind == "cancel" else set()
            held = (
                held | {name} if kind == "hold" else held - ({name} if kind == "release" else set())
            )
        if rng.random() < 0.3:
            town.reopen()
    town.step(2)
    for name in sorted(held - off):
        if town.looks.states([name])[name] != "ended":
            town.ask("release", name)
    town.ask("undrain", names[0])
    town.finish()
    check_life(town, came, off)
    town.kill()


def check_life(town: Town, came: list[str], off: set[str]) -> None:
    """By the engine's own books each task ran once, or was called off; ours say the same."""
    assert overloads(town.engine) == []
    ours = {
        row.id: row
        for row in town.master.submitted._all(__import__("sqlalchemy").text("SELECT * FROM tasks"))
    }
    for name in came:
        runs = [run for run in town.engine.runs.values() if run.key[0] == name]
        ended = [run for run in runs if run.cause in ("completed", "failed", "timeout")]
        stopped = [run for run in runs if run.cause == "cancelled"]
        assert len(ended) <= 1, (name, runs)
        assert all(run.cause for run in runs)
        row = ours[name]
        assert row.state == "ended", name
        if ended:
            assert row.outcome == ended[0].cause
            assert abs(row.end_s - ended[0].end_s) <= 60 + 2 * town.faults.clock_s
        else:
            assert name in off or row.outcome == "refused", (name, row.outcome, runs)
        assert not stopped or name in off, (name, runs)


@pytest.mark.parametrize("lives", spans(range(2), range(2_100)))
def test_nothing_is_lost_while_tasks_come_and_masters_go(lives: range, tmp_path: Path) -> None:
    """A task could be forgotten between desk, loop and engine, run twice, or outlive its cancel."""
    for seed in lives:
        random_life(seed, tmp_path)


def test_what_was_acknowledged_is_there_after_a_kill(town: Town) -> None:
    """A user would be told that a task will run, and it would be gone."""
    receipts = [town.submit({"id": f"t{k}"}) for k in range(5)]
    assert len({r.ask for r in receipts}) == 5
    town.reopen()  # before the loop has seen any of them
    assert town.desk.untaken == 5
    town.finish()
    assert sorted(town.starts()) == [f"t{k}" for k in range(5)]


def test_a_submission_sent_again_does_nothing_twice(town: Town) -> None:
    """An answer that was lost on its way would make a client run all of it twice."""
    first = town.submit({"id": "a"}, key="k1")
    again = town.submit({"id": "a"}, key="k1")
    assert (again.ask, again.again, first.again) == (first.ask, True, False)
    town.step()
    assert town.submit({"id": "a"}, key="k1").again
    with pytest.raises(Clash, match="key 'k1' was used for something else"):
        town.submit({"id": "b"}, key="k1")
    with pytest.raises(Clash, match="task a is there already"):
        town.submit({"id": "a"})
    town.finish()
    assert len(town.engine.runs) == 1


def test_what_cannot_be_done_is_refused_at_the_desk(town: Town) -> None:
    """It would be acknowledged, and found impossible when nobody listens any more."""
    town.submit({"id": "a"})
    for kind in ("cancel", "hold", "release", "prioritise"):
        with pytest.raises(Unknown, match="there is no task 'b'"):
            town.ask(kind, "b")
    with pytest.raises(Unknown, match="there is no worker 'x'"):
        town.ask("drain", "x")
    with pytest.raises(BadRequest, match="task b: names no requested_s, and the master has no mod"):
        town.submit({"id": "b", "requested_s": None})
    town.finish()
    with pytest.raises(Clash, match="task a has ended already"):
        town.ask("cancel", "a")


def test_a_flood_is_turned_away_before_it_is_acknowledged(town: Town) -> None:
    """Memory and disk would fill, or tasks that were acknowledged be dropped."""
    town.desk.most_untaken = 3
    town.submit({"id": "a"}, {"id": "b"})
    with pytest.raises(Flooded, match="2 tasks wait for a place in the plan, and no more than 3"):
        town.submit({"id": "c"}, {"id": "d"})
    town.step()
    town.submit({"id": "c"}, {"id": "d"})
    town.finish()
    assert len(town.engine.runs) == 4


def test_a_full_disk_is_told_to_whoever_asks(town: Town) -> None:
    """A submission would be acknowledged that is on no disk, or the desk be closed from then on."""
    town.submit({"id": "a"})
    base = town.desk.writer.base
    pages = base.exec_driver_sql("PRAGMA page_count").scalar()
    base.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(EnvironmentFailed, match=r"cannot be written: .*full"):
        town.submit(*({"id": f"t{k}", "app": "x" * 200} for k in range(500)))
    base.exec_driver_sql("PRAGMA max_page_count=1000000")
    town.submit({"id": "b"})
    town.finish()
    assert sorted(town.starts()) == ["a", "b"]


def test_a_held_task_waits_until_it_is_released(town: Town) -> None:
    """It would run while somebody still prepares what it reads, or never."""
    town.submit({"id": "a"}, {"id": "b", "after": "a"}, {"id": "c"})
    town.ask("hold", "a")
    town.step(6)
    assert town.starts() == ["c"]
    assert town.looks.why("a")["state"] == "held"
    town.reopen()
    town.step(3)
    assert town.starts() == ["c"]
    assert town.looks.status()["held"] == 1
    town.ask("release", "a")
    town.finish()
    assert town.starts() == ["c", "a", "b"]


def test_a_task_that_matters_more_goes_first(tmp_path: Path) -> None:
    """Who was asked to make it urgent would watch it wait all the same."""
    town = Town(
        tmp_path / "m.db", (Worker("w", {"cpu": 1000}),), policy=Policy(scenarios=SCENARIOS)
    )
    town.submit(*({"id": f"t{k}"} for k in range(6)))
    town.step()
    last = max(town.looks.queue(10), key=lambda row: row.get("start_s", 0))["task"]
    town.ask("prioritise", last, weight=50.0)
    town.finish()
    assert town.starts().index(last) == 1
    town.kill()


def test_a_drained_worker_finishes_what_it_runs_and_takes_nothing(town: Town) -> None:
    """Work would be lost with the machine that is switched off, or go on to be sent there."""
    town.truth = lambda task: 300
    town.submit(*({"id": f"t{k}"} for k in range(6)))
    town.step()
    before = {run.key: run.workers for run in town.engine.runs.values()}
    assert ("w0",) in before.values()
    town.ask("drain", "w0")
    town.submit(*({"id": f"u{k}"} for k in range(4)))
    town.step(3)
    town.reopen()
    assert next(w for w in town.looks.status()["workers"] if w["id"] == "w0")["drained"]
    town.finish()
    on = {run.key: run.workers for run in town.engine.runs.values()}
    assert {key for key, where in on.items() if where == ("w0",)} <= before.keys()
    assert {run.cause for run in town.engine.runs.values()} == {"timeout"}
    town.ask("undrain", "w0")
    town.submit(*({"id": f"v{k}"} for k in range(6)))
    town.finish()
    late = [run for run in town.engine.runs.values() if run.key[0].startswith("v")]
    assert ("w0",) in {run.workers for run in late}


def test_a_cancelled_task_stops_for_good(town: Town) -> None:
    """It would run to its end, or wait again as if it had been preempted."""
    town.truth = lambda task: 80
    town.submit({"id": "runs"}, {"id": "waits", "after": "runs"}, {"id": "other"})
    town.step()
    town.ask("cancel", "runs", "waits")
    town.step()
    town.reopen()
    town.finish()
    causes = {run.key[0]: run.cause for run in town.engine.runs.values()}
    assert causes == {"runs": "cancelled", "other": "completed"}
    assert town.looks.why("runs")["state"] == town.looks.why("waits")["state"] == "cancelled"


def test_a_cancel_that_is_lost_on_its_way_is_sent_again(tmp_path: Path) -> None:
    """The engine would never hear of it, and the task hold its room to the end."""
    town = Town(tmp_path / "m.db", truth=lambda task: 4_000, faults=Faults(deaf=0.6))
    town.submit({"id": "a", "requested_s": 5_000})
    for _ in range(50):
        town.step()
        if town.engine.runs:
            break
    town.ask("cancel", "a")
    town.finish()
    assert [run.cause for run in town.engine.runs.values()] == ["cancelled"]
    town.kill()


def test_tasks_follow_tasks_of_earlier_submissions(town: Town) -> None:
    """A workflow that is submitted step by step would be refused, or its order be lost."""
    town.truth = lambda task: 500 if task == "fails" else 30
    town.submit({"id": "a"}, {"id": "fails"})
    town.finish()
    town.master.settle()  # what has ended is let go of
    assert town.master.mind.snapshot.finished == ()
    town.submit({"id": "b", "after": "a"}, {"id": "c", "after": "b"})
    town.submit({"id": "d", "after": "fails"}, {"id": "e", "after": "afterany:fails"})
    town.finish()
    assert {"b", "c", "e"} <= set(town.starts())
    assert town.looks.why("d")["why"] == "it follows fails, which ended as timeout"
    with pytest.raises(BadRequest, match="follows 'ghost', which is no task"):
        town.submit({"id": "f", "after": "ghost"})


def test_no_more_of_an_array_run_at_once_than_it_says(town: Town) -> None:
    """A limit that protects a file server would be lost on the way to the planner."""
    town.submit({"id": "a", "cpus": 0.5}, array="0-7%2")
    town.submit({"id": "after", "after": " ".join(f"a_{k}" for k in range(8))})
    town.finish()
    runs = [run for run in town.engine.runs.values() if run.key[0] != "after"]
    assert len(runs) == 8
    for run in runs:
        beside = [r for r in runs if r.start_s < run.end_s and r.end_s > run.start_s]
        assert len(beside) <= 2
    assert town.starts()[-1] == "after"


def test_a_plan_looks_at_a_window_and_all_come_in(tmp_path: Path) -> None:
    """A queue of ten thousand would make each decision slow, or what is outside never come in."""
    town = Town(tmp_path / "m.db", truth=lambda task: 30, window=4)
    chain = [{"id": f"c{k}", "after": f"c{k - 1}" if k else ""} for k in range(12)]
    town.submit(*reversed(chain))  # whoever follows is written first
    town.submit(*({"id": f"t{k}"} for k in range(20)))
    town.submit({"id": "off"}, {"id": "kept"}, {"id": "late"})
    town.step()
    assert len(town.master.mind.snapshot.pending) + len(town.master.mind.snapshot.running) <= 8
    assert town.looks.why("late")["state"] == "submitted"
    assert town.looks.why("late")["why"] == "it waits for a place in the plan"
    town.ask("prioritise", "late", weight=5.0)
    town.ask("cancel", "off")
    town.ask("hold", "kept")
    town.step()
    assert "late" in town.master.promised
    names = [look["task"] for look in town.looks.queue(100)]
    assert len(names) == len(set(names))
    assert {"c11", "kept", "t19"} <= set(names)
    town.reopen()
    town.step(3)
    assert town.looks.status()["held"] == 1
    town.ask("release", "kept")
    town.finish()
    assert town.starts().index("late") < town.starts().index("t19")
    assert [name for name in town.starts() if name[0] == "c"] == [f"c{k}" for k in range(12)]
    assert len(town.starts()) == 12 + 20 + 2
    assert town.looks.why("off")["state"] == "cancelled"
    assert town.desk.untaken == 0
    town.kill()


def test_what_has_no_place_keeps_nobody_out(tmp_path: Path) -> None:
    """Held tasks, or such as no worker can hold, could fill the window, and nothing run again."""
    town = Town(tmp_path / "m.db", truth=lambda task: 30, window=3)
    town.submit(*({"id": f"large-{k}", "cpus": 99, "weight": 9} for k in range(3)))
    town.step(2)
    assert set(town.master.mind.left_out) == {f"large-{k}" for k in range(3)}
    town.reopen()
    town.submit(*({"id": f"t{k}"} for k in range(5)))
    town.step(6)
    assert town.starts() == [f"t{k}" for k in range(5)]
    town.kill()


def test_promises_are_kept_or_counted(tmp_path: Path) -> None:
    """A user would be told a start, and nobody would ever see that it was not so."""
    one = (Worker("w", {"cpu": 1000}),)
    town = Town(tmp_path / "true.db", one, truth=lambda task: 90)
    town.submit(*({"id": f"t{k}"} for k in range(4)))
    town.finish()
    assert town.looks.status()["promises"] == {"kept": 4, "broken": 0}
    town.kill()
    # Tasks that run on beyond what they asked for: nobody stops them here.
    late = Town(tmp_path / "late.db", one, truth=lambda task: 900)
    late.engine.start = longer(late.engine.start)  # type: ignore[method-assign]
    late.submit(*({"id": f"t{k}"} for k in range(4)))
    late.step()
    promised = dict(late.master.promised)
    assert len(promised) == 4
    assert all(at is not None for at in promised.values())
    late.finish()
    found = late.looks.status()["promises"]
    assert (found["kept"], found["broken"]) == (1, 3)
    late.kill()


def test_promises_lengthen_with_those_that_are_broken(tmp_path: Path) -> None:
    """Urgent tasks push back what waits: promises would be broken as often to the end."""
    town = Town(tmp_path / "m.db", (Worker("w", {"cpu": 1000}),), truth=lambda task: 85)
    town.submit(*({"id": f"kept-{k}"} for k in range(6)))
    town.finish()
    assert town.master.leads.stretch == 1.0
    leads: list[int] = []
    for wave in range(6):
        # Each wave goes before those that wait already.
        names = [f"t{wave}-{k}" for k in range(4)]
        town.submit(*({"id": name, "weight": 2.0**wave} for name in names))
        town.step()
        now = town.master.mind.snapshot.now_s
        leads.append(max((town.master.promised.get(name) or now) - now for name in names))
        town.step()
    town.finish()
    assert town.looks.status()["promises"]["broken"] > 6
    stretch = town.master.leads.stretch
    assert stretch > 1.5
    town.reopen()
    assert town.master.leads.stretch == stretch
    town.submit(*({"id": f"last-{k}"} for k in range(4)))
    town.step()
    now = town.master.mind.snapshot.now_s
    last = max((at or now) - now for at in town.master.promised.values())
    assert last > 1.3 * leads[0]
    town.kill()


def longer(start: Callable[[Any], None]) -> Callable[[Any], None]:
    """An engine that lets tasks run longer than they may."""
    return lambda order: start(replace(order, limit_s=None))


def test_a_restart_goes_on_from_a_checkpoint_with_what_lives(town: Town) -> None:
    """A master that has run for a month would read a month of events, and remember all of it."""
    town.submit(*({"id": f"t{k}"} for k in range(12)), {"id": "last", "after": "t11"})
    town.step(2)
    town.master.settle()
    town.step(1)
    before = to_json(town.master.mind.request)
    town.kill()
    state = State(town.path)
    again = state.restored(QUICK)
    assert again is not None
    assert to_json(again.request) == before
    state.close()
    town.open()
    town.finish()
    town.master.settle()
    assert town.master.orders == {}
    assert town.master.mind.request.estimates == {}
    assert Counter(run.cause for run in town.engine.runs.values()) == {"completed": 13}
    assert json.loads(json.dumps(town.looks.status()))["ended"] == {"completed": 13}


def test_a_start_that_is_told_late_is_no_second_run(town: Town) -> None:
    """News of a task that was cancelled meanwhile could bring it back."""
    town.submit({"id": "a"})
    town.step()
    town.ask("cancel", "a")
    town.step()
    town.master._hear(Started(("a", 1), START_S + 5))
    town.finish()
    assert town.looks.why("a")["state"] in ("cancelled", "completed")
    assert len(town.engine.runs) == 1


def test_a_desk_that_is_closed_says_so(tmp_path: Path) -> None:
    """Who asks at the last moment would wait for an answer that nobody gives."""
    town = Town(tmp_path / "m.db")
    town.desk.close()
    with pytest.raises(EnvironmentFailed, match="the master is ending; send it again"):
        town.submit({"id": "a"})
    town.looks.close()
    town.state.close()


def test_forecasts_are_judged_by_what_ran(tmp_path: Path) -> None:
    """A model that is off would be noticed by its users first."""
    town = Town(tmp_path / "m.db", truth=lambda task: 120 if task == "long" else 60)
    town.submit({"id": "a", "requested_s": 60}, {"id": "b", "requested_s": 240}, {"id": "off"})
    point = {"*": DurationEstimate.certain(60)}
    town.submit({"id": "long", "requested_s": 600}, estimates={"long": point})
    town.ask("cancel", "off")
    for _ in range(40):
        town.master.step(30.0)
    assert sorted(town.master.ends) == [(-2.0, True), (0.0, True), (1.0, False)]
    metrics = MasterMetrics()
    metrics.look(town.master, town.looks.status())
    text = metrics.text().decode()
    assert "plancast_master_forecast_error_log2 1.0" in text
    assert f"plancast_master_forecast_coverage {2 / 3}" in text
    assert town.master.ends == []
    town.kill()


@dataclass
class Charging(SimEngine):
    """A cluster whose site wants to know what each run is charged to."""

    capabilities: frozenset[str] = frozenset({PREEMPT, CHARGES})

    def start(self, order: Order) -> None:
        """Note it, and start it."""
        CHARGED[order.key[0]] = dict(order.charged)
        super().start(order)


CHARGED: dict[str, dict[str, str]] = {}


def test_what_a_task_names_to_be_charged_to_reaches_the_engine(tmp_path: Path) -> None:
    """A restart could forget it, or a task that names nothing get another one's."""
    CHARGED.clear()
    town = Town(tmp_path / "m.db", engine_kind=Charging)
    town.submit({"id": "a", "account": "phys", "qos": "high"}, {"id": "b", "partition": "short"})
    town.submit({"id": "c"}, {"id": "d", "cpus": 2, "account": "bio"})
    town.reopen()
    for _ in range(40):
        town.master.step(30.0)
    assert CHARGED == {
        "a": {"account": "phys", "qos": "high"}, "b": {"partition": "short"}, "c": {},
        "d": {"account": "bio"},
    }  # fmt: skip
    town.kill()
