"""The openb trace as a replay: its rule, and that deadlines tell nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from plancast.pipelines.inputs.openb import read_openb
from plancast.planner.model.domain import BadRequest

NODES = """sn,cpu_milli,memory_mib,gpu,model
n0,8000,16384,2,T4
n1,8000,16384,2,T4
n2,8000,16384,2,T4
n3,4000,8192,0,
"""
POD = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n"  # noqa: E501


def write(folder: Path, runs: tuple[int, int] = (100, 40)) -> Path:
    """Five pods, of which three are batch-like and have a node."""
    (folder / "openb_node_list_all_node.csv").write_text(NODES)
    (folder / "openb_pod_list_gpuspec33.csv").write_text(
        POD
        + f"p0,1000,1024,1,460,T4|P100,BE,Failed,1000,{1000 + runs[0]},1000\n"
        + "p1,1000,1024,0,0,,LS,Running,1010,9999,1010\n"
        + f"p2,2000,1024,1,1000,,BE,Succeeded,1600,{1600 + runs[1]},\n"
        + "p3,99000,1024,0,0,,BE,Succeeded,1700,1800,1700\n"
        + "p4,1000,1024,0,0,,BE,Succeeded,2200,2260,2230\n"
    )
    return folder


def test_the_rule_of_the_trace(tmp_path: Path) -> None:
    """Services would be replayed, shares of a GPU lost, or labels and gaps changed."""
    trace = read_openb(write(tmp_path), press=6.0)
    tasks = {t.id: t for t in trace.request.snapshot.pending}
    assert list(tasks) == ["p0", "p2", "p4"]
    assert trace.left_out == 1
    assert [t.release_s for t in tasks.values()] == [0, 100, 200]
    assert trace.run_s == {"p0": 100, "p2": 40, "p4": 30}
    assert [t.demand["gpu"] for t in tasks.values()] == [1000, 1000, 0]
    assert tasks["p0"].requires == ("T4|P100",)
    assert [w.id for w in trace.request.snapshot.workers] == ["n3", "n0", "n1"]


def test_deadlines_reveal_no_run_time(tmp_path: Path) -> None:
    """A deadline would tell a placer how long its own task runs."""
    first = read_openb(write(tmp_path)).request.snapshot.pending
    other = read_openb(write(tmp_path, (100, 77))).request.snapshot.pending
    assert [t.deadline_s for t in first][:2] == [t.deadline_s for t in other][:2]


def test_bad_files_are_one_sentence(tmp_path: Path) -> None:
    """A missing or foreign file would end in a traceback."""
    with pytest.raises(BadRequest, match=r"openb_node_list_all_node\.csv: cannot be read"):
        read_openb(tmp_path)
    write(tmp_path)
    (tmp_path / "openb_pod_list_gpuspec33.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadRequest, match="has no column 'name'"):
        read_openb(tmp_path)
