"""The demonstration of the living master at a small size, on Dask and on a real Slurm."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.pipelines.engines.inside import Inside

SMALL = ("--tasks", "12", "--waves", "1", "--kills", "1")


def shown_by(*command: str) -> str:
    """What the demonstration prints, which must end well."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 acknowledged" in done.stdout
    return done.stdout


@pytest.mark.timeout(1_800)
@pytest.mark.waits
def test_waves_a_drain_and_kills_on_dask() -> None:
    """A task could be lost or run twice where master and worker are killed under it."""
    demo = (sys.executable, "-m", "benchmarks.demo_live", "dask", "--nodes", "w0,w1", *SMALL)
    assert "worker w1 killed" in shown_by(*demo)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.waits
def test_waves_a_drain_and_kills_on_slurm(slurm: Inside) -> None:
    """The same where a node goes down and comes back."""
    inside = (
        "nsenter",
        f"--net={slurm.folder}/net",
        "env",
        f"SLURM_CONF={slurm.folder}/slurm.conf",
    )
    demo = (sys.executable, "-m", "benchmarks.demo_live", "slurm", "--nodes", "n1,n2,n3", *SMALL)
    assert "node n3: RESUME" in shown_by(*inside, *demo)
