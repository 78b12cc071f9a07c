"""inputs.slurm_queue: what waits in Slurm's queue becomes tasks, of either data parser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines.inputs.user_files import read_task_table, read_tasks
from plancast.planner.model.domain import BadRequest, Dependency, DependencyKind, Task

KIND = DependencyKind


def boxed(number: int | None) -> dict[str, Any]:
    """A number as the newer data parsers write it."""
    return {"set": number is not None, "infinite": False, "number": number or 0}


NEW: dict[str, Any] = {
    "job_id": 9, "name": "fit", "user_name": "ann", "account": "phys", "partition": "short",
    "qos": "normal", "job_state": ["PENDING"], "cpus": boxed(4), "node_count": boxed(2),
    "submit_time": boxed(1709280000), "start_time": boxed(0), "time_limit": boxed(60),
    "memory_per_node": boxed(None), "tres_req_str": "cpu=4,mem=8G,node=2,gres/gpu=2",
    "array_job_id": boxed(0), "array_task_id": boxed(None), "features": "gpu&(rack1|rack2)",
    "dependency": "afterok:8(unfulfilled),afterok:5(unfulfilled)",
}  # fmt: skip
OLD: dict[str, Any] = {
    "job_id": 8, "name": "prep", "user_name": "bob", "account": "bio", "partition": "long",
    "job_state": "PENDING", "cpus": 1, "node_count": 1, "submit_time": 1709280000,
    "start_time": 0, "time_limit": 30, "memory_per_cpu": 512, "tres_req_str": "",
    "array_job_id": 7, "array_task_id": 3, "features": "", "dependency": "",
}  # fmt: skip


def queue(tmp_path: Path, *jobs: Any) -> Path:
    """A file of these jobs."""
    path = tmp_path / "queue.json"
    path.write_text(json.dumps({"meta": {}, "jobs": list(jobs), "errors": []}))
    return path


def test_waiting_jobs_become_tasks(tmp_path: Path) -> None:
    """A queue would have to be rewritten by hand before it could be planned."""
    running = NEW | {"job_id": 10, "job_state": ["RUNNING"]}
    old, new = read_tasks(queue(tmp_path, OLD, running, NEW | {"dependency": "afterok:7_3"}))
    assert old == Task(
        "7_3", {"cpu": 1000, "mem": 512}, 1709280000, owner="bob", app="prep", requested_s=1800
    )
    assert new == Task(
        "9",
        {"cpu": 2000, "mem": 4096, "gpu": 1000},
        1709280000,
        owner="ann",
        app="fit",
        requires=("gpu", "rack1|rack2"),
        after=("7_3",),
        requested_s=3600,
        shards=2,
    )
    frame = read_task_table(queue(tmp_path, OLD, NEW))
    assert frame["queue"].tolist() == ["long", "normal"]


@pytest.mark.parametrize(
    ("jobs", "sentence"),
    [
        ([NEW | {"job_state": ["RUNNING"]}], "no job of the queue waits"),
        ([NEW | {"features": "[a|b]|c"}], "job 9: constraint '[a|b]|c' is not understood"),
        ([NEW | {"submit_time": "noon"}], "job 9: 'noon' is not a number"),
        ([{"name": "x"}], "jobs without job_id"),
        ([7], "jobs without job_id"),
    ],
)
def test_another_queue_is_refused_by_job(tmp_path: Path, jobs: list[Any], sentence: str) -> None:
    """A job would be left out, or planned as another one."""
    with pytest.raises(BadRequest) as caught:
        read_tasks(queue(tmp_path, *jobs))
    assert sentence in str(caught.value)


def waiting(name: int, dependency: str) -> dict[str, Any]:
    """A job that waits."""
    return NEW | {"job_id": name, "features": "", "dependency": dependency}


@pytest.mark.parametrize(
    ("dependency", "after", "depends"),
    [
        ("afterok:8(unfulfilled)", ("8",), ()),
        ("afterok:7_*(unfulfilled)", ("7_3", "7_4"), ()),
        ("afterany:8(unfulfilled),afterok:7_3", ("7_3",), (Dependency("8", KIND.AFTERANY),)),
        ("afterany:8+90", (), (Dependency("8", KIND.AFTERANY, 5400),)),
        ("after:8", (), (Dependency("8", KIND.AFTER),)),
        ("after:8+10(unfulfilled)", (), (Dependency("8", KIND.AFTER, 600),)),
        ("afterok:8+1:7_3", ("7_3",), (Dependency("8", KIND.AFTEROK, 60),)),
        ("afterok:5(unfulfilled),afternotok:4,afterok:5?afterany:4,singleton", (), ()),
    ],
)
def test_dependencies_of_every_kind(
    tmp_path: Path, dependency: str, after: tuple[str, ...], depends: tuple[Dependency, ...]
) -> None:
    """A job would be planned before what it waits for, or wait for the wrong thing."""
    array = [OLD, OLD | {"job_id": 81, "array_task_id": 4}]
    alone = waiting(8, "")
    *_, task = read_tasks(queue(tmp_path, *array, alone, waiting(9, dependency)))
    assert (task.after, task.depends, task.release_s) == (after, depends, 1709280000)


@pytest.mark.parametrize(
    ("dependency", "since_s"),
    [("afterok:3", 7200), ("afterany:3+10", 7800), ("after:3+5", 300), ("afterok:8,after:3", 0)],
)
def test_jobs_that_run_are_waited_for(tmp_path: Path, dependency: str, since_s: int) -> None:
    """A job would be planned now though what it waits for still runs."""
    runs = NEW | {
        "job_id": 3, "job_state": ["RUNNING"], "start_time": boxed(1709290000),
        "end_time": boxed(1709297200),
    }  # fmt: skip
    *_, task = read_tasks(queue(tmp_path, runs, waiting(8, ""), waiting(9, dependency)))
    assert task.release_s == 1709290000 + since_s


@pytest.mark.parametrize(
    ("dependency", "sentence"),
    [
        ("aftercorr:8", "aftercorr cannot be planned"),
        ("afterok:8?afterany:5", "job 9: dependency afterok:8?afterany:5: any one of several"),
        ("afternotok:3", "job 9: dependency afternotok:3 on a job that runs cannot be planned"),
        ("afterok:3", "squeue does not say when 3 ends"),
    ],
)
def test_dependencies_that_cannot_be_planned(
    tmp_path: Path, dependency: str, sentence: str
) -> None:
    """A job would be planned as if it waited for nothing."""
    runs = NEW | {"job_id": 3, "job_state": ["RUNNING"]}
    with pytest.raises(BadRequest) as caught:
        read_tasks(queue(tmp_path, runs, waiting(8, ""), waiting(9, dependency)))
    assert sentence in str(caught.value)


def test_directory_and_command_line_reach_the_predictor(tmp_path: Path) -> None:
    """A queue would be forecast without what tells its jobs apart."""
    texts = {"current_working_directory": "/home/bob/p", "submit_line": "sbatch prep.sh 7"}
    frame = read_task_table(queue(tmp_path, OLD | texts))
    assert frame["work_dir"].tolist() == ["/home/bob/p"]
    assert frame["submit_line"].tolist() == ["sbatch prep.sh 7"]
