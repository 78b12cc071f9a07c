"""Durations for other tools: the numbers, and that the tools read them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from plancast.pipelines.cli import main
from plancast.pipelines.operators.durations import (
    dask_durations,
    nextflow_config,
    quantile_with,
)
from plancast.planner.model.domain import BadRequest

TRACE = "task_id\thash\tnative_id\tname\tstatus\texit\tsubmit\tduration\trealtime\t%cpu\tpeak_rss\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A table with a fast and a slow task, one that failed, and one that ran too seldom."""
    rows = [("fast", 1.0), ("fast", 1.2), ("fast", 0.8), ("slow", 20.0), ("slow", 22.0),
            ("slow", 21.0), ("rare", 5.0)]  # fmt: skip
    path = tmp_path / "log.csv"
    lines = [f"{k},{run},1,{name}" for k, (name, run) in enumerate(rows)]
    path.write_text("submit_s,run_s,cpus,app\n" + "\n".join(lines) + "\n")
    return path


def test_dask_takes_the_durations(log: Path) -> None:
    """Dask would go on believing that every task takes half a second."""
    dask = pytest.importorskip("dask")
    scheduler = pytest.importorskip("distributed.scheduler")
    content = yaml.safe_load(dask_durations(log))
    found = content["distributed"]["scheduler"]["default-task-durations"]
    assert found == {"fast": "1s", "slow": "21s"}
    with dask.config.set(content):
        assert scheduler.TaskPrefix("slow").duration_average == pytest.approx(21.0)
        assert scheduler.TaskPrefix("rare").duration_average < 0


def trace_row(k: int, name: str, run_ms: int, peak: str, status: str = "COMPLETED") -> str:
    """A line of a Nextflow trace."""
    return (
        f"{k}\tab/{k:06d}\t{k}\t{name}\t{status}\t0\t{1_700_000_000_000 + 1000 * k}\t"
        f"{run_ms + 500}\t{run_ms}\t90.0\t{peak}\n"
    )


def test_nextflow_gets_rising_attempts(tmp_path: Path) -> None:
    """A retried process would get no more than what killed it, or less than it is known to need."""
    path = tmp_path / "trace.txt"
    rows = [trace_row(k, f"ALIGN (s{k})", 60_000 + 1000 * k, f"{1000 + k} MB") for k in range(60)]
    rows.append(trace_row(90, "ALIGN (big)", 9_000_000, "90 GB", "FAILED"))
    path.write_text(TRACE + "".join(rows))
    text = nextflow_config(path, levels=(0.5, 0.95))
    assert "withName: 'ALIGN' {" in text
    assert "time = { ['120 s', '120 s', '240 s'][task.attempt - 1] }" in text
    assert "memory = { ['1280 MB', '1280 MB', '2560 MB'][task.attempt - 1] }" in text
    assert "maxRetries = 2" in text


def test_names_run_no_code(log: Path) -> None:
    """A name from a trace would be Groovy in the configuration."""
    log.write_text(log.read_text().replace("slow", "a'; System.exit(1) //"))
    (line,) = [s for s in nextflow_config(log).splitlines() if "System" in s]
    assert line == "    withName: 'a...System.exit.1....' {"


def test_quantiles_are_conformal() -> None:
    """A level would be promised that so few tasks cannot promise."""
    values = np.arange(1.0, 10.0)
    assert quantile_with(values, 0.5) == 5.0
    assert quantile_with(values, 0.9) == 9.0
    assert quantile_with(values, 0.95) == 13.5


def test_what_was_written_is_said_as_json(
    tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pages say that every command takes --json; scripts would stumble over these."""
    for kind in ("dask-durations", "nextflow-config"):
        with pytest.raises(SystemExit) as end:
            main(["export", kind, str(log), "-o", str(tmp_path / kind), "--json"])
        assert end.value.code == 0
        assert json.loads(capsys.readouterr().out) == {"written": str(tmp_path / kind)}


def test_what_cannot_be_exported_is_told(
    tmp_path: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty file would be written for a log without names."""
    plain = tmp_path / "plain.csv"
    plain.write_text("submit_s,run_s\n0,1\n")
    out = tmp_path / "out.yaml"
    for words in (["dask-durations", str(plain)], ["nextflow-config", str(plain)]):
        with pytest.raises(SystemExit) as end:
            main(["export", *words, "-o", str(out)])
        assert end.value.code == 2
        assert "names no applications" in capsys.readouterr().err
    assert not out.exists()
    with pytest.raises(BadRequest, match="must rise"):
        nextflow_config(log, levels=(0.9, 0.5))


def sleeping_s(seconds: float) -> float:
    """What a task of the graph does."""
    time.sleep(seconds)
    return seconds


def graph_s(durations: dict[str, str]) -> float:
    """Four tasks of a second and four short ones, submitted in turn to two threads, seconds."""
    dask = pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    with (
        dask.config.set({"distributed.scheduler.default-task-durations": durations}),
        distributed.LocalCluster(**options, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        began = time.monotonic()
        tasks = [
            client.submit(sleeping_s, seconds, key=f"{name}-{k}")
            for k in range(4)
            for name, seconds in (("slow", 1.0), ("fast", 0.05))
        ]
        client.gather(tasks)
        return time.monotonic() - began


@pytest.mark.slow
def test_a_real_dask_graph_is_shortened(tmp_path: Path) -> None:
    """Dask would read the durations and place tasks as if it had none."""
    path = tmp_path / "log.csv"
    kinds = (("slow", 1.0), ("fast", 0.05))
    rows = [f"{k},{run},1,{name}" for k in range(3) for name, run in kinds]
    path.write_text("submit_s,run_s,cpus,app\n" + "\n".join(rows) + "\n")
    content = yaml.safe_load(dask_durations(path))
    known = content["distributed"]["scheduler"]["default-task-durations"]
    found = [(graph_s({}), graph_s(known)) for _ in range(3)]
    print([(round(a, 2), round(b, 2)) for a, b in found])
    without, informed = (sum(times) for times in zip(*found, strict=True))
    assert informed < without
