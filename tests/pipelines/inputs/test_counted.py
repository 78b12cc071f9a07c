"""Licences and running limits in the files of users."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from plancast.pipelines.inputs.arrays import indices_of
from plancast.pipelines.inputs.requests import request_from_files
from plancast.pipelines.inputs.user_files import write_batch
from plancast.planner.model.domain import AmountWindow, BadRequest, CountedResource
from plancast.planner.model.messages import PlanRequest

CLUSTER = """
now_s: 0
resources: {matlab: {amount: 2, windows: [[1970-01-02T00:00:00Z, 1970-01-03T00:00:00Z, 1]]}}
limits: {user: {"*": 3, ann: 1}, account: 2}
workers: [{id: n, cpus: 4}]
running:
  - {id: 7_9, owner: bob, app: sim, workers: [n], start_s: -300, requested_s: 3600}
"""
TASKS = """
id,owner,app,res_matlab,array_limit,after,account,requested_s
7_1,bob,sim,1,2,singleton,phys,10
7_2,bob,x,1,2,"singleton,7_1",phys,10
8,ann,x,,,,,10
"""


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., PlanRequest]:
    """Requests of a cluster and a task file."""

    def make(cluster: str = CLUSTER, tasks: str = TASKS) -> PlanRequest:
        (tmp_path / "c.yaml").write_text(cluster, encoding="utf-8")
        (tmp_path / "t.csv").write_text(tasks.lstrip(), encoding="utf-8")
        return request_from_files(tmp_path / "t.csv", tmp_path / "c.yaml")

    return make


def test_limits_become_counted_resources(made: Callable[..., PlanRequest]) -> None:
    """Licences, array%k, singleton and limits of users would be ignored, or be of no task."""
    snapshot = made().snapshot
    assert [dict(t.counted) for t in snapshot.pending] == [
        {"matlab": 1, "array 7": 1, "singleton bob sim": 1, "user bob": 1, "account phys": 1},
        {"matlab": 1, "array 7": 1, "singleton bob x": 1, "user bob": 1, "account phys": 1},
        {"user ann": 1},
    ]
    # What runs counts: as one of the array and of the user, and for the singleton's name.
    assert snapshot.running[0].task.counted == {
        "array 7": 1,
        "singleton bob sim": 1,
        "user bob": 1,
    }
    assert [t.after for t in snapshot.pending] == [(), ("7_1",), ()]
    assert all("matlab" not in t.demand for t in snapshot.pending)
    amounts = {c.id: c.amount for c in snapshot.counted}
    assert amounts == {
        "matlab": 2, "array 7": 2, "singleton bob sim": 1, "user bob": 3, "account phys": 2,
        "singleton bob x": 1, "user ann": 1,
    }  # fmt: skip
    assert snapshot.counted[0].windows == (AmountWindow(86_400, 172_800, 1),)


def test_without_a_limit_nothing_is_counted(made: Callable[..., PlanRequest]) -> None:
    """A resource of the workers would be taken for one of the cluster."""
    request = made("workers: [{id: n, cpus: 4, resources: {matlab: 1}}]", "id,res_matlab\na,1\n")
    assert request.snapshot.counted == ()
    assert request.snapshot.pending[0].demand == {"cpu": 1000, "matlab": 1}


def test_what_is_written_reads_back(made: Callable[..., PlanRequest], tmp_path: Path) -> None:
    """A batch handed on as files would lose its limits."""
    request = made()
    write_batch(request, tmp_path / "out")
    again = request_from_files(tmp_path / "out" / "tasks.csv", tmp_path / "out" / "cluster.yaml")
    assert again.snapshot == request.snapshot


def test_a_task_may_be_called_singleton(made: Callable[..., PlanRequest]) -> None:
    """A task's own id would be read as a word of Slurm's."""
    request = made("workers: [{id: n, cpus: 4}]", "id,after\nsingleton,\nb,singleton\n")
    assert request.snapshot.pending[1].after == ("singleton",)
    assert request.snapshot.counted == ()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("resources: {matlab: two}", "resources.matlab.amount: must be a whole number"),
        ("resources: {matlab: -1}", "resources.matlab.amount: must be 0 or more"),
        ("resources: {disk: 2}", "resources.disk: worker n has it too; keep one of the two"),
        ("resources: {cpu: 2}", "resources.cpu: write cpus, mem_mib or gpus of the workers"),
        ("resources: {x: {amuont: 2}}", "resources.x.amuont: is no field here; did you mean 'am"),
        ("resources: {x: {amount: 1, windows: [[0, 5, 1], [3, 6, 2]]}}", "without overlap"),
        ("limits: {usr: 2}", "limits.usr: is no field here; did you mean 'user'"),
        ("limits: {user: {ann: -1}}", "limits.user.ann: must be 0 or more"),
        ('limits: {user: 2}\nresources: {"user ann": 1}', "is the name of a running limit"),
    ],
)
def test_a_wrong_cluster_is_refused(
    made: Callable[..., PlanRequest], line: str, sentence: str
) -> None:
    """A limit that was written wrong would not hold, and nobody would know."""
    cluster = f"{line}\nworkers: [{{id: n, cpus: 4, resources: {{disk: 1}}}}]\n"
    with pytest.raises(BadRequest, match="c.yaml.*" + sentence.replace("[", r"\[")):
        made(cluster)


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        ("id,array_limit\n1_1,0\n", "row 1, column array_limit: is 0; it must be 1 or more"),
        ("id,array_limit\n1_1,2\n1_2,3\n", "array_limit is 3, but 2 for another task of array 1"),
    ],
)
def test_a_wrong_limit_of_a_task_is_refused(
    made: Callable[..., PlanRequest], tasks: str, sentence: str
) -> None:
    """Two limits of one array would hold at once, or none."""
    with pytest.raises(BadRequest, match=sentence):
        made("workers: [{id: n, cpus: 4}]", tasks)


def test_licences_of_the_queue_are_counted(tmp_path: Path) -> None:
    """What Slurm's own queue says of licences and arrays would be lost."""
    from plancast.pipelines.inputs.slurm_queue import task_rows

    job = {
        "job_id": 5, "job_state": ["PENDING"], "user_name": "ann", "name": "sim", "account": "phys",
        "licenses": "matlab:2,ansys@server", "array_max_tasks": {"set": True, "number": 3},
        "dependency": "singleton(unfulfilled)", "time_limit": {"set": True, "number": 10},
    }  # fmt: skip
    (row,) = task_rows([job], "q.json")
    assert (row["res_matlab"], row["res_ansys@server"]) == (2, 1)
    assert (row["array_limit"], row["singleton"], row["account"]) == (3, True, "phys")
    for amount in ("y", "\u00b2"):
        with pytest.raises(BadRequest, match=f"job 5: licenses 'x:{amount}': '{amount}' is no"):
            task_rows([{**job, "licenses": f"x:{amount}"}], "q.json")


def test_an_array_says_how_many_run_at_once_in_digits() -> None:
    """A superscript would be a digit to one function, and end in a traceback of another."""
    assert indices_of("0-2%2") == ([0, 1, 2], 2)
    with pytest.raises(BadRequest, match="after % stands how many tasks may run at once"):
        indices_of("0-2%\u00b2")


def test_array_ids_of_yaml_keep_their_underscore(made: Callable[..., PlanRequest]) -> None:
    """YAML 1.1 reads 7_9 as 79: a running task of an array would not count as one."""
    assert made().snapshot.running[0].task.id == "7_9"
    assert CountedResource("array 7", 2) in made().snapshot.counted


def test_the_page_shows_files_that_are_read(made: Callable[..., PlanRequest]) -> None:
    """docs/licences.md would show a file that is refused."""
    text = (Path(__file__).parents[3] / "docs" / "licences.md").read_text(encoding="utf-8")
    cluster, tasks = (
        re.search(rf"```{name}\n(.*?)```", text, re.DOTALL)
        for name in ("yaml licences.yaml", "csv tasks-licences.csv")
    )
    assert cluster is not None
    assert tasks is not None
    snapshot = made(cluster[1], tasks[1]).snapshot
    assert {c.id: c.amount for c in snapshot.counted} == {
        "matlab": 2, "ansys": 4, "array 7": 2, "user ann": 80, "user bob": 40,
        "account phys": 100, "account ops": 100, "singleton bob backup": 1,
    }  # fmt: skip
