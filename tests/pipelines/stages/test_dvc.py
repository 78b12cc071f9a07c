"""dvc.yaml: the stages are those of the pipeline, with its very paths."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from plancast.pipelines.inputs.config import GENERATOR, Config, load_config
from plancast.pipelines.stages import report
from plancast.pipelines.stages.stage import main
from tests.conftest import ROOT
from tests.pipelines.conftest import PARAMS, SmallRun
from tests.pipelines.stages.test_trial import without_clocks

STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
MODULES = ("ingest", "train", "plan_batch", "trial", "worth_of_log", "report")
OUTS = {
    "ingest": ["jobs", "ingest_facts"],
    "train": ["model", "train_facts", "forecasts"],
    "plan": ["request", "response", "executed", "gantt"],
    "trial": ["trial_facts"],
    "worth": ["worth_facts", "past_plans"],
    "report": ["report"],
}
READS = {
    "ingest": [],
    "train": ["jobs", "ingest_facts"],
    "plan": ["jobs", "model"],
    "trial": ["jobs", "ingest_facts", "train_facts", "model"],
    "worth": ["jobs", "ingest_facts", "model"],
    "report": [
        "ingest_facts", "train_facts", "forecasts", "request", "response", "executed", "gantt",
        "trial_facts", "worth_facts", "model",
    ],
}  # fmt: skip


def dvc(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run DVC in a folder; its stages find this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=cwd, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=800,
        check=False,
    )  # fmt: skip


def copy_of_the_source(home: Path) -> Path:
    """What a source archive would hold of the pipeline, with small parameters."""
    for name in ("pipelines", "planner", "predictor"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "plancast", home / "plancast", symlinks=True)
    (home / ".dvc").mkdir()
    for name in ("dvc.yaml", ".dvcignore", ".dvc/config"):
        shutil.copy(ROOT / name, home / name)
    (home / "params.yaml").write_text(
        PARAMS + f"log: null\nlog_dep: {GENERATOR}\nformat: auto\ncolumns: null\n"
        "timezone: null\nmax_bad: null\nseed: 0\n"
        "policy: null\ntrain: {share: 0.7}\n"
    )
    return home


@pytest.mark.slow
def test_dvc_reads_the_file_in_a_source_archive(tmp_path: Path) -> None:
    """`dvc repro` would refuse to start, or ask for git."""
    home = copy_of_the_source(tmp_path)
    ended = dvc("stage", "list", "--name-only", cwd=home)
    assert ended.stdout.split() == list(OUTS), ended.stderr
    status = dvc("status", "--json", cwd=home)
    assert status.returncode == 0, status.stderr
    assert set(json.loads(status.stdout)) == set(OUTS)


@pytest.mark.parametrize("stage", OUTS)
def test_paths_are_those_of_the_configuration(stage: str) -> None:
    """DVC would look for results where no stage writes them."""
    paths = Config(name="NAME").paths
    said = STAGES[stage]
    outs = [out.replace("${name}", "NAME") for out in said["outs"]]
    assert outs == [str(getattr(paths, name)) for name in OUTS[stage]]
    read = [dep.replace("${name}", "NAME") for dep in said["deps"] if "${name}" in dep]
    assert sorted(read) == sorted(str(getattr(paths, name)) for name in READS[stage])
    code = [dep for dep in said["deps"] if "${" not in dep]
    assert code
    assert all((ROOT / dep).exists() for dep in code)


def test_no_two_stages_write_one_file() -> None:
    """DVC removes the outs of a stage before it runs: another stage's results would be lost."""
    outs = [out for stage in STAGES.values() for out in stage["outs"]]
    assert len(outs) == len(set(outs))
    assert not any(a != b and b.startswith(f"{a}/") for a in outs for b in outs)


def test_commands_and_parameters_exist() -> None:
    """A stage would run nothing, or a change of its parameters go unnoticed."""
    fields = set(load_config(ROOT / "params.yaml").model_fields_set)
    for stage, module in zip(STAGES.values(), MODULES, strict=True):
        assert stage["cmd"] == f"python -m plancast.pipelines.stages.{module}"
        assert f"pipelines/stages/{module}.py" in stage["deps"]
        assert set(stage.get("params", [])) <= fields
    # All but log_dep, which is a dependency: what MLflow is told of a run must be true of it.
    assert {*STAGES["ingest"]["params"], "log_dep"} == set(Config.model_fields)


def test_a_stage_without_its_inputs_says_which_to_run_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stage run alone would end in a traceback."""
    (tmp_path / "params.yaml").write_text("name: x\nlog: a.swf\n")
    ended = subprocess.run(
        [sys.executable, "-m", "plancast.pipelines.stages.ingest"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr == (
        "plancast: params.yaml: log_dep: is planner/instances/generate_log.py, "
        "but the log comes from a.swf; write that, so that dvc sees its changes\n"
    )
    # The others in this process: each would take two seconds to import what it needs.
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(report.run)
    assert left.value.code == 2
    assert capsys.readouterr().err == (
        "plancast: data/interim/x/ingest.json: there is no such file; "
        "run the earlier stages first\n"
    )
    assert [p.name for p in tmp_path.rglob("*")] == ["params.yaml"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_repro_does_what_run_does(small_run: SmallRun, tmp_path: Path) -> None:
    """The two ways through the pipeline would come to different verdicts."""
    home = copy_of_the_source(tmp_path)
    ended = dvc("repro", cwd=home)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    paths = small_run.config.paths
    facts = json.loads((home / paths.trial_facts).read_text())
    assert without_clocks(facts) == without_clocks(small_run.facts["trial"])
    assert (home / paths.jobs).read_bytes() == small_run.path("jobs").read_bytes()
    assert (home / paths.report).stat().st_size > 5000
    again = dvc("repro", cwd=home)
    assert again.stdout.count("didn't change, skipping") == len(STAGES)
    page = home / "pipelines/stages/report.py"
    page.write_text(page.read_text() + "# changed\n")
    assert set(json.loads(dvc("status", "--json", cwd=home).stdout)) == {"report"}
