"""``plancast plan``, ``validate`` and ``export``: what they write, print and exit with."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from plancast.pipelines.inputs.estimate_files import read_estimates
from plancast.pipelines.inputs.requests import latest_known_s, request_from_files
from plancast.pipelines.inputs.user_files import (
    ClusterFile,
    read_request,
    write_cluster,
    write_tasks,
)
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
from plancast.planner.model.messages import PlanRequest, PlanResponse, from_json, to_json
from plancast.planner.solvers import SOLVERS
from plancast.predictor import RuntimePredictor
from plancast.predictor.logs.table import read_jobs
from tests.pipelines.cli.conftest import Run, files_of
from tests.pipelines.conftest import SmallRun


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
    """What was asked by risk would be missing, or not be what the response says."""
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
    # Tasks are what most would name first.
    assert run("plan", *pieces[1:], *solver).facts["cost"] == facts[0]["cost"]
    ended = run("plan", batch / "tasks.csv")
    assert ended.code == 2
    assert "tasks.csv: tasks need a cluster to be planned on; give --cluster" in ended.err


def test_the_printed_plan_says_what_the_json_says(run: Run, batch: Path) -> None:
    """People and programs would see different costs of one plan."""
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


def test_what_auto_chose_is_printed_and_in_the_json(run: Run, batch: Path) -> None:
    """Nobody could tell which engines had planned, or why these."""
    asked = [batch / "request.json", "--steps", "50"]
    facts, printed = run("plan", *asked, "--json").facts, run("plan", *asked).out
    assert facts["auto"] == {"engines": {"cpsat": 1}, "why": "at most 14 tasks"}
    assert "auto chose cpsat (1 thread): at most 14 tasks\n" in printed
    assert run("plan", *asked, "--solver", "greedy", "--json").facts["auto"] is None


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


def test_bounds_that_no_task_breaks_alone_are_named(run: Run, tmp_path: Path) -> None:
    """Nobody could tell an impossible policy from a planner at its end."""
    (tmp_path / "tasks.csv").write_text("id,cpus,requested_s\na,4,60\nb,4,60\n")
    (tmp_path / "cluster.yaml").write_text("workers: [{id: w, cpus: 4}]")
    (tmp_path / "policy.yaml").write_text("{max_wait_s: 30, max_stretch: 9}")
    files = (tmp_path / "tasks.csv", "--cluster", tmp_path / "cluster.yaml")
    bounds = "the policy's max_wait_s 30 and max_stretch 9"
    for solver, said in (("auto", "no plan keeps"), ("greedy", "no plan was found that keeps")):
        ended = run("plan", *files, "--policy", tmp_path / "policy.yaml", "--solver", solver)
        assert ended.code == 3
        assert f"{said} {bounds}" in ended.out
    assert "policy's" not in run("plan", *files, "--solver", "greedy").out


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
