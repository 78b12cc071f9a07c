"""inputs.user_files and inputs.files: what users write is read, or refused in one sentence."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plancast.pipelines.inputs.estimate_files import (
    ESTIMATE_COLUMNS,
    read_estimates,
    write_estimates,
)
from plancast.pipelines.inputs.models import PREDICTOR_COLUMNS, TASK_COLUMNS
from plancast.pipelines.inputs.policy_files import read_policy, write_policy
from plancast.pipelines.inputs.user_files import (
    ClusterFile,
    read_cluster,
    read_request,
    read_task_table,
    read_tasks,
    tasks_from_table,
    write_batch,
    write_cluster,
    write_tasks,
)
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import (
    BadRequest,
    DurationEstimate,
    Finished,
    Outcome,
    Policy,
    Prices,
    Running,
    Task,
    Window,
    Worker,
)
from tests.conftest import ROOT, scaled
from tests.oracles.random_requests import random_request
from tests.oracles.speed import least_cpu_s

Put = Callable[[str, str], Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Write a text to a file of that name and give its path."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refusal(read: Callable[[Path], object], path: Path) -> str:
    """The sentence of the refusal, without the folder."""
    with pytest.raises(BadRequest) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{path}: ")
    return text.replace(f"{path.parent}/", "")


# ------------------------------------------------------------------ tasks

FULL_CSV = """id,cpus,mem_mib,gpus,release_s,deadline_s,weight,owner,app,requires,after,requested_s,shards,preemptible,res_disk
a,0.5,1024,0.25,100,200,2.5,ann,blast,ssd zone-1|zone-2,,60,1,false,

b,,,,,,,,,,a,,2,TRUE,7
"""  # noqa: E501
FULL = (
    Task(
        "a",
        {"cpu": 500, "mem": 1024, "gpu": 250},
        100,
        200,
        2.5,
        "ann",
        "blast",
        ("ssd", "zone-1|zone-2"),
        (),
        60,
    ),
    Task("b", {"cpu": 1000, "disk": 7}, release_s=40, after=("a",), shards=2, preemptible=True),
)


def test_csv_means_what_the_docs_say(put: Put) -> None:
    """Would fail if a unit, a default or a separator were read otherwise than documented."""
    assert read_tasks(put("tasks.csv", FULL_CSV), now_s=40) == FULL


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.json"])
def test_every_format_reads_alike(put: Put, tmp_path: Path, name: str) -> None:
    """Would fail if the same tasks came out differently from another format."""
    write_tasks(FULL, tmp_path / name)
    assert read_tasks(tmp_path / name) == FULL
    assert tasks_from_table(read_task_table(tmp_path / name)) == FULL


def test_json_rows_and_domain_tasks(put: Put) -> None:
    """Would fail if JSON with the columns of a table, or with Task's own fields, were refused."""
    rows = '[{"id": "a", "cpus": 2}, {"id": "b", "after": ["a"], "requires": "ssd x|y"}]'
    a, b = read_tasks(put("rows.json", rows))
    assert (a.demand, b.after, b.requires) == ({"cpu": 2000}, ("a",), ("ssd", "x|y"))
    own = '{"tasks": [{"id": "a b", "demand": {"cpu": 1}, "after": []}]}'
    assert read_tasks(put("own.json", own)) == (Task("a b", {"cpu": 1}),)


def test_gzip_and_byte_order_mark(tmp_path: Path) -> None:
    """Would fail if a spreadsheet's CSV or a compressed one needed manual repairing."""
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress("\ufeffid,cpus\r\nå,1\r\n".encode()))
    assert read_tasks(tmp_path / "t.csv.gz") == (Task("å", {"cpu": 1000}),)


@pytest.mark.parametrize(
    ("cores", "millicores"),
    [("0.1", 100), ("0.3", 300), ("4.03", 4030), ("0.0001", 1), ("64", 64000)],
)
def test_demand_is_never_rounded_down(put: Put, cores: str, millicores: int) -> None:
    """Would fail if rounding booked less than was asked, or a decimal's tail booked more."""
    (task,) = read_tasks(put("t.csv", f"id,cpus\na,{cores}\n"))
    assert task.demand == {"cpu": millicores}


UNITS = """id,cpus,mem_mib,gpus,release_s,deadline_s,requested_s
a,500m,4Gi,500m,2024-05-01T12:00:00Z,2024-05-01 16:00+02:00,2h
b,16000m,64G,2,1714564800,,1-02:00:00
c,0.5,512 MB,,,,00:30:00
d,1,100,,,,21m 20s
e,1,100,,,,90
"""


def test_units_as_people_write_them(put: Put) -> None:
    """Would fail if a notation of one tool were refused, or meant another amount."""
    a, b, c, d, e = read_tasks(put("t.csv", UNITS))
    assert a.demand == {"cpu": 500, "mem": 4096, "gpu": 500}
    assert (a.release_s, a.deadline_s, a.requested_s) == (1714564800, 1714572000, 7200)
    assert b.demand == {"cpu": 16_000, "mem": 65_536, "gpu": 2000}
    assert (b.release_s, b.requested_s) == (1714564800, 93_600)
    assert [t.requested_s for t in (c, d, e)] == [1800, 1280, 90]
    assert c.demand["mem"] == 512
    frame = read_task_table(put("t.csv", UNITS))
    assert frame["cpus"].tolist() == [0.5, 16, 0.5, 1, 1]
    assert frame["mem_mib"].tolist() == [4096, 65_536, 512, 100, 100]
    assert frame["requested_s"].tolist() == [7200, 93_600, 1800, 1280, 90]


def test_units_mean_the_same_in_yaml(put: Put) -> None:
    """Would fail if a cluster file refused what a task file takes."""
    text = """
now_s: 2024-05-01T12:00:00Z
workers:
  - {id: a, cpus: 500m, mem: 64G, gpus: 500m, until_s: "2024-05-01T18:00:00+00:00"}
  - {id: b, cpus: 16000m, mem_mib: 4Gi, blocked: [[2024-05-02, 2024-05-03]]}
running:
  - {id: r, cpus: 250m, mem_mib: 1Gi, workers: [a], start_s: 2024-05-01 11:00:00, requested_s: 3h}
"""
    cluster = read_cluster(put("c.yaml", text))
    a, b = cluster.workers
    assert cluster.now_s == 1714564800
    assert a.capacity == {"cpu": 500, "mem": 65_536, "gpu": 500}
    assert a.until_s == 1714564800 + 6 * 3600
    assert b.capacity == {"cpu": 16_000, "mem": 4096}
    assert b.blocked == (Window(1714608000, 1714694400),)
    (run,) = cluster.running
    assert (run.start_s, run.task.requested_s) == (1714561200, 10_800)
    assert run.task.demand == {"cpu": 250, "mem": 1024}


def test_release_defaults_to_submission_then_now(put: Put) -> None:
    """Would fail if a task without release seemed to have waited since 1970."""
    path = put("t.csv", "id,submit_s,release_s\na,50.5,\nb,50,70\nc,,\n")
    assert [t.release_s for t in read_tasks(path, now_s=90)] == [51, 70, 90]


def test_predictor_columns_are_kept(put: Put) -> None:
    """Would fail if what a model learns from were lost on the way."""
    text = "id,cpus,user,queue,num_size,cat_tool,submit_s,after\n7,0.5,ann,q,12,x,5,\n8,,,,,,,7\n"
    frame = read_task_table(put("t.csv", text))
    assert list(frame["id"]) == ["7", "8"]
    assert frame["cpus"][0] == 0.5
    assert np.isnan(frame["num_size"][1])
    assert list(frame["owner"]) == ["ann", ""]
    assert list(frame["cat_tool"]) == ["x", ""]
    assert frame["user"].dtype == object
    assert [t.owner for t in tasks_from_table(frame)] == ["ann", ""]
    assert tasks_from_table(frame)[1].after == ("7",)


BAD_TASKS = [
    (
        "id,cpus\na,1\nb,two\n",
        "row 2, column cpus: 'two' is not a number like 2, 0.5 or 500m",
    ),
    ("id,cpus\na,-1\n", "row 1, column cpus: -1 is negative"),
    ("id,cpus\na,inf\n", "row 1, column cpus: 'inf' is not a number like"),
    ("id,shards\na,1.5\n", "row 1, column shards: 1.5 is not a whole number"),
    ("id,shards\na,0\n", "row 1: task a: shards is 0"),
    ("id,preemptible\na,maybe\n", "row 1, column preemptible: 'maybe' is neither true nor false"),
    ("id,cpus\na,1\na,1\n", "row 2, column id: task a is in row 1 already"),
    ("id,cpus\n,1\n", "row 1, column id: is empty"),
    ("cpus\n1\n", "has no column 'id'"),
    ("id,after\na,z\n", "row 1, column after: task a follows 'z', which is no task"),
    ("id,after\na,b\nb,a\n", "precedence has a cycle: a -> b -> a"),
    ("id,after\na,a\n", "row 1: task a: after names the task itself"),
    ("id,release_s,deadline_s\na,9,5\n", "row 1: task a: deadline_s 5 lies before release_s 9"),
    ("id,cpu\na,1\n", "unknown column 'cpu'; did you mean 'cpus'?"),
    ("id,deadline\na,1\n", "unknown column 'deadline'; did you mean 'deadline_s'?"),
    ("id,memory\na,4Gi\n", "unknown column 'memory'; did you mean 'mem_mib'?"),
    ("id,runtime\na,2h\n", "unknown column 'runtime'; did you mean 'requested_s'?"),
    ("id,mem_mib\na,4Q\n", "row 1, column mem_mib: '4Q' is not an amount of memory like"),
    ("id,requested_s\na,soon\n", "row 1, column requested_s: 'soon' is not a duration like"),
    ("id,deadline_s\na,2h\n", "row 1, column deadline_s: '2h' is not a time like"),
    (
        "id,requires\na,a|b&c\n",
        "row 1, column requires: constraint 'a|b&c' is not understood: put parentheses",
    ),
    (
        "id,requires\na,[a|b]|c\n",
        "row 1, column requires: constraint '[a|b]|c' is not understood: [ ] must stand alone",
    ),
    (
        "id,after\na,\nb,aftercorr:a\n",
        "row 2, column after: task b follows 'aftercorr:a': aftercorr cannot be planned",
    ),
    ("id,after\na,\nb,afterok:z\n", "row 2, column after: task b follows 'z', which is no"),
    ("id,res_cpu\na,1\n", "column 'res_cpu': write cpus, mem_mib or gpus instead"),
    ("id,cpus\na,1,2\n", "row 1: has 3 cells, the header has 2"),
    ("id,id\na,b\n", "column 'id' is there twice"),
    ("id;cpus\na;1\n", "has one column 'id;cpus'; separate columns with commas"),
    ('id,app\na,"open\n', "is not CSV"),
    ("", "is empty; write a header line"),
]


@pytest.mark.parametrize(("text", "sentence"), BAD_TASKS)
def test_bad_task_table_is_named(put: Put, text: str, sentence: str) -> None:
    """Would fail if a mistake passed, or were reported without its place and repair."""
    assert f"tasks.csv: {sentence}" in refusal(read_tasks, put("tasks.csv", text))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1, 2]", "must hold a list of objects"),
        ("{", "is not JSON"),
        ('[{"id": "a", "cpus": [1]}]', "row 1, column cpus: [1] is not a finite number"),
        ('[{"id": {"x": 1}}]', "row 1, column id: {'x': 1} is not text"),
        ('[{"id": "a", "demand": {"cpu": -1}}]', "task a: demand of cpu is -1"),
        ('[{"id": "a", "demand": {}, "wieght": 1}]', "wieght"),
    ],
)
def test_bad_json_tasks_are_named(put: Put, text: str, sentence: str) -> None:
    """Would fail if damaged JSON ended in another error than BadRequest."""
    assert sentence in refusal(read_tasks, put("tasks.json", text))


def test_bad_files_are_named(tmp_path: Path) -> None:
    """Would fail if a missing, truncated or foreign file ended in a traceback."""
    assert "there is no such file" in refusal(read_tasks, tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "is a directory" in refusal(read_tasks, tmp_path / "folder.csv")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"id\n" + bytes(range(65, 90)) * 99)[:-20])
    assert "truncated gzip" in refusal(read_tasks, tmp_path / "t.csv.gz")
    damaged = bytearray(gzip.compress(b"id\n" + bytes(range(65, 90)) * 99))
    damaged[14] ^= 255
    (tmp_path / "d.csv.gz").write_bytes(bytes(damaged))
    assert "gzip file" in refusal(read_tasks, tmp_path / "d.csv.gz")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    assert "is not a Parquet file" in refusal(read_tasks, tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_bytes(b"id,app\na,\xff\xfe\n")
    assert "is not UTF-8" in refusal(read_tasks, tmp_path / "t.csv")
    (tmp_path / "t.xlsx").write_bytes(b"")
    assert "name it .csv, .parquet, .json or .jsonl" in refusal(read_tasks, tmp_path / "t.xlsx")


def test_names_with_spaces_need_json(tmp_path: Path) -> None:
    """Would fail if a CSV were written that reads back as other predecessors."""
    tasks = (Task("a b", {}), Task("c", {}, after=("a b",)))
    with pytest.raises(BadRequest, match=r"holds white space; write \.json"):
        write_tasks(tasks, tmp_path / "t.csv")
    write_tasks(tasks, tmp_path / "t.json")
    assert read_tasks(tmp_path / "t.json") == tasks


# ------------------------------------------------------------------ cluster

CLUSTER = """
now_s: 1000
workers:
  - id: big
    count: 2
    cpus: 64
    mem: 256GiB
    gpus: 1.5
    resources: {disk: 100}
    labels: [ssd, zone-1]
    machine_class: c64
    free_from_s: 1100
    until_s: 9000
    blocked: [[2000, 3000]]
    idle_w: 90
    busy_w: 200.5
    boot_kwh: 0.01
    health: 0.99
  - {id: 7, cpus: 0.5, mem_mib: 512}
running:
  - {id: r, cpus: 2, owner: ann, workers: [big-0, big-1], start_s: 900, preemptible: true}
finished:
  - {id: f, end_s: 950, outcome: failed}
"""


def test_cluster_means_what_the_docs_say(put: Put) -> None:
    """Would fail if a unit or default of the cluster file were read otherwise than documented."""
    cluster = read_cluster(put("cluster.yaml", CLUSTER))
    big = Worker(
        "big-0",
        {"cpu": 64_000, "mem": 262_144, "gpu": 1500, "disk": 100},
        frozenset({"ssd", "zone-1"}),
        "c64",
        1100,
        9000,
        (Window(2000, 3000),),
        90.0,
        200.5,
        0.01,
        health=0.99,
    )
    assert cluster == ClusterFile(
        workers=(big, replace(big, id="big-1"), Worker("7", {"cpu": 500, "mem": 512})),
        now_s=1000,
        running=(
            Running(
                Task("r", {"cpu": 2000}, 900, owner="ann", shards=2, preemptible=True),
                ("big-0", "big-1"),
                900,
            ),
        ),
        finished=(Finished("f", 950, Outcome.FAILED),),
    )


W = "workers:\n  - {id: a, cpus: 1}\n  - {id: b, cpus: 1}\n"
BAD_CLUSTERS = [
    (W + "  - {id: c, cpus: -4}\n", "workers.2.cpus: -4 is negative; write 0 or more"),
    (W + "  - {id: c, cpus: many}\n", "workers.2.cpus: 'many' is not a number like 2, 0.5 or 500m"),
    (W + "  - {id: c}\n", "workers.2.cpus: is missing; add it"),
    (W + "  - {id: c, cpus: 1, cores: 2}\n", "workers.2.cores: is no field here"),
    (W + "  - {id: c, cpus: 1, lables: [x]}\n", "is no field here; did you mean 'labels'?"),
    (W + "  - {id: c, cpus: 1, labels: x}\n", "workers.2.labels: must be a list (it is 'x')"),
    (W + "  - {id: c, cpus: 1, labels: [no]}\n", "workers.2.labels.0: must be text; put it in"),
    (W + "  - {id: c, cpus: 1, labels: ['a|b']}\n", "workers.2: labels: 'a|b' must be one word"),
    (W + "  - {id: c, cpus: 1, health: 2}\n", "workers.2.health: must be 1 or less (it is 2)"),
    (W + "  - {id: c, cpus: 1, count: 0}\n", "workers.2.count: must be 1 or more (it is 0)"),
    (W + "  - {id: c, cpus: 1, until_s: 1.5}\n", "workers.2.until_s: 1.5 is not a whole number"),
    (
        W + "  - {id: c, cpus: 1, mem: 64 pounds}\n",
        "workers.2.mem: '64 pounds' is not an amount",
    ),
    (W + "  - {id: c, cpus: 1, mem: 1Gi, mem_mib: 1}\n", "workers.2: gives both mem and mem_mib"),
    (W + "  - {id: c, cpus: 1, blocked: [[5, 5]]}\n", "workers.2: a window ends at 5"),
    (W + "  - {id: c, cpus: 1, blocked: [5]}\n", "workers.2.blocked.0: must be a pair"),
    (W + "  - {id: c, cpus: 1, machine_class: '*'}\n", "machine_class '*' is the name for any"),
    (W + "  - {id: a, cpus: 1}\n", "workers.2.id: worker a is there already"),
    (W + "  - {id: c, cpus: 1, resources: {cpu: 3}}\n", "workers.2: resources.cpu: write cpus"),
    (W + "running: [{id: r, workers: [x], start_s: 1}]", "running.0.workers: 'x' is no worker"),
    (W + "running: [{id: r, workers: [a]}]", "running.0.start_s: is missing"),
    (W + "running: [{id: r, workers: [a], start_s: 1, cpus: x}]", "running.0.cpus: 'x' is not a"),
    (W + "running: [{id: r, workers: [a], start_s: 1, cpu: 1}]", "running: unknown column 'cpu'"),
    (
        W + "running: [{id: r, workers: [a], start_s: 1, shards: 2}]",
        "running.0: running task r: 1 workers",
    ),
    (W + "nodes: []\n", "nodes: is no field here; did you mean 'workers'?"),
    (W + "workers: []\n", "line 4: is not YAML: 'workers' is there twice"),
    ("workers: []\n", "workers: is empty; list at least one"),
    ("now_s: 1\n", "workers: is missing"),
    ("", "must be a mapping with the fields workers, now_s"),
    ("just words", "must be a mapping with the fields workers, now_s"),
    ("workers:\n  - {id: a, cpus: 1\n", "line 3: is not YAML"),
    ("workers: [!!python/object:os.system {}]", "is not YAML"),
]


@pytest.mark.parametrize(("text", "sentence"), BAD_CLUSTERS)
def test_bad_cluster_is_named(put: Put, text: str, sentence: str) -> None:
    """Would fail if a mistake passed, or were reported without its field and repair."""
    assert sentence in refusal(read_cluster, put("cluster.yaml", text))


def test_capacity_is_never_rounded_up(put: Put) -> None:
    """Would fail if rounding gave a worker more than it has."""
    text = "workers: [{id: a, cpus: 1.0019, mem: 1.5KiB, gpus: 0.1}, {id: b, cpus: 1.001}]"
    a, b = read_cluster(put("c.yaml", text)).workers
    assert a.capacity == {"cpu": 1001, "gpu": 100}
    assert b.capacity == {"cpu": 1001}


# ------------------------------------------------------------------ policy


def test_policy_keeps_defaults(put: Put) -> None:
    """Would fail if a price that is not named became something else than its default."""
    assert read_policy(put("p.yaml", "")) == Policy()
    text = "prices: {kwh: 0.3}\nlevel: 0.8\nmax_wait_s: 60\nhard_deadlines: true\n"
    assert read_policy(put("p.yaml", text)) == Policy(
        Prices(kwh=0.3), 0.8, hard_deadlines=True, max_wait_s=60
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("prices: {late: 1}", "prices.late: is no price; did you mean 'late_h'?"),
        ("prices: {qqq: 1}", "prices.qqq: is no price; there are makespan_h, late_h"),
        ("prices: {late_h: -1}", "price of late_h is -1.0; it must be a finite number from 0"),
        ("prices: {late_h: dear}", "prices.late_h: must be a number (it is 'dear')"),
        ("prices: 3", "prices: must be a mapping of names to values (it is 3)"),
        ("level: 1", "level: must be less than 1 (it is 1)"),
        ("levle: 0.5", "levle: is no field here; did you mean 'level'?"),
        ("max_stretch: 0.5", "max_stretch: must be 1 or more (it is 0.5)"),
        ("hard_deadlines: often", "hard_deadlines: must be true or false (it is 'often')"),
        ("level: .nan", "level: must be a finite number"),
        ("- level", "must be a mapping with the fields prices, level"),
    ],
)
def test_bad_policy_is_named(put: Put, text: str, sentence: str) -> None:
    """Would fail if a misspelt price were ignored: the plan would optimise something else."""
    assert sentence in refusal(read_policy, put("policy.yaml", text))


# ------------------------------------------------------------------ estimates


def test_estimates_table(put: Put) -> None:
    """Would fail if rows in any order, defaults or rounding were read otherwise than documented."""
    text = "task,level,seconds,machine_class\na,0.9,20.2,\na,0.5,10,\na,.5,0,c4\n"
    assert read_estimates(put("e.csv", text)) == {
        "a": {"*": DurationEstimate((0.5, 0.9), (10, 21)), "c4": DurationEstimate((0.5,), (1,))}
    }


@pytest.mark.parametrize("name", ["e.csv", "e.parquet", "e.json"])
def test_estimates_round_trip(tmp_path: Path, name: str) -> None:
    """Would fail if a format lost levels, classes or sources."""
    estimates = generate_batch(40, seed=3).estimates
    write_estimates(estimates, tmp_path / name)
    assert read_estimates(tmp_path / name) == estimates


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("task,level,seconds\na,0.5,x\n", "row 1, column seconds: 'x' is not a duration like"),
        ("task,level,seconds\na,0.5,-3\n", "row 1, column seconds: -3 is negative"),
        ("task,level,seconds\na,,3\n", "row 1, column level: is empty; fill it in"),
        ("task,seconds\na,3\n", "has no column 'level'; add it"),
        ("task,level,secs\na,0.5,3\n", "unknown column 'secs'; did you mean 'seconds'?"),
        ("task,level,seconds\na,0.5,9\na,0.9,3\n", "task a, machine_class *: estimate seconds"),
        ("task,level,seconds\na,0.5,3\na,0.5,3\n", "task a, machine_class *: estimate levels"),
        ("task,level,seconds\na,50,3\n", "must be strictly increasing within (0, 1)"),
    ],
)
def test_bad_estimates_are_named(put: Put, text: str, sentence: str) -> None:
    """Would fail if a damaged estimate passed or lost its place."""
    assert sentence in refusal(read_estimates, put("e.csv", text))


# ------------------------------------------------------------------ docs


def test_every_example_of_the_docs_is_read(put: Put) -> None:
    """Would fail if docs/files.md showed a file that is refused."""
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```\w+ (\S+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    files = {name: put(name, content) for name, content in examples}
    assert len(examples) == len(files) == 7
    tasks = read_tasks(files["tasks.csv"])
    assert [t.id for t in tasks] == ["align", "sort", "train"]
    assert tasks[2].demand == {"cpu": 2000, "mem": 4096, "gpu": 500}
    assert [t.id for t in read_tasks(files["tasks.json"])] == ["align", "sort"]
    assert [t.id for t in read_tasks(files["tasks-own.json"])] == ["align reads"]
    cluster = read_cluster(files["cluster.yaml"])
    assert [w.id for w in cluster.workers] == ["node-0", "node-1", "node-2", "spare"]
    assert (len(cluster.running), len(cluster.finished)) == (1, 1)
    assert read_policy(files["policy.yaml"]) == Policy()
    assert set(read_estimates(files["estimates.csv"])) == {"align", "sort"}
    assert set(read_estimates(files["estimates.json"])) == {"align"}


def test_the_docs_name_every_column_and_field() -> None:
    """Would fail if a column or field were added without a word in docs/files.md."""
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    for name in [*TASK_COLUMNS, *PREDICTOR_COLUMNS, *ESTIMATE_COLUMNS]:
        assert f"`{name}`" in text
    for kind in (Worker, Policy, Prices):
        for field in fields(kind):
            if field.name != "capacity":
                assert re.search(rf"^ *(- )?{field.name}:", text, re.MULTILINE), field.name


# ------------------------------------------------------------------ whole batches and files


@pytest.mark.parametrize("seed", range(25))
def test_a_batch_reads_back_as_it_was(tmp_path: Path, seed: int) -> None:
    """Would fail if what `plancast generate` writes were not what `plancast plan` reads."""
    request = random_request(seed)
    paths = write_batch(request, tmp_path / "new" / "batch")
    assert all(path.exists() for path in paths)
    folder = paths[0].parent

    def without_zeros(task: Task) -> Task:
        return replace(task, demand={r: a for r, a in task.demand.items() if a})

    snapshot = request.snapshot
    cluster = read_cluster(folder / "cluster.yaml")
    assert (cluster.workers, cluster.now_s) == (snapshot.workers, snapshot.now_s)
    assert cluster.finished == snapshot.finished
    assert cluster.running == tuple(
        replace(r, task=without_zeros(r.task)) for r in snapshot.running
    )
    known = {r.task.id for r in cluster.running} | {f.id for f in cluster.finished}
    tasks = read_tasks(folder / "tasks.csv", known=known)
    assert tasks == tuple(without_zeros(t) for t in snapshot.pending)
    assert read_policy(folder / "policy.yaml") == request.policy
    assert read_estimates(folder / "estimates.parquet") == request.estimates
    assert read_request(folder / "request.json") == request


names = st.text("ab 1-_.:#'\"\\é[{&*!%@`,?|>=~", min_size=1, max_size=6)


@settings(max_examples=scaled(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(names.filter(lambda s: s == s.strip()), min_size=1, max_size=4, unique=True))
def test_awkward_names_survive(tmp_path: Path, ids: list[str]) -> None:
    """Would fail if an id that YAML, CSV or JSON has a meaning for were read as something else."""
    cluster = ClusterFile(tuple(Worker(name, {"cpu": 1000}) for name in ids), 5)
    write_cluster(cluster, tmp_path / "c.yaml")
    assert read_cluster(tmp_path / "c.yaml") == cluster
    tasks = tuple(Task(name, {"cpu": 1}, owner=name) for name in ids)
    for suffix in ("csv", "json", "parquet"):
        write_tasks(tasks, tmp_path / f"t.{suffix}")
        assert read_tasks(tmp_path / f"t.{suffix}") == tasks


def test_policy_round_trip(tmp_path: Path) -> None:
    """Would fail if a field of the policy were not written."""
    policy = Policy(Prices(*range(10)), 0.9, True, 5, 2.5, 3)
    write_policy(policy, tmp_path / "p.yaml")
    assert read_policy(tmp_path / "p.yaml") == policy


@pytest.mark.slow
def test_large_files_are_read_in_proportion(tmp_path: Path) -> None:
    """Would fail if reading took a large share of the six seconds that planning may take."""
    took: dict[str, list[float]] = {"tasks": [], "cluster": []}
    for size in (500, 4_000):
        request = generate_batch(size, generate_cluster(size // 10), 1)
        write_tasks(request.snapshot.pending, tmp_path / "t.csv")
        write_cluster(ClusterFile(request.snapshot.workers), tmp_path / "c.yaml")
        assert read_tasks(tmp_path / "t.csv") == request.snapshot.pending
        assert read_cluster(tmp_path / "c.yaml").workers == request.snapshot.workers
        took["tasks"].append(least_cpu_s(lambda: read_tasks(tmp_path / "t.csv"), 3))
        took["cluster"].append(least_cpu_s(lambda: read_cluster(tmp_path / "c.yaml"), 3))
    for small, large in took.values():
        # Linear is 8, quadratic 64.
        assert large < 24 * small


def test_reading_files_loads_no_heavy_library() -> None:
    """Would fail if `plancast validate` had to wait for libraries it does not use."""
    code = (
        "import sys, plancast.pipelines.inputs.user_files; "
        "print([m for m in ('pandas', 'pyarrow', 'sklearn', 'lightgbm', 'mlflow', 'ortools', "
        "'numba', 'typer') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
