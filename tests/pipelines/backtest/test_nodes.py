"""Logs on the workers of a cluster file: what jobs ask for, what is reported, what is refused."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from plancast.pipelines.backtest import backtest as grid
from plancast.pipelines.backtest.cell import run_cell
from plancast.pipelines.backtest.estimates import Cell, Estimate, cells_of
from plancast.pipelines.backtest.nodes import asks_of
from plancast.pipelines.cli import main
from plancast.planner.model.domain import BadRequest
from plancast.predictor.schema import canonical

CLUSTER = """workers:
  - {id: v, count: 2, cpus: 16, mem: 64GiB, gpus: 2, labels: [V100]}
  - {id: t, count: 2, cpus: 16, mem: 64GiB, gpus: 4, labels: [T4]}
  - {id: c, cpus: 32, mem: 128GiB}
"""
OPENB = (
    "job_id,submit_time_s,start_time_s,runtime_s,requested_time_s,cpus,mem_mib,gpus,num_gpu,"
    "gpu_milli,gpu_spec,qos,status\n"
)
PHILLY = (
    "job_id,submit_time_s,start_time_s,runtime_s,requested_time_s,cpus,gpus,queue,"
    "submit_hour,submit_weekday\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cluster file, and both traces in small form."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    rng = np.random.default_rng(0)
    rows = [
        f"p{k},{30 * k},{30 * k},{int(rng.integers(20, 4000))},,{int(rng.integers(1, 9))}.0,4096,"
        f"{gpus},1,{int(1000 * gpus)},{spec},{'LS' if k % 3 else 'BE'},Succeeded\n"
        for k in range(60)
        for gpus, spec in [[(0.5, ""), (1.0, "V100|T4"), (0.25, "T4"), (0.0, "")][k % 4]]
    ]
    rows.append("p99,2000,2000,50,,2.0,1024,1.0,1,1000,A100,LS,Failed\n")
    (tmp_path / "openb.csv").write_text(OPENB + "".join(rows))
    rows = [
        f"{k},{60 * k},,{int(rng.integers(60, 9000))},,,{[1, 1, 2, 4, 8][k % 5]},vc{k % 2},0,0\n"
        for k in range(60)
    ]
    (tmp_path / "philly.csv").write_text(PHILLY + "".join(rows))
    return tmp_path


def run(*words: object) -> tuple[int, str]:
    """Exit code and all output of ``plancast backtest``."""
    printed = io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        pytest.raises(SystemExit) as exit_,
    ):
        main(["backtest", *map(str, words)])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code, printed.getvalue()


def report_of(*words: object) -> dict[str, Any]:
    """The report of a backtest, from its JSON."""
    code, text = run(*words, "--json", "report.json", "--jobs", 1)
    assert code == 0, text
    report: dict[str, Any] = json.loads(Path("report.json").read_text())
    return report


def asked(cluster: Path, **columns: Any) -> Any:
    """What one job with some columns asks for."""
    jobs = canonical(
        pd.DataFrame({"job_id": ["j"], "submit_s": [0.0], **{k: [v] for k, v in columns.items()}})
    )
    asks = asks_of(jobs, cluster, "log")
    task = asks.kinds[int(asks.kind[0])]
    return dict(task.demand), task.shards, task.requires, bool(asks.fits[0])


def test_what_a_job_asks_for(folder: Path) -> None:
    """A gang would stay one piece, half a GPU become none, or a label be lost."""
    cluster = folder / "cluster.yaml"
    assert asked(cluster, cpus=4.0, mem_mib=100.5) == ({"cpu": 4000, "mem": 101}, 1, (), True)
    assert asked(cluster, gpus=0.25) == ({"gpu": 250}, 1, (), True)
    assert asked(cluster, gpus=1.5) == ({"gpu": 2000}, 1, (), True)
    assert asked(cluster) == ({"cpu": 1000}, 1, (), True)
    assert asked(cluster, gpus=8.0, cpus=16.0) == ({"cpu": 8000, "gpu": 4000}, 2, (), True)
    assert asked(cluster, gpus=6.0) == ({"gpu": 3000}, 2, (), True)
    assert asked(cluster, cpus=60.0) == ({"cpu": 30000}, 2, (), False)
    assert asked(cluster, cpus=60.0, num_shards=4.0)[1:] == (4, (), True)
    assert asked(cluster, gpus=2.0, partition="V100,T4,V100")[2:] == (("V100|T4",), True)
    assert asked(cluster, gpus=2.0, partition="A100")[2:] == (("A100",), False)
    with pytest.raises(BadRequest, match=r"log: job j: its partition is no label expression"):
        asked(cluster, partition="a&(b")


def test_partitions_are_nothing_where_workers_have_no_labels(folder: Path) -> None:
    """Every job of a Slurm site would be left out for its partition's name."""
    (folder / "bare.yaml").write_text("workers:\n  - {id: w, cpus: 8, mem: 8GiB}\n")
    assert asked(folder / "bare.yaml", cpus=2.0, partition="long")[2:] == ((), True)


def test_openb_and_philly_in_small_form(folder: Path) -> None:
    """A trace's jobs would be left out in silence, or figures have other names than a pool's."""
    words = ("openb.csv", "--columns", "openb", "--cluster", "cluster.yaml", "--jitters", 2)
    found = report_of(
        *words,
        "--estimates",
        "oracle:0.5",
        "--dispatchers",
        "kube-least,kube-most,best-fit,fgd,easy,planner",
    )
    assert (found["jobs"], found["workers"], found["left_out_jobs"]) == (60, 5, ["p99"])
    assert [c["dispatcher"] for c in found["cells"]][-1] == "planner"
    assert all(c["bsld_mean"] >= 1 and c["jitter"]["n"] == 2 for c in found["cells"])
    assert "left out: 1 job that fits no worker (p99)" in " ".join(
        run(*words, "--estimates", "oracle")[1].split()
    )
    wide = report_of(
        "philly.csv", "--columns", "philly", "--cluster", "cluster.yaml", "--estimates", "oracle"
    )
    assert (wide["jobs"], wide["procs"], wide["left_out"]) == (60, 12, 0)
    pool = report_of(
        "philly.csv",
        "--columns",
        "philly",
        "--procs",
        12,
        "--estimates",
        "oracle",
        "--dispatchers",
        "easy",
    )
    assert wide.keys() == pool.keys()
    assert wide["cells"][0].keys() == pool["cells"][0].keys()
    assert pool["workers"] is None


def test_a_cell_is_kept_for_its_cluster_alone(folder: Path) -> None:
    """Figures of other workers would be reported as those of these."""
    words = ("philly.csv", "--columns", "philly", "--estimates", "oracle", "--dispatchers", "easy")
    (folder / "large.yaml").write_text(
        "workers:\n  - {id: w, count: 60, cpus: 8, mem: 8GiB, gpus: 8}\n"
    )
    first = report_of(*words, "--cluster", "cluster.yaml")["cells"][0]
    other = report_of(*words, "--cluster", "large.yaml")["cells"][0]
    assert first["wait_mean_s"] > other["wait_mean_s"] == 0
    again = report_of(*words, "--cluster", "cluster.yaml")["cells"][0]
    assert again == first


def test_forecasts_are_learned_on_the_replays_own_clock(folder: Path) -> None:
    """The model would not be asked, or sequences and windows replayed as one log."""
    test = grid.open_backtest("philly.csv", cluster="cluster.yaml", window="0.5:1")
    assert len(test.log) == 30
    facts = run_cell(test, Cell("planner", Estimate("model")), jitters=1)
    assert facts["jobs"] == 30
    assert facts["jitter"]["n"] == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--procs", 4), "leave out --procs, --failures and --drains"),
        (("--failures", "7:4:0.1"), "leave out --procs, --failures and --drains"),
        (("--dispatchers", "sjf"), "with --cluster it is one of kube-least, kube-most, best-fit"),
        (("--estimates", "requested"), "names no requested times"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(
    folder: Path, words: tuple[object, ...], says: str
) -> None:
    """An option would be left out in silence, or end in a traceback."""
    words = (
        "philly.csv",
        "--columns",
        "philly",
        "--cluster",
        "cluster.yaml",
        "--estimates",
        "oracle",
        *words,
    )
    code, text = run(*words, "--jobs", 1)
    assert code == 2
    assert says in " ".join(text.split())
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("running:\n  - {id: old, cpus: 2, workers: [c], start_s: -3}\n", "names running"),
        ("limits: {user: 8}\n", "names limits"),
        ("  - {id: d, cpus: 1, until_s: 50}\n", "names free_from_s, until_s and blocked"),
    ],
)
def test_a_cluster_file_that_says_more_is_refused(folder: Path, more: str, says: str) -> None:
    """What runs on the workers, or limits of users, would be left out in silence."""
    (folder / "more.yaml").write_text(CLUSTER + more)
    with pytest.raises(BadRequest, match=says):
        grid.open_backtest("philly.csv", cluster="more.yaml")


def test_dispatchers_without_forecasts_have_one_cell_each() -> None:
    """The same replay would be made once for every estimate."""
    estimates = [Estimate("requested"), Estimate("oracle", sigma=0.3)]
    cells = cells_of(["fgd", "easy"], estimates, [0, 1], nodes=True)
    assert [(c.dispatcher, c.estimate.name, c.seed) for c in cells] == [
        ("fgd", "requested", 0),
        ("easy", "requested", 0),
        ("easy", "oracle:0.3", 0),
        ("easy", "oracle:0.3", 1),
    ]
