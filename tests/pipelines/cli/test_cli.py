"""The command line, command by command: what it writes, prints and exits with."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import pytest

from plancast.pipelines.cli import main, running
from plancast.pipelines.inputs.estimate_files import read_estimates
from plancast.pipelines.inputs.requests import latest_known_s, request_from_files
from plancast.pipelines.inputs.user_files import (
    ClusterFile,
    read_request,
    write_batch,
    write_cluster,
    write_tasks,
)
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import (
    DurationEstimate,
    Finished,
    Policy,
    Running,
    Snapshot,
    Task,
    Window,
    Worker,
)
from plancast.planner.model.judge_response import validate_response
from plancast.planner.model.messages import Budget, PlanRequest, PlanResponse, from_json, to_json
from plancast.planner.solvers import SOLVERS
from plancast.predictor import RuntimePredictor
from plancast.predictor.logs.table import read_jobs
from tests.conftest import ROOT
from tests.pipelines.conftest import SmallRun

COMMANDS = (
    "generate log", "generate cluster", "generate batch", "ingest", "train", "predict", "plan",
    "init", "validate", "trial", "report", "run", "evaluate", "tune", "serve", "bench", "master",
    "backtest", "promote", "execute", "export pddl", "guide collect", "guide train",
    "advise", "eta", "doctor", "worth", "compare", "submit", "cancel", "hold", "release",
    "prioritise", "drain", "undrain", "queue", "why", "log", "status", "watch",
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def facts(self) -> Any:
        """Its output as JSON; NaN is no JSON."""

        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is no JSON")

        return json.loads(self.out, parse_constant=refuse)


Run = Callable[..., Ended]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""

    def call(*arguments: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        code = exit_.value.code
        assert isinstance(code, int)
        return Ended(code, *capsys.readouterr())

    return call


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """A folder with the files of a batch of twelve tasks."""
    request = generate_batch(12, generate_cluster(4, 1), 1)
    write_batch(replace(request, budget=Budget(None, 300)), tmp_path / "batch")
    return tmp_path / "batch"


def files_of(folder: Path) -> list[str]:
    """Every file below a folder, hidden ones too."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# ------------------------------------------------------------------ help


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_that_parses(command: str, run: Run) -> None:
    """Who asks how to use a command would get no example, or one with an option it lacks."""
    ended = run(*command.split(), "--help")
    assert (ended.code, ended.err) == (0, "")
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", ended.out).split())
    example = re.search(rf"Example: plancast ({command} .*)$", text)
    assert example, text
    for option in re.findall(r"(?<!\S)--?[a-z-]+", example[1]):
        assert f"{option} " in text.replace(",", " "), option
    assert "--json" in text


def test_every_command_is_in_the_help(run: Run) -> None:
    """A command that nobody can find might as well not be there; one untested may be broken."""
    shown = run("--help").out + run("generate", "--help").out
    shown += run("export", "--help").out + run("guide", "--help").out
    listed = set(re.findall(r"^│ (\w+) ", shown, re.MULTILINE))
    assert listed == {word for command in COMMANDS for word in command.split()}


def test_no_command_at_all_shows_the_help(run: Run) -> None:
    """The first thing that a newcomer types would end in an error without a hint."""
    ended = run()
    assert ended.code == 2
    assert "Usage: plancast" in ended.out + ended.err


# ------------------------------------------------------------------ from a log to estimates


def test_from_a_generated_log_to_estimates(run: Run, tmp_path: Path) -> None:
    """The way from a log to estimates would break at one of its commands."""
    log, jobs, model = tmp_path / "log.swf.gz", tmp_path / "jobs.parquet", tmp_path / "model"
    ended = run("generate", "log", "--jobs", 300, "--users", 6, "--procs", 16, "-o", log, "--json")
    assert ended.facts == {"written": [str(log)], "jobs": 300, "users": 6, "procs": 16}
    assert log.read_bytes()[:2] == b"\x1f\x8b"

    ended = run("ingest", log, "-o", jobs, "--json")
    assert (ended.code, ended.facts["rows"], ended.facts["machine_size"]) == (0, 300, 16)
    assert ended.facts["kept"] == len(read_jobs(jobs).query("run_s > 0"))
    assert f"{ended.facts['kept']:,} (" in run("ingest", log, "-o", jobs).out

    ended = run("train", jobs, "-o", model, "--levels", ".2,.5,.9", "--seed", 3, "--json")
    assert (ended.code, ended.facts["written"]) == (0, str(model))
    assert ended.facts["card"] == RuntimePredictor.load(model).card
    assert ended.facts["card"]["levels"] == [0.2, 0.5, 0.9]
    printed = run("train", jobs, "-o", model).out
    assert "median_abs_log2" in printed
    assert f"wrote {model} in" in printed

    tasks, found = tmp_path / "tasks.csv", tmp_path / "estimates.csv"
    tasks.write_text("id,user,requested_s,cpus\na,1,600,2\nb,2,,\nc,nobody,50,1\n")
    ended = run("predict", tasks, "--model", model, "-o", found, "--json")
    assert ended.facts == {"written": str(found), "tasks": 3}
    estimates = read_estimates(found)
    assert set(estimates) == {"a", "b", "c"}
    assert estimates["a"]["*"].levels == (0.1, 0.5, 0.8, 0.9, 0.95)
    assert estimates["a"]["*"].seconds[-1] <= 600
    assert estimates["c"]["*"].seconds[-1] <= 50
    assert estimates["a"]["*"].source == "model"
    assert files_of(tmp_path) == sorted(
        ["estimates.csv", "jobs.parquet", "log.swf.gz", "tasks.csv"]
        + [f"model/{name}" for name in files_of(model)]
    )


def test_generating_is_seeded(run: Run, tmp_path: Path) -> None:
    """Nobody could repeat an experiment on generated data."""
    for kind in (["log", "--jobs", 50], ["cluster"]):
        contents = []
        for seed in (1, 1, 2):
            path = tmp_path / f"{len(contents)}.{kind[0]}"
            assert run("generate", *kind, "--seed", seed, "-o", path).code == 0
            contents.append(path.read_bytes())
        assert contents[0] == contents[1] != contents[2]


def test_a_generated_batch_is_read_back(run: Run, tmp_path: Path) -> None:
    """The files of a batch and its request would not be the same problem."""
    cluster, folder = tmp_path / "cluster.yaml", tmp_path / "batch"
    assert run("generate", "cluster", "--workers", 3, "-o", cluster).code == 0
    ended = run("generate", "batch", "--tasks", 7, "--cluster", cluster, "-o", folder, "--json")
    assert (ended.facts["tasks"], ended.facts["workers"]) == (7, 3)
    assert sorted(ended.facts["written"]) == sorted(str(p) for p in folder.iterdir())
    whole = read_request(folder / "request.json")
    pieces = request_from_files(
        folder / "tasks.csv",
        folder / "cluster.yaml",
        policy=folder / "policy.yaml",
        estimates=folder / "estimates.parquet",
    )
    assert replace(pieces, request_id=whole.request_id, seed=whole.seed) == whole


# ------------------------------------------------------------------ plan, validate


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
def test_planning_a_request_and_validating_the_response(
    solver: str, run: Run, batch: Path, tmp_path: Path
) -> None:
    """A solver could not be asked for, or the evaluator would refuse what it answers."""
    asked, answer, drawn = batch / "request.json", tmp_path / "r.json", tmp_path / "plan.html"
    ended = run(
        "plan", asked, "--solver", solver, "--steps", 100, "-o", answer, "--gantt", drawn, "--json"
    )
    assert (ended.code, ended.err) == (0, "")
    response = from_json(PlanResponse, answer.read_bytes())
    assert validate_response(read_request(asked), response) == []
    assert ended.facts["cost"] == response.cost
    assert ended.facts["terms"] == dict(response.terms)
    assert ended.facts["why"] == dict(response.why)
    assert ended.facts["planned"] == ended.facts["tasks"] == 12
    assert ended.facts["written"] == [str(answer), str(drawn)]
    assert all(name in drawn.read_text() for name in read_request(asked).snapshot.pending_by_id)

    checked = run("validate", asked, answer, "--json")
    assert checked.code == 0
    assert checked.facts == {
        "valid": True, "violations": [], "status": response.status.value, "cost": response.cost,
    }  # fmt: skip
    assert run("validate", asked, answer).out.startswith(f"valid: {response.status.value}, cost ")
    assert files_of(tmp_path) == sorted(
        [*(f"batch/{name}" for name in files_of(batch)), "plan.html", "r.json"]
    )


def test_a_steps_budget_and_a_seed_repeat_a_plan(run: Run, batch: Path, tmp_path: Path) -> None:
    """Nobody could reproduce a plan that somebody else complains about."""
    answers = []
    for k in range(2):
        path = tmp_path / f"{k}.json"
        run("plan", batch / "request.json", "--solver", "cpsat", "--steps", 50, "--seed", 4,
            "-o", path)  # fmt: skip
        answers.append(replace(from_json(PlanResponse, path.read_bytes()), wall_s=0))
    assert answers[0] == answers[1]


def test_planning_against_the_distribution(run: Run, batch: Path, tmp_path: Path) -> None:
    """What was asked by risk would not be told, or not be what the response says."""
    answer = tmp_path / "r.json"
    asked = ("plan", batch / "request.json", "--solver", "greedy", "--steps", 10)
    ended = run(*asked, "--risk", "cvar:0.8", "--samples", 40, "-o", answer, "--json")
    assert (ended.code, ended.err) == (0, "")
    response = from_json(PlanResponse, answer.read_bytes())
    assert validate_response(read_request(batch / "request.json"), response) == []
    report = ended.facts["risk"]
    assert (report["measure"], report["samples"]) == ("cvar:0.8", 40)
    assert report["value"] <= report["plain"]
    assert response.risk is not None
    assert response.risk.value == report["value"]
    assert run(*asked, "--json").facts["risk"] is None
    found = run(*asked, "--risk", "mean").out
    assert "mean of the cost over 200 sampled run times" in found
    for wrong in ("median", "cvar:2"):
        refused = run(*asked, "--risk", wrong)
        assert refused.code == 2
        assert "cvar" in refused.err


def test_exporting_to_classical_planners(run: Run, tmp_path: Path) -> None:
    """The files would not be written, or half of a refused request be left behind."""
    workers = (Worker("w", {"cpu": 1000}),)
    tasks = (Task("a", {"cpu": 1000}), Task("b", {"cpu": 600}))
    estimates = {t.id: {"*": DurationEstimate.certain(60)} for t in tasks}
    request = PlanRequest("export", Snapshot(1, 0, workers, tasks), estimates)
    asked, folder = tmp_path / "r.json", tmp_path / "pddl"
    asked.write_bytes(to_json(request))
    ended = run("export", "pddl", asked, "-o", folder, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.facts["step_s"] == 60
    assert ended.facts["steps"] == 2
    assert [Path(p).name for p in ended.facts["written"]] == ["domain.pddl", "problem.pddl"]
    assert "(goal" not in (folder / "domain.pddl").read_text()
    assert "(:goal (and (done t0) (done t1)))" in (folder / "problem.pddl").read_text()
    assert "2 steps of 60 s" in run("export", "pddl", asked, "-o", folder).out

    gang = replace(request, snapshot=replace(request.snapshot, pending=(replace(tasks[1], shards=1),
                   Task("a", {"cpu": 100}, shards=2))))  # fmt: skip
    asked.write_bytes(to_json(gang))
    refused = run("export", "pddl", asked, "-o", tmp_path / "none")
    assert refused.code == 2
    assert "2 shards" in refused.err
    assert not (tmp_path / "none").exists()


def test_files_and_request_give_the_same_plan(run: Run, batch: Path) -> None:
    """A batch would be planned otherwise for the way in which it was handed over."""
    names = {
        "tasks": "tasks.csv", "cluster": "cluster.yaml", "policy": "policy.yaml",
        "estimates": "estimates.parquet",
    }  # fmt: skip
    pieces = [word for option, name in names.items() for word in (f"--{option}", batch / name)]
    solver = ["--solver", "greedy", "--json"]
    facts = [run("plan", *given, *solver).facts for given in ([batch / "request.json"], pieces)]
    assert facts[0]["cost"] == facts[1]["cost"]
    assert facts[0]["estimate_source"] == facts[1]["estimate_source"] == "generated"
    assert facts[0]["request_id"] != facts[1]["request_id"] == "tasks"


def test_the_printed_plan_says_what_the_json_says(run: Run, batch: Path) -> None:
    """People and programs would be told different costs of one plan."""
    asked = [batch / "request.json", "--solver", "greedy"]
    facts, printed = run("plan", *asked, "--json").facts, run("plan", *asked).out
    assert printed.startswith(f"{facts['status']}: 12 of 12 tasks planned on 4 workers")
    assert f"cost {facts['cost']:,.6g}" in " ".join(printed.split())
    assert f"{facts['lower_bound']:,.6g}: gap {facts['gap']:.2%}" in printed
    for term, amount in facts["terms"].items():
        line = rf"^\s*{term}\s+{re.escape(f'{amount:,.4g}')}\s"
        assert (re.search(line, printed, re.MULTILINE) is not None) == (facts["prices"][term] > 0)
    for task in from_json(PlanRequest, asked[0].read_bytes()).snapshot.pending:
        assert re.search(rf"^\s*{task.id}\s+\S+\s+(now|\+)", printed, re.MULTILINE)
    assert f"waiting ({len(facts['why'])}):" in printed
    name, reason = next(iter(facts["why"].items()))
    assert f"{name}: {reason}; 50% by " in printed
    assert facts["starts"].keys() == facts["why"].keys()
    assert all(at["p50_s"] <= at["p90_s"] for at in facts["starts"].values())


def test_what_is_left_out_or_preempted_is_counted(run: Run, tmp_path: Path) -> None:
    """Running tasks would count as planned, and tasks without a place go unnoticed."""
    tasks, cluster, policy = tmp_path / "t.csv", tmp_path / "c.yaml", tmp_path / "p.yaml"
    tasks.write_text("id,cpus,requested_s,weight,deadline_s\nurgent,8,10,100,1010\nwide,64,10,1,\n")
    cluster.write_text(
        "now_s: 1000\nworkers: [{id: w, cpus: 8}]\n"
        "running: [{id: long, cpus: 8, workers: [w], start_s: 999, requested_s: 90000, "
        "preemptible: true}]\n"
    )
    policy.write_text("prices: {late_h: 1000}\n")
    given = [
        "--tasks",
        tasks,
        "--cluster",
        cluster,
        "--policy",
        policy,
        "--solver",
        "greedy",
        "--steps",
        200,
    ]
    ended = run("plan", *given)
    assert ended.code == 0
    counts = "1 of 2 tasks planned, 1 cannot be placed, 1 running task preempted"
    assert counts in " ".join(ended.out.split())
    assert "1 task cannot be placed" in ended.err
    facts = run("plan", *given, "--json").facts
    assert (facts["planned"], facts["preempted"], list(facts["unplanned"])) == (
        1,
        ["long"],
        ["wide"],
    )
    assert run("plan", *given, "--strict").code == 3


def test_no_tasks_at_all_are_worth_a_warning(run: Run, tmp_path: Path) -> None:
    """A wrong file would look like a batch that is done."""
    (tmp_path / "t.csv").write_text("id,cpus,requested_s\n")
    (tmp_path / "c.yaml").write_text("workers: [{id: w, cpus: 8}]\n")
    given = ["--tasks", tmp_path / "t.csv", "--cluster", tmp_path / "c.yaml"]
    ended = run("plan", *given, "--solver", "greedy")
    assert ended.code == 0
    assert "0 of 0" in ended.err


def test_planning_with_a_model(run: Run, small_run: SmallRun, tmp_path: Path) -> None:
    """A model could not be planned with, or its forecasts would not be the plan's durations."""
    tasks, cluster, answer = tmp_path / "t.csv", tmp_path / "c.yaml", tmp_path / "r.json"
    tasks.write_text("id,user,requested_s,cpus,after\na,1,3000,2,\nb,2,7000,4,a\n")
    cluster.write_text(
        "workers: [{id: w, cpus: 8}]\n"
        "running: [{id: old, owner: '1', cpus: 1, workers: [w], start_s: 100}]\n"
    )
    model, found = small_run.path("model"), tmp_path / "e.csv"
    asked = ["--tasks", tasks, "--cluster", cluster]
    ended = run("plan", *asked, "--model", model, "--solver", "astar", "-o", answer, "--json")
    assert (ended.code, ended.facts["estimate_source"]) == (0, "model")
    plan = from_json(PlanResponse, answer.read_bytes()).plan
    assert plan is not None
    request = request_from_files(tasks, cluster, model=model)
    assert set(request.estimates) == {"a", "b", "old"}
    assert request.snapshot.now_s == 100
    assert run("predict", tasks, "--model", model, "-o", found).code == 0
    for name, estimate in read_estimates(found).items():
        ran_s = plan.by_task[name].end_s - plan.by_task[name].start_s
        assert ran_s == request.estimates[name]["*"].at(Policy().level)
        assert estimate["*"].levels == request.estimates[name]["*"].levels


def test_a_clock_of_ones_own_hides_no_history(small_run: SmallRun, tmp_path: Path) -> None:
    """Tasks counted from 0 would be forecast as if no job had ever ended."""
    tasks, cluster = tmp_path / "t.csv", tmp_path / "c.yaml"
    tasks.write_text("id,user,requested_s,cpus,release_s\na,1,90000,2,5\n")
    cluster.write_text("workers: [{id: w, cpus: 8}]")
    model = small_run.path("model")
    own = request_from_files(tasks, cluster, model=model).estimates["a"]["*"]
    jobs = read_jobs(small_run.path("jobs")).tail(1).assign(
        job_id="a", user="1", requested_s=90000.0, cpus=2.0, submit_s=5.0, app="", queue="",
        group="", partition="", mem_mib=float("nan"),
    )  # fmt: skip
    predictor = RuntimePredictor.load(model)
    informed = predictor.predict_quantiles(jobs, as_of_s=predictor.history.known_until_s)[0]
    ignorant = predictor.predict_quantiles(jobs)[0]
    assert abs(informed - ignorant).max() > 1
    assert abs(informed - own.seconds).max() <= 1


def test_a_gang_is_forecast_as_the_whole_job(small_run: SmallRun, tmp_path: Path) -> None:
    """A job of four pieces would be forecast as one of a quarter of its size."""
    cluster = tmp_path / "c.yaml"
    cluster.write_text("now_s: 0\nworkers: [{id: w, cpus: 8}]")
    found = []
    for name, row in (("gang.csv", "a,1,20000,2,4"), ("whole.csv", "a,1,20000,8,1")):
        (tmp_path / name).write_text(f"id,user,requested_s,cpus,shards\n{row}\n")
        found.append(
            request_from_files(tmp_path / name, cluster, model=small_run.path("model")).estimates
        )
    assert found[0] == found[1]


def test_requested_times_stand_in_for_estimates(run: Run, tmp_path: Path) -> None:
    """Without a model nothing could be planned, or a task without a request would vanish."""
    tasks, cluster = tmp_path / "t.csv", tmp_path / "c.yaml"
    tasks.write_text("id,requested_s\na,30\nb,\nc,20\n")
    cluster.write_text("workers: [{id: w, cpus: 1}]")
    ended = run("plan", "--tasks", tasks, "--cluster", cluster, "--solver", "greedy", "--json")
    assert ended.code == 0
    assert ended.facts["planned"] == 2
    assert list(ended.facts["unplanned"]) == ["b"]
    assert "no run-time estimate" in ended.facts["unplanned"]["b"]
    assert ended.facts["terms"]["makespan_h"] == pytest.approx(50 / 3600)


WORKERS = (Worker("w", {"cpu": 4000}),)
RUN = Running(Task("r", {"cpu": 1000}, requested_s=9), ("w",), 500)


@pytest.mark.parametrize(
    ("cells", "window", "clock"),
    [
        ("id,deadline_s\na,2030-01-01T10:00", None, True),
        ("id\na", Window(1_900_000_000, 1_900_003_600), True),
        ("id,deadline_s\na,7200", None, False),
        ("id,deadline_s,release_s\na,2030-01-01T10:00,2030-01-01T08:00", None, False),
    ],
)
def test_deadlines_that_are_dates_are_kept_by_the_clock(
    cells: str, window: Window | None, clock: bool, tmp_path: Path
) -> None:
    """A batch would be planned at the epoch, decades before its deadlines: none could be missed."""
    tasks = tmp_path / "t.csv"
    tasks.write_text(cells + "\n")
    blocked = () if window is None else (window,)
    machines = ClusterFile((replace(WORKERS[0], blocked=blocked),))
    began = int(time.time())
    assert (began <= latest_known_s(tasks, machines) <= time.time()) == clock


@pytest.mark.parametrize(
    ("cells", "machines", "now_s"),
    [
        ("id\na", ClusterFile(WORKERS), 0),
        ("id,release_s\na,70\nb,50\nc,", ClusterFile(WORKERS), 50),
        ("id,submit_s\na,70.5\nb,50", ClusterFile(WORKERS), 71),
        ("id,submit_s,release_s\na,70,900\nb,50,10\nc,,", ClusterFile(WORKERS), 70),
        ("id,release_s\na,7000\nb,10", ClusterFile(WORKERS, running=(RUN,)), 500),
        ("id,submit_s\na,700", ClusterFile(WORKERS, running=(RUN,)), 700),
        ("id,after\na,f", ClusterFile(WORKERS, finished=(Finished("f", 33),)), 33),
    ],
)
def test_now_without_a_now(cells: str, machines: ClusterFile, now_s: int, tmp_path: Path) -> None:
    """Plans would begin in the past, or only when the last of all future releases has come."""
    tasks, cluster = tmp_path / "t.csv", tmp_path / "c.yaml"
    tasks.write_text(cells + "\n")
    assert latest_known_s(tasks, machines) == now_s
    write_cluster(machines, cluster)
    snapshot = request_from_files(tasks, cluster).snapshot
    assert snapshot.now_s == now_s
    write_cluster(replace(machines, now_s=1000), cluster)
    assert request_from_files(tasks, cluster).snapshot.now_s == 1000


def test_tasks_without_a_time_are_released_now(tmp_path: Path) -> None:
    """A task that names no release would count as waiting since 1970."""
    tasks, cluster = tmp_path / "t.csv", tmp_path / "c.yaml"
    tasks.write_text("id,submit_s\na,1700000000\nb,\n")
    write_cluster(ClusterFile(WORKERS), cluster)
    pending = request_from_files(tasks, cluster).snapshot.pending
    assert [task.release_s for task in pending] == [1_700_000_000] * 2


# ------------------------------------------------------------------ exit codes 3 and 4


def test_nothing_plannable_is_exit_3_with_reasons(run: Run, tmp_path: Path) -> None:
    """A master could not tell "no plan" from a plan of nothing."""
    tasks, cluster, answer = tmp_path / "t.csv", tmp_path / "c.yaml", tmp_path / "r.json"
    drawn = tmp_path / "g.html"
    write_tasks([Task("big[1]", {"cpu": 9000}, requested_s=5)], tasks)
    write_cluster(ClusterFile(WORKERS), cluster)
    asked = ["plan", "--tasks", tasks, "--cluster", cluster, "-o", answer, "--gantt", drawn]
    ended = run(*asked)
    assert ended.code == 3
    reason = "it needs 9 cores; the largest worker it may use has 4"
    assert f"big[1]: {reason}" in ended.out
    assert not drawn.exists()
    facts = run(*asked, "--json").facts
    assert facts["status"] == "infeasible"
    assert facts["unplanned"] == {"big[1]": reason}
    assert facts["written"] == [str(answer)]
    request = tmp_path / "q.json"
    request.write_bytes(to_json(request_from_files(tasks, cluster)))
    assert run("validate", request, answer).code == 0


def test_a_broken_hard_deadline_is_exit_3_with_the_reason(run: Run, tmp_path: Path) -> None:
    """Somebody would wait for a plan that cannot exist, without knowing which task is why."""
    task = Task("late", {"cpu": 1000}, deadline_s=3, requested_s=5)
    request = PlanRequest(
        "q",
        Snapshot(0, 0, WORKERS, (task,)),
        {"late": {"*": DurationEstimate.certain(5)}},
        Policy(hard_deadlines=True),
    )
    (tmp_path / "q.json").write_bytes(to_json(request))
    ended = run("plan", tmp_path / "q.json", "--json")
    assert ended.code == 3
    assert ended.facts["why"] == {"late": "it cannot end by its hard deadline at 3"}


def test_an_invalid_plan_is_exit_4(run: Run, batch: Path, tmp_path: Path) -> None:
    """A script that checks a planner's answer would take a broken plan for a good one."""
    asked, answer = batch / "request.json", tmp_path / "r.json"
    assert run("plan", asked, "--solver", "greedy", "-o", answer).code == 0
    body = json.loads(answer.read_text())
    body["plan"]["assignments"].pop()
    answer.write_text(json.dumps(body))
    ended = run("validate", asked, answer, "--json")
    assert ended.code == 4
    assert not ended.facts["valid"]
    assert "task_missing" in {v["kind"] for v in ended.facts["violations"]}
    assert "task_missing: task" in run("validate", asked, answer).out


def test_names_with_brackets_are_printed_as_they_are(run: Run, tmp_path: Path) -> None:
    """Array jobs such as 17[3] would lose their brackets to the terminal's markup, or crash it."""
    names = ["17[3]", "[/bold]", "[red]"]
    tasks = [Task(name, {"cpu": 4000}, requested_s=5) for name in names]
    write_cluster(ClusterFile(WORKERS), tmp_path / "c.yaml")
    write_tasks(tasks, tmp_path / "[/t].csv")
    ended = run("plan", "--tasks", tmp_path / "[/t].csv", "--cluster", tmp_path / "c.yaml",
                "--solver", "greedy", "-o", tmp_path / "[/r].json")  # fmt: skip
    assert ended.code == 0
    waiting = [name for name in names if f"  {name}: waits" in ended.out]
    assert len(waiting) == 2
    assert f"wrote {tmp_path}/[/r].json" in ended.out


# ------------------------------------------------------------------ trial, report, run


def test_the_trial_of_a_log(run: Run, small_run: SmallRun, tmp_path: Path) -> None:
    """The comparison of estimates could not be made outside of the pipeline."""
    out = tmp_path / "trial.json"
    with joblib.parallel_config("sequential"):
        ended = run(
            "trial", small_run.path("jobs"), "--batches", 2, "--batch-size", 8, "--level", 0.7,
            "--workers", 4, "--params", small_run.home / "params.yaml", "-o", out, "--json",
        )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(out.read_text()) == ended.facts
    assert (ended.facts["batches"], ended.facts["batch_size"], ended.facts["workers"]) == (2, 8, 4)
    assert set(ended.facts["kinds"]) == {
        "requested", "last_two", "model_p50", "model_p70", "oracle",
    }  # fmt: skip
    assert ended.facts["kinds"]["oracle"]["regret"] == 0
    assert files_of(tmp_path) == ["trial.json"]


def test_the_run_tells_what_each_stage_found(small_run: SmallRun) -> None:
    """Programs that read the run's JSON would miss a stage, or read other figures than it left."""
    facts = small_run.facts
    assert facts["ingest"] == small_run.read("ingest_facts")
    assert facts["train"] == small_run.read("train_facts")
    assert facts["trial"] == small_run.read("trial_facts")
    assert facts["worth"] == small_run.read("worth_facts")
    request = read_request(small_run.path("request"))
    response = from_json(PlanResponse, small_run.path("response").read_bytes())
    assert validate_response(request, response) == []
    assert facts["plan"]["cost"] == response.cost
    assert facts["plan"]["tasks"] == len(request.snapshot.pending) == 20
    assert Path(facts["report"]) == small_run.path("report").relative_to(small_run.home)
    assert small_run.path("gantt").read_text().startswith("<!doctype html>")


def test_a_run_leaves_no_unfinished_file(small_run: SmallRun) -> None:
    """Temporary files would pile up with every run."""
    left = [name for name in files_of(small_run.home) if "/." in name or name.endswith(".part")]
    assert left == []


def test_the_report_of_a_run_is_written_again(
    run: Run, small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page could not be made anew without running everything."""
    monkeypatch.chdir(small_run.home)
    page = tmp_path / "page.html"
    assert run("report", "-o", page, "--json").facts == {"written": str(page)}
    assert page.read_text() == small_run.path("report").read_text()
    ended = run("report", "--name", "other")
    assert ended.code == 2
    assert "data/interim/other/ingest.json: there is no such file; run the earlier" in ended.err


def test_a_run_in_words(run: Run, small_run: SmallRun, capsys: pytest.CaptureFixture[str]) -> None:
    """`make run` would print no table of errors, or none of costs."""
    from plancast.pipelines.cli.forecasting import describe_log
    from plancast.pipelines.cli.running import print_forecasts, print_trial

    capsys.readouterr()
    print_forecasts(small_run.facts["train"])
    print_trial(small_run.facts["trial"])
    out = capsys.readouterr().out
    for kind, found in small_run.facts["trial"]["kinds"].items():
        cost, regret = f"{found['realised_cost']:,.1f}", f"{found['regret']:+.1%}"
        assert re.search(rf"{kind} .*{re.escape(cost)}.*{re.escape(regret)}", out), kind
    for name, found in small_run.facts["train"]["estimators"].items():
        assert re.search(rf"{name} .*{found['mae_s']:,.0f} .*{found['within_2x']:.0%}", out), name
    assert "585" in describe_log(small_run.facts["ingest"])


# ------------------------------------------------------------------ processes


def python(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Another Python in a folder, with our packages."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_greedy_planning_loads_no_learner(batch: Path, tmp_path: Path) -> None:
    """`plancast plan` would spend most of its time on imports it does not use."""
    script = (
        "import sys\n"
        "from plancast.pipelines.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit as exit_:\n"
        "    assert exit_.code == 0, exit_.code\n"
        "heavy = {'ortools', 'lightgbm', 'sklearn', 'mlflow', 'pandas', 'joblib', 'fastapi',"
        " 'predictor', 'pandera'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    estimates = batch / "estimates.json"
    estimates.write_bytes(
        to_json({t: dict(e) for t, e in read_request(batch / "request.json").estimates.items()})
    )
    ended = python("-c", script, "plan", "--tasks", batch / "tasks.csv",
                   "--cluster", batch / "cluster.yaml", "--estimates", estimates,
                   "--policy", batch / "policy.yaml", "--solver", "greedy",
                   "-o", "r.json", "--gantt", "g.html", "--json", cwd=tmp_path)  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "[]"


def test_the_program_itself(batch: Path, tmp_path: Path) -> None:
    """What works inside the tests' process might not work as a program: codes and streams."""
    ended = python("-m", "plancast.pipelines.cli", "plan", batch / "request.json",
                   "--solver", "greedy",
                   "--json", cwd=tmp_path)  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["planned"] == 12
    ended = python("-m", "plancast.pipelines.cli", "plan", "nothing.json", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "plancast: nothing.json: there is no such file; check the name\n"


def test_a_reader_that_has_enough_ends_nothing_badly(batch: Path) -> None:
    """`plancast plan ... | head -1` would end in a traceback."""
    command = (
        f"{sys.executable} -m plancast.pipelines.cli plan {batch}/request.json"
        " --solver greedy --json"
    )
    ended = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -c 1"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "Traceback" not in ended.stderr
    assert ended.stdout == "{"


def test_a_run_plans_the_users_own_tasks_too(
    run: Run, small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ran the pipeline would have to find the model and another command for a plan."""
    monkeypatch.chdir(small_run.home)
    tasks, cluster = tmp_path / "t.csv", tmp_path / "c.yaml"
    tasks.write_text("id,user,cpus\na,1,2\nb,2,1\n")
    cluster.write_text("workers: [{id: w, cpus: 2}]\n")
    found = running._own_plan(small_run.config, tasks, cluster)
    assert found.response.estimate_source == "model"
    assert small_run.path("own_plan").read_text().startswith("task,worker,start_s")
    assert small_run.path("own_gantt").exists()
    ended = run("run", "--tasks", tasks)
    assert ended.code == 2
    assert "--tasks and --cluster go together" in ended.err
