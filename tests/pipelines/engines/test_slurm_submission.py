"""What Slurm is asked for an order."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from plancast.pipelines.engines.base import Key, Order, Rejected, Unreachable
from plancast.pipelines.engines.slurm import ONCE, CommandFailed, SlurmEngine
from plancast.pipelines.engines.slurm_answers import TWICE
from tests.pipelines.engines.test_slurm import BATCH, NODES, Recorded, engine_of, order


def test_what_slurm_refuses_is_refused_for_that_task() -> None:
    """An uneven gang could be run in another shape, an error be taken for a job."""
    slurm = Recorded()
    engine = engine_of(slurm)
    gang: Key = ("g", 1)
    with pytest.raises(Rejected, match="equally many pieces"):
        engine.start(Order(gang, ("n1", "n1", "n2"), {"cpu": 1000}))
    pair = engine.submission(Order(gang, ("n1", "n2"), {"cpu": 1000}))
    assert pair[pair.index("-w") + 1] == "n1,n2"
    slurm.number = "denied"
    with pytest.raises(Unreachable, match="not a job's number"):
        engine.start(order("t"))
    slurm.failing["sbatch"] = CommandFailed("sbatch: error: Invalid account")
    with pytest.raises(Rejected, match="Invalid account"):
        engine.start(order("u"))


def test_a_task_is_submitted_under_its_account_and_qos() -> None:
    """A site would charge everything to the master's own account, or refuse it."""
    charged = {"account": "phys", "qos": "high", "partition": "short"}
    said = engine_of(Recorded()).submission(
        Order(("t", 1), ("n1",), {"cpu": 1000}, charged=charged)
    )
    assert {"--account=phys", "--qos=high", "--partition=short"} <= set(said)
    plain = engine_of(Recorded()).submission(Order(("t", 1), ("n1",), {"cpu": 1000}))
    assert not [word for word in plain if re.match("--(account|qos|partition)", word)]


def test_generic_resources_are_asked_for_by_their_names() -> None:
    """Slurm would give a job a GPU of any type, and nothing else of what its node has."""
    slurm = Recorded()
    slurm.nodes = slurm.nodes.replace(
        " CPUTot", " Gres=gpu:a100:2,gpu:v100:2,nvme:4(S:0) CPUTot", 1
    )
    engine = engine_of(slurm)

    def asked(workers: tuple[str, ...] = ("n1",), **demand: int) -> list[str]:
        wanted = {"cpu": 1000, **{k.replace("_", ":"): v for k, v in demand.items()}}
        said = engine.submission(Order(("t", 1), workers, wanted))
        return [word.partition("=")[2] for word in said if word.startswith("--gres")]

    assert asked(nvme=2) == ["nvme:2"]
    assert asked(gpu=1500) == ["gpu:2"]
    assert asked(gpu=2000, gpu_a100=2) == ["gpu:a100:2"]
    assert asked(gpu=3000, gpu_a100=2, nvme=1) == ["gpu:a100:2,nvme:1,gpu:1"]
    assert asked(("n1", "n1"), gpu=1000, nvme=1) == ["nvme:2,gpu:2"]
    assert asked(seats=3) == []  # nothing that Slurm knows of


def test_licences_that_slurm_counts_are_asked_for() -> None:
    """Others of the site would hold them, and the task would fail for want of one."""
    slurm = Recorded()
    slurm.licences = "LicenseName=matlab Total=2 Used=0 Free=2 Reserved=0 Remote=no\n"
    engine = engine_of(slurm)
    counted = {"matlab": 1, "user ann": 1, "ours alone": 2}
    said = engine.submission(Order(("t", 1), ("n1", "n2"), {"cpu": 1000}, counted=counted))
    assert [word for word in said if word.startswith("--lic")] == ["--licenses=matlab:1"]


def test_a_job_that_slurm_starts_again_does_nothing_twice(tmp_path: Path) -> None:
    """A slurmctld that was killed takes a job that has run for one that waits."""
    effects, output = tmp_path / "effects", tmp_path / "it's a run.log"
    wanted = ("sh", "-c", 'echo ran >> "$0"; exit 4', str(effects))
    job = Order(("t", 1), ("n1",), {"cpu": 1000}, None, wanted, output=str(output))

    def code(order: Order, batch: str = BATCH) -> int:
        wrapped = SlurmEngine(NODES, Recorded(), batch=batch).submission(order)[-1]
        return subprocess.run(["/bin/sh", "-c", wrapped], check=False).returncode

    assert [code(job), code(job)] == [4, 4]
    assert effects.read_text() == "ran\n"
    # ``plancast log`` shows whatever begins with the output's name.
    assert not list(tmp_path.glob(f"{output.name}*"))
    (tmp_path / f".{output.name}.{BATCH}{ONCE}").write_text("")  # begun, and killed
    assert code(job) == TWICE
    assert effects.read_text() == "ran\n"
    assert code(job, "another") == 4  # the same tasks again, by a state that begins anew
    assert effects.read_text() == "ran\n" * 2
    assert code(replace(job, output=str(tmp_path / "gone" / "x.log"))) == 4
    assert code(replace(job, output="")) == 4
    assert effects.read_text() == "ran\n" * 4
