"""A real Slurm in a network namespace, for tests."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from plancast.pipelines.engines.slurm import run_command
from tests.conftest import ROOT

UP = ROOT / ".ci" / "slurm-up"


class Inside:
    """Runs commands where the Slurm of a folder is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, arguments: Sequence[str]) -> str:
        """The standard output of a command."""
        net, conf = f"--net={self.folder}/net", f"SLURM_CONF={self.folder}/slurm.conf"
        return run_command(["nsenter", net, "env", conf, *arguments])


@contextmanager
def running_slurm() -> Iterator[Inside]:
    """slurmctld, slurmdbd and three slurmd; skips the test where packages or rights are missing."""
    # Sockets have short names only.
    folder = Path(tempfile.mkdtemp(prefix="plancast-", dir="/tmp"))
    with (folder / "up.log").open("w+") as log:
        up = subprocess.run([UP, folder], stdout=log, stderr=log, check=False, timeout=600)
        log.seek(0)
        said = log.read().strip()
    if up.returncode == 3:
        shutil.rmtree(folder)
        pytest.skip(f"no Slurm here: {said.splitlines()[-1]}")
    try:
        assert up.returncode == 0, said
        yield Inside(folder)
    finally:
        subprocess.run([UP, folder, "down"], check=False, timeout=60)
        time.sleep(0.5)
        shutil.rmtree(folder, ignore_errors=True)
