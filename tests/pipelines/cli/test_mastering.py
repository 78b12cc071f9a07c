"""``plancast master``: a batch from files to its account, and a second day that has learned."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from plancast.pipelines.cli import main
from plancast.pipelines.engines.shift import begun_at
from plancast.pipelines.engines.sim import Faults, SimEngine
from plancast.pipelines.inputs.forecast import forecast_by_class
from plancast.pipelines.inputs.user_files import write_batch
from plancast.pipelines.master.batch import carry_out
from plancast.pipelines.master.loop import NoAnswer
from plancast.pipelines.master.planner_link import PatientPlanner
from plancast.pipelines.master.state import State
from plancast.pipelines.stages.train import train_model
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import DurationEstimate, Policy, Prices, Snapshot, Task, Worker
from plancast.planner.model.messages import Budget, PlanRequest
from plancast.planner.planning.controller import Choice, ControlPolicy
from plancast.predictor.logs.table import read_jobs
from tests.oracles.misbehaving_planners import die_after_first, hang, hang_after_first, slow

pytestmark = pytest.mark.usefixtures("planners_loaded")
QUICK = ControlPolicy(repair_budget=Budget(None, 50), replan_budget=Budget(None, 100))


def run(*arguments: str) -> int:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return int(left.value.code or 0)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Options that name a batch of ten tasks."""
    request = generate_batch(10, generate_cluster(3), 3, label_share=0.0)
    write_batch(request, tmp_path)
    return [
        "--tasks", str(tmp_path / "tasks.csv"), "--cluster", str(tmp_path / "cluster.yaml"),
        "--policy", str(tmp_path / "policy.yaml"),
        "--estimates", str(tmp_path / "estimates.parquet"),
        "--state", str(tmp_path / "m.db"), "--budget", "0.2",
    ]  # fmt: skip


def test_a_batch_is_carried_out_and_told(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command could say that all went well whatever happened."""
    log = tmp_path / "jobs.parquet"
    assert run("master", *files, "--log", str(log), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["completed"] + len(found["unplanned"]) == 10
    assert found["completed"] == len(read_jobs(log))
    assert found["planned_cost"] > 0
    assert found["realised_cost"] > 0
    # The state is there: resumed, it has nothing left to do, and adds nothing twice.
    assert run("master", *files, "--log", str(log), "--resume") == 0
    shown = capsys.readouterr().out
    assert "0 tasks added to the log" in shown
    assert "planned" in shown


@pytest.mark.parametrize(
    ("work", "sentence"),
    [
        (hang, "the planner gave no answer within"),
        (hang_after_first, "the planner gave no answer within"),
        (die_after_first, "the planner died over this request"),
        (slow, "the planner gave no answer within"),
    ],
)
def test_a_planner_that_is_no_good_does_not_stop_the_command(
    work: Callable[[Connection], None],
    sentence: str,
    files: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One that hangs, dies or answers late could hold all up, or its late answer be followed."""
    warm_up_s = 0.3 if work is hang else 60.0
    planner = partial(PatientPlanner, work=work, warm_up_s=warm_up_s)
    monkeypatch.setattr("plancast.pipelines.master.planner_link.PatientPlanner", planner)
    # A busy machine may take longer than the budget to see that a planner has died.
    patience = "30" if work is die_after_first else "0"
    assert run("master", *files, "--patience", patience, "--lose", "w1@100", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["completed"] + len(found["unplanned"]) == 10
    assert sentence in found["refused"][0]
    assert all(sentence in why or "is not ready yet" in why for why in found["refused"])


def test_a_planner_that_loads_in_the_place_of_another_is_not_waited_for() -> None:
    """Its batch would stand still for as long as it loads."""
    planner = PatientPlanner(QUICK, work=hang, warm_up_s=3_600.0)
    try:
        planner.lost = 1
        with pytest.raises(NoAnswer, match="is not ready yet"):
            planner(generate_batch(3, generate_cluster(2), 1), Choice.REPLAN)
    finally:
        planner.close()


def test_an_old_state_is_not_taken_for_a_new_batch(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A batch would be reported as completed by what an earlier one did, and nothing be run."""
    assert run("master", *files, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert run("master", *files, "--json") == 2
    assert "already; go on with it by --resume" in capsys.readouterr().err
    assert run("master", *files, "--resume", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["batch"], again["realised_cost"]) == (first["batch"], first["realised_cost"])
    assert run("master", *files, "--resume", "--command", "other {id}") == 2
    assert "holds another batch, with other command" in capsys.readouterr().err
    other = [part if part != str(tmp_path / "m.db") else str(tmp_path / "n.db") for part in files]
    assert run("master", *other, "--resume") == 2
    assert "n.db: there is no such file to resume" in capsys.readouterr().err
    assert not (tmp_path / "n.db").exists()


def test_without_a_state_a_new_file_is_taken_each_time(
    files: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The default file of yesterday could swallow today's batch."""
    monkeypatch.chdir(tmp_path)
    place = files.index("--state")
    rest = files[:place] + files[place + 2 :]
    batches = set()
    for _ in range(2):
        assert run("master", *rest, "--json") == 0
        shown = capsys.readouterr()
        found = json.loads(shown.out)
        assert Path(found["state"]).exists()
        assert found["state"] in shown.err
        batches.add((found["state"], found["batch"]))
    assert len(batches) == 2


def test_what_did_not_complete_is_shown_and_ends_with_five(
    files: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One task failed, its successor never ran, and the exit code was 0."""
    from plancast.pipelines.engines import sim

    made = sim.simulated

    def failing(request: PlanRequest, *more: object) -> SimEngine:
        engine = made(request, *more)  # type: ignore[arg-type]
        return replace(engine, faults=Faults(fail=0.3), seed=3)

    monkeypatch.setattr(sim, "simulated", failing)
    assert run("master", *files, "--json") == 5
    found = json.loads(capsys.readouterr().out)
    outcomes = Counter(one["outcome"] for one in found["failures"])
    assert outcomes["failed"] == found["not_completed"] > 0
    assert found["completed"] + len(found["failures"]) == 10
    assert run("master", *files, "--resume") == 5
    shown = capsys.readouterr().out
    assert f"Tasks that did not complete: {len(found['failures'])}" in shown
    for one in found["failures"]:
        assert one["task"] in shown


def test_a_full_disk_ends_with_six_and_can_be_resumed(
    files: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A traceback would be all that is left, and nobody know how to go on."""
    add_event, left = State.add_event, [9]

    def fill(self: State, *more: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            pages = self.base.exec_driver_sql("PRAGMA page_count").scalar()
            self.base.exec_driver_sql(f"PRAGMA max_page_count={pages}")
            self.set_fact("ballast", b"0" * 1_000_000)
        return add_event(self, *more)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(State, "add_event", fill)
        assert run("master", *files) == 6
    said = capsys.readouterr().err
    assert "cannot be written: database or disk is full" in said
    assert f"--state {tmp_path / 'm.db'} --resume" in " ".join(said.split())
    assert "Traceback" not in said
    assert run("master", *files, "--resume", "--json") == 0
    assert json.loads(capsys.readouterr().out)["completed"] == 10


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--engine", "cloud"], "--engine 'cloud': choose sim, dask, slurm"),
        (["--engine", "dask"], "--engine dask runs real commands; name one with --command"),
        (["--lose", "w1"], "--lose 'w1': write WORKER@SECONDS, as in w1@600"),
        (["--lose", "w1@\u00b2"], "--lose 'w1@\u00b2': write WORKER@SECONDS, as in w1@600"),
        (["--lose", "w99@5"], "--lose w99: there is no such worker"),
        (["--command", "run {name}"], "'name' is no field"),
    ],
)
def test_wrong_options_are_named(
    files: list[str], more: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typing error could start real work, or end in a traceback."""
    assert run("master", *files, *more) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_a_batch_begins_now_as_a_whole() -> None:
    """A deadline could be moved and its release not."""
    worker = Worker("w", {"cpu": 1000}, free_from_s=110, until_s=900)
    task = Task("t", {"cpu": 1000}, release_s=120, deadline_s=200)
    request = PlanRequest(
        "r", Snapshot(0, 100, (worker,), (task,)), {"t": {"*": DurationEstimate.certain(5)}}
    )
    begun = begun_at(request, 5_100).snapshot
    assert begun.now_s == 5_100
    assert (begun.pending[0].release_s, begun.pending[0].deadline_s) == (5_120, 5_200)
    assert (begun.workers[0].free_from_s, begun.workers[0].until_s) == (5_110, 5_900)


APPS = {"short": 60, "middle": 600, "long": 5400}
"""True median run times, seconds; their users ask for two hours each."""


def day(number: int, tasks: int = 60) -> tuple[PlanRequest, dict[str, int]]:
    """A day's batch and its truth; without a model the request is the estimate."""
    rng = np.random.default_rng(number)
    start = 1_700_000_000 + 86_400 * number
    workers = tuple(Worker(f"w{k}", {"cpu": 4000, "mem": 16_384}) for k in range(3))
    pending, run_s = [], {}
    for k in range(tasks):
        app = list(APPS)[int(rng.integers(3))]
        name = f"d{number}-{k}"
        run_s[name] = min(7_000, max(1, int(APPS[app] * rng.lognormal(0, 0.2))))
        pending.append(
            Task(
                name,
                {"cpu": 2000},
                release_s=start + 200 * k,
                owner="ann",
                app=app,
                requested_s=7200,
            )
        )
    estimates = {t.id: {"*": DurationEstimate.certain(7200, "requested")} for t in pending}
    policy = Policy(prices=Prices(makespan_h=1.0, wait_h=1.0))
    request = PlanRequest(
        f"day{number}", Snapshot(0, start, workers, tuple(pending)), estimates, policy
    )
    return request, run_s


def realised(request: PlanRequest, run_s: dict[str, int], folder: Path, log: Path) -> float:
    """What a day costs as it really runs."""
    engine = SimEngine(
        request.snapshot.workers, lambda task, _: run_s[task], request.snapshot.now_s
    )
    found = carry_out(request, engine, folder / f"{request.request_id}.db", control=QUICK, log=log)
    assert found["completed"] == len(run_s)
    return float(found["realised_cost"])


def second_day(number: int, folder: Path) -> tuple[float, float]:
    """Cost of the day after `number`, planned with the requests and with that day's log."""
    folder.mkdir()
    log = folder / "jobs.parquet"
    first, first_run = day(number)
    realised(first, first_run, folder, log)
    jobs = read_jobs(log)
    assert len(jobs) == 60
    model = train_model(jobs, folder / "model", levels=(0.1, 0.5, 0.9))
    second, second_run = day(number + 1, 30)
    asked = {
        "job_id": [t.id for t in second.snapshot.pending],
        "submit_s": [float(t.release_s) for t in second.snapshot.pending],
        "user": [t.owner for t in second.snapshot.pending],
        "app": [t.app for t in second.snapshot.pending],
        "requested_s": [7200.0] * 30,
        "cpus": [2.0] * 30,
    }
    # As `plancast master --model` asks: for the cluster's classes, by what a task file says.
    classes = [worker.machine_class for worker in second.snapshot.workers]
    estimates = forecast_by_class(model, type(jobs)(asked), classes)
    learned = replace(second, request_id="learned", estimates=estimates)
    blind = realised(second, second_run, folder, folder / "second.parquet")
    return blind, realised(learned, second_run, folder, folder / "third.parquet")


@pytest.mark.slow
def test_a_second_day_is_cheaper_for_the_first_days_log(tmp_path: Path) -> None:
    """The loop could be open: a log that no plan is the better for. One day alone is luck."""
    days = [second_day(number, tmp_path / str(number)) for number in range(0, 6, 2)]
    assert sum(taught for _, taught in days) < 0.9 * sum(blind for blind, _ in days)
