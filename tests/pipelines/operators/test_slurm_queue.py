"""Answers of Slurm read by shape: the JSON of 22.05 and of 23.02, and columns."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from plancast.pipelines.engines.slurm import CommandFailed
from plancast.pipelines.operators.live_queue import LiveQueue, pools_of
from plancast.pipelines.operators.slurm_queue import (
    clock_s,
    host_names,
    queue_of_site,
    read_queue,
)
from plancast.planner.model.domain import BadRequest

NOW = 1_700_000_000
PARTITIONS = """PartitionName=batch
   DefaultTime=NONE MaxTime=2-00:00:00
   Nodes=n[1-3]

PartitionName=gpu
   DefaultTime=01:00:00 MaxTime=1-00:00:00
   Nodes=g1
"""

JOBS: list[dict[str, Any]] = [
    {"job_id": 1, "job_state": "RUNNING", "partition": "batch", "user_name": "ann", "name": "a",
     "cpus": 8, "node_count": 2, "nodes": "n[1-2]", "time_limit": 60, "priority": 5,
     "submit_time": NOW - 900, "start_time": NOW - 600, "state_reason": "None",
     "tres_req_str": "cpu=8,mem=4G,node=2,billing=8", "qos": "normal", "account": "p"},
    {"job_id": 2, "job_state": "PENDING", "partition": "batch", "user_name": "bob", "name": "b",
     "cpus": 8, "node_count": 2, "nodes": "", "time_limit": 120, "priority": 10,
     "submit_time": NOW - 500, "start_time": NOW + 4000, "state_reason": "Resources",
     "tres_req_str": "cpu=8,mem=2G,node=2,billing=8", "qos": "normal", "account": "p"},
    {"job_id": 3, "job_state": "PENDING", "partition": "gpu", "user_name": "bob", "name": "c",
     "cpus": 2, "node_count": 1, "nodes": "", "time_limit": None, "priority": 20,
     "submit_time": NOW - 400, "start_time": 0, "state_reason": "Priority",
     "tres_req_str": "cpu=2,mem=1000M,node=1,billing=2,gres/gpu=1", "qos": "normal"},
    {"job_id": 4, "job_state": "PENDING", "partition": "batch", "user_name": "eve", "name": "d",
     "cpus": 1, "node_count": 1, "nodes": "", "time_limit": 10, "priority": 1,
     "submit_time": NOW - 300, "start_time": 0, "state_reason": "Dependency",
     "tres_req_str": "cpu=1,mem=100M,node=1", "qos": "normal"},
    {"job_id": 5, "job_state": "PENDING", "partition": "batch", "user_name": "eve", "name": "arr",
     "cpus": 1, "node_count": 1, "nodes": "", "time_limit": 10, "priority": 2,
     "submit_time": NOW, "start_time": 0, "state_reason": "Priority",
     "array_job_id": 5, "array_task_string": "0-2,7%2",
     "tres_req_str": "cpu=1,mem=100M,node=1", "qos": "normal"},
]  # fmt: skip
NODES: list[dict[str, Any]] = [
    *({"name": f"n{k}", "cpus": 4, "real_memory": 4096, "gres": "", "state": "allocated",
       "state_flags": [], "partitions": ["batch"]} for k in (1, 2)),
    {"name": "n3", "cpus": 4, "real_memory": 4096, "gres": "", "state": "idle",
     "state_flags": ["DRAIN"], "partitions": ["batch"]},
    {"name": "g1", "cpus": 8, "real_memory": 8192, "gres": "gpu:a100:2(S:0-1)", "state": "mixed",
     "state_flags": [], "partitions": ["gpu"]},
]  # fmt: skip


def number(value: int | None) -> dict[str, Any]:
    """A number as 23.02 and later write it."""
    return {"set": value is not None, "infinite": value is None, "number": value or 0}


def old() -> tuple[str, str]:
    """As 22.05 answers: plain numbers, one state, nodes one by one."""
    return json.dumps({"meta": {}, "errors": [], "jobs": JOBS}), json.dumps(
        {"meta": {}, "errors": [], "nodes": NODES}
    )


def new() -> tuple[str, str]:
    """As 23.02 and later answer: numbers and states as structures, nodes in groups."""
    counts = ("cpus", "node_count", "time_limit", "priority", "submit_time", "start_time")
    jobs = [
        {k: number(v) if k in counts else [v] if k == "job_state" else v for k, v in job.items()}
        for job in JOBS
    ]
    for job in jobs:
        if "array_job_id" in job:
            job["array_job_id"] = number(job["array_job_id"])
    groups = [
        {
            "node": {"state": [row["state"].upper(), *row["state_flags"]]},
            "nodes": {"total": 1, "nodes": [row["name"]]},
            "cpus": {"minimum": row["cpus"], "maximum": row["cpus"], "total": row["cpus"]},
            "memory": {"minimum": row["real_memory"], "maximum": row["real_memory"]},
            "gres": {"total": row["gres"], "used": ""},
            "partition": {"name": row["partitions"][0]},
        }
        for row in NODES
    ]
    return json.dumps({"jobs": jobs}), json.dumps({"sinfo": groups})


def columns() -> tuple[str, str]:
    """As ``squeue -o`` and ``sinfo -N -o`` answer."""

    def clock(at: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(at)) if at else "N/A"

    def limit(minutes: int | None) -> str:
        return "NOT_SET" if minutes is None else f"{minutes // 60}:{minutes % 60:02d}:00"

    lines = ["JOBID|PARTITION|USER|STATE|SUBMIT_TIME|START_TIME|TIME_LIMIT|NODES|CPUS|"
             "MIN_MEMORY|PRIORITY|REASON|NAME|NODELIST|TRES_PER_NODE"]  # fmt: skip
    for job in JOBS:
        memory = {1: "2G", 2: "1G", 3: "1000M", 4: "100M", 5: "100M"}[job["job_id"]]
        name = "5_[0-2,7%2]" if job["job_id"] == 5 else str(job["job_id"])
        lines.append(
            "|".join(
                [name, job["partition"], job["user_name"], job["job_state"],
                 clock(job["submit_time"]), clock(job["start_time"]), limit(job["time_limit"]),
                 str(job["node_count"]), str(job["cpus"]), memory, str(job["priority"]),
                 job["state_reason"], job["name"], job["nodes"],
                 "gres:gpu:1" if job["job_id"] == 3 else "N/A"]
            )
        )  # fmt: skip
    nodes = ["NODELIST|PARTITION|CPUS|MEMORY|STATE|GRES"]
    for row in NODES:
        state = "drained" if row["state_flags"] else row["state"]
        nodes.append(
            f"{row['name']}|{row['partitions'][0]}*|{row['cpus']}|{row['real_memory']}|{state}|"
            f"{row['gres'] or '(null)'}"
        )
    return "\n".join(lines), "\n".join(nodes)


SHAPES = {"22.05": old, "23.02": new, "columns": columns}


def read(shape: str) -> LiveQueue:
    """The queue in one of the shapes."""
    return read_queue(*SHAPES[shape](), PARTITIONS, NOW, ("squeue", "sinfo"))


@pytest.mark.parametrize("shape", SHAPES)
def test_all_shapes_say_the_same(shape: str) -> None:
    """A site of another version would be told of another queue."""
    queue = read(shape)
    assert [n.id for n in queue.nodes] == ["n1", "n2", "g1"]  # n3 is drained
    assert dict(queue.nodes[2].amounts) == {"cpu": 8, "mem": 8192, "gpu": 2}
    (running,) = queue.running
    assert (running.id, running.where, running.start_s) == ("1", {"n1", "n2"}, NOW - 600)
    assert dict(running.demand) == {"cpu": 8, "mem": 4096}
    waiting = {job.id: job for job in queue.waiting}
    assert list(waiting) == ["3", "2", "5_0", "5_1", "5_2", "5_7", "4"]  # by priority
    assert dict(waiting["3"].demand) == {"cpu": 2, "mem": 1000, "gpu": 1}
    assert waiting["3"].limit_s == 3600  # its partition's default
    assert waiting["2"].limit_s == 7200
    assert waiting["2"].where == {"n1", "n2", "n3"}
    assert waiting["4"].barred == "waits for jobs that it depends on"
    assert not waiting["2"].barred
    assert (waiting["2"].fields["user"], waiting["2"].submit_s) == ("bob", NOW - 500)


@pytest.mark.parametrize("shape", SHAPES)
def test_pools(shape: str) -> None:
    """What is free would be counted on nodes of others, or on a drained one."""
    pools = pools_of(read(shape))
    free = {(tuple(sorted(n)), k): int(f) for (n, k), f in
            zip(pools.keys, pools.state.free, strict=True)}  # fmt: skip
    assert free[("n1", "n2"), "cpu"] == 0
    assert free[("n1", "n2"), "mem"] == 4096
    assert free[("g1",), "gpu"] == 2
    assert pools.state.running_limit_s.tolist() == [3000]


def test_host_names_and_clocks() -> None:
    """A node, or an hour, would be lost in the abbreviations of Slurm."""
    assert host_names("n[1-3,07],g1") == ["n1", "n2", "n3", "n07", "g1"]
    assert host_names("r[1-2]n[01-02]") == ["r1n01", "r1n02", "r2n01", "r2n02"]
    assert host_names("") == []
    assert host_names("n[\u00b2-3,4]") == ["n4"]
    for text in ("n[1-99999999]", "r[1-90000]n[1-90000]", "r[1-900][1-900]n[1-900]"):
        with pytest.raises(ValueError, match="more than 100,000 nodes"):
            host_names(text)
    assert [clock_s(t) for t in ("2-03:00:00", "5", "5:30", "1:02:03", "1-2", "INFINITE")] == [
        183_600, 300, 330, 3723, 93_600, None,
    ]  # fmt: skip


def test_a_site_is_only_asked() -> None:
    """A command that changes the cluster would be run, or a site without JSON refused."""
    asked: list[list[str]] = []

    def run(arguments: Sequence[str]) -> str:
        asked.append(list(arguments))
        if "--json" in arguments:
            raise CommandFailed("squeue: unrecognized option '--json'")
        text = columns()
        return {"squeue": text[0], "sinfo": text[1], "scontrol": PARTITIONS}[arguments[0]]

    assert [j.id for j in queue_of_site(run).running] == ["1"]
    assert all(words[0] in ("squeue", "sinfo") or words == ["scontrol", "show", "partition"]
               for words in asked)  # fmt: skip


def one(**job: Any) -> str:
    """A queue of one job."""
    return json.dumps({"jobs": [{"job_id": 1, "partition": "p", **job}]})


def test_arrays_of_any_length() -> None:
    """An array of a thousand million tasks, or a step of 0, would never have been counted out."""
    queue = one(job_state="PENDING", array_job_id=1, array_task_string="0-999999999999:0,7")
    jobs = read_queue(queue, old()[1], "", NOW, ("squeue", "sinfo")).waiting
    assert [jobs[0].id, jobs[-1].id, len(jobs)] == ["1_0", "1_999", 1_000]


@pytest.mark.parametrize(
    ("queue", "nodes", "needle"),
    [
        ("{", old()[1], "squeue: is no JSON"),
        ('{"nodes": []}', old()[1], "squeue: has no list 'jobs'"),
        ("nothing of it", old()[1], "squeue: is neither JSON nor columns"),
        ("JOBID|STATE\n1", old()[1], "squeue, line 2: has 1 cell, not 2"),
        ("NAME|STATE\na|PENDING", old()[1], "has no job_id"),
        (
            one(job_state="RUNNING", nodes="n[1-99999999]"),
            old()[1],
            r"squeue: job 1: n\[1-99999999\] are more than 100,000 nodes; give what squeue prints",
        ),
        (one(job_state="RUNNING", cpus=1e400), old()[1], "squeue: job 1: "),
        (one(job_state="PENDING", cpus="9" * 5_000), old()[1], "squeue: job 1: "),
        (old()[0], '{"nodes": [{"name": "n[1-99999999]"}]}', "node entry 1: .* more than 100,000"),
        (old()[0], '{"nodes": []}', "sinfo: names no node"),
        ('{"jobs": [{"job_id": 1}, {"name": "b"}]}', old()[1], "squeue: job 2 has no job_id"),
        (old()[0], '{"nodes": [{"name": "n", "partitions": 5}]}', "entry 1: partitions is no list"),
        (old()[0], '{"sinfo": [{}, {"nodes": "n1"}]}', "sinfo: node entry 2: nodes is no object"),
        (old()[0], '{"sinfo": [{"nodes": {"nodes": 1}}]}', "node entry 1: nodes is no list"),
        (old()[0], '{"sinfo": [{"node": "n1"}]}', "node entry 1: node is no object; give what"),
        (old()[0], '{"sinfo": [{"partition": "p"}]}', "node entry 1: partition is no object"),
    ],
)
def test_other_texts_are_refused(queue: str, nodes: str, needle: str) -> None:
    """Nonsense would be an empty queue, in which everything starts now."""
    with pytest.raises(BadRequest, match=needle):
        read_queue(queue, nodes, "", NOW, ("squeue", "sinfo"))
