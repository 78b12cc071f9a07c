"""inputs.slurm_queue: what waits in Slurm's queue becomes tasks, of either data parser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines.inputs.user_files import read_task_table, read_tasks
from plancast.planner.model.domain import BadRequest, Task


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
