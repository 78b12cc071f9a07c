"""Where Slurm's clients are installed and no cluster answers, every command says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from plancast.pipelines.cli import main
from plancast.pipelines.engines.slurm import COMMANDS

WORDS = {
    "eta": ["eta", "--site", "slurm", "--model", "m"],
    "slurm-nice": ["export", "slurm-nice", "--model", "m"],
    "slurm-cluster": ["export", "slurm-cluster", "-o", "cluster.yaml"],
    "submit": ["submit", "tasks.csv", "--site", "slurm", "--command", "./step {id}"],
    "advice": ["submit", "tasks.csv", "--site", "slurm", "--command", "./step {id}", "--advice"],
    "serve": ["master", "serve", "--engine", "slurm", "--state", "master.db"],
}
FAULTS = {
    "fatal: Could not establish a configuration source": 1,
    "error: Unable to contact slurm controller (connect failure)": 1,
    "error: this cluster is of another release": 1,
    "": 127,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", WORDS)
def test_a_slurm_that_does_not_answer_is_told(
    name: str,
    fault: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A laptop with slurm-client on it, and no VPN, would show a traceback."""
    clients = tmp_path / "bin"
    clients.mkdir()
    for command in {*COMMANDS, "sinfo", "sacct", "squeue", "scontrol", "sbatch"}:
        client = clients / command
        client.write_text(f"#!/bin/sh\necho '{command}: {fault}' >&2\nexit {FAULTS[fault]}\n")
        client.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    (home / "tasks.csv").write_text("id,requested_s\na,60\n")
    monkeypatch.chdir(home)
    monkeypatch.setenv("PATH", f"{clients}:/usr/bin:/bin")
    with pytest.raises(SystemExit) as left:
        main(WORDS[name])
    assert left.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("plancast: ")
    assert said.err.count("\n") == 1
    assert "slurm" in said.err
    assert [file.name for file in home.iterdir()] == ["tasks.csv"]
