"""plancast.pipelines.inputs.config: parameters are checked values, and wrong ones are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from plancast.pipelines.inputs.config import GENERATOR, Config, load_config, name_of_log, with_trial
from plancast.planner.model.domain import BadRequest
from plancast.planner.solvers import SOLVERS
from tests.conftest import ROOT


def refusal(text: str, tmp_path: Path, **overrides: object) -> str:
    """The sentence about a parameter file, without the folder."""
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(BadRequest) as caught:
        load_config(path, **overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_the_parameter_file_shows_the_defaults() -> None:
    """Else who deletes a line of params.yaml would run with something it never showed."""
    assert load_config(ROOT / "params.yaml") == Config()


def test_without_a_parameter_file_the_defaults_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`plancast run` outside of the repository would fail for want of a file."""
    monkeypatch.chdir(tmp_path)
    assert load_config() == Config()
    assert load_config(seed=None, name="x", log=None) == Config(name="x")


def test_a_parameter_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    """A misspelt --params would silently run with the defaults."""
    with pytest.raises(BadRequest, match="there is no such file"):
        load_config(tmp_path / "params.yml")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("trail: {}", "p.yaml: trail: is no field here; did you mean 'trial'?"),
        ("trial: {batch: 3}", "p.yaml: trial.batch: is no field here; did you mean 'batches'?"),
        ("trial: {batches: 1}", "p.yaml: trial.batches: must be 2 or more (it is 1)"),
        ("trial: {level: 1}", "p.yaml: trial.level: must be less than 1 (it is 1)"),
        ("trial: {solver: best}", "p.yaml: trial.solver: there is no solver 'best'; choose auto"),
        ("trial: {tiers: [2, 0]}", "p.yaml: trial.tiers.1: must be more than 0"),
        ("train: {levels: [0.5, 1.5]}", "p.yaml: train.levels.1: must be less than 1"),
        ("train: {levels: [0.9, 0.5]}", "p.yaml: train.levels: must rise strictly"),
        ("train: {levels: []}", "p.yaml: train.levels: must name at least one"),
        ("generate: {jobs: many}", "p.yaml: generate.jobs: must be a whole number"),
        ("seed: -1", "p.yaml: seed: must be 0 or more (it is -1)"),
        ("name: ../../etc", "p.yaml: name: String should match pattern"),
        ("- 1", "p.yaml: must be a mapping of parameters to values"),
        ("a: [1,", "p.yaml: line 2: is not YAML"),
        ("seed: 1\nseed: 2", "p.yaml: line 2: is not YAML: 'seed' is there twice"),
    ],
)
def test_a_wrong_parameter_is_named(text: str, sentence: str, tmp_path: Path) -> None:
    """A run would begin, and fail or mislead later, on a value that makes no sense."""
    assert refusal(text, tmp_path).startswith(sentence)


def test_a_wrong_override_is_named_as_the_option(tmp_path: Path) -> None:
    """Who mistypes an option would be sent to look for the fault in the parameter file."""
    assert refusal("seed: 1", tmp_path, name="a b").startswith("--name: ")
    with pytest.raises(BadRequest, match=r"^--level: .*\(it is 2\.0\)$"):
        with_trial(Config(), level=2.0)


def test_overrides_replace_and_none_does_not(tmp_path: Path) -> None:
    """An option that was not given would wipe out what the file says."""
    path = tmp_path / "p.yaml"
    path.write_text("seed: 5\ntrial: {batches: 7}")
    assert load_config(path, seed=None).seed == 5
    assert load_config(path, seed=0).seed == 0
    changed = with_trial(load_config(path), level=0.7, batches=None)
    assert (changed.trial.level, changed.trial.batches, changed.seed) == (0.7, 7, 5)


def test_a_log_names_its_run(tmp_path: Path) -> None:
    """Two logs would share, and overwrite, the folders of one name."""
    path = tmp_path / "p.yaml"
    path.write_text("name: generated")
    assert load_config(path, log="x/KTH-SP2-1996-2.swf.gz").name == "KTH-SP2-1996-2"
    assert load_config(path, log="x/a.swf", name="b").name == "b"


@pytest.mark.parametrize(
    ("log", "name"),
    [
        ("KTH-SP2-1996-2.swf.gz", "KTH-SP2-1996-2"),
        ("/a/b/jobs.parquet", "jobs"),
        ("SDSC-BLUE-2000-4.2-cln.swf.gz", "SDSC-BLUE-2000-4.2-cln"),
        ("my log (1).csv", "my-log-1"),
        ("..swf", "log"),
        ("_x.txt", "x"),
    ],
)
def test_names_of_logs_name_folders(log: str, name: str) -> None:
    """A log with an odd name could not be run at all, or would write outside its folder."""
    assert name_of_log(log) == name
    assert Config(name=name_of_log(log)).name == name


def test_every_registered_solver_may_be_asked_for() -> None:
    """A solver that was added to the registry would be refused by the trial."""
    for name in ("auto", *SOLVERS):
        assert with_trial(Config(), solver=name).trial.solver == name


def test_dvc_watches_what_the_log_comes_from() -> None:
    """`dvc repro` would call a changed log up to date."""
    Config().check_log_dep()
    Config(log="a.swf", log_dep="a.swf").check_log_dep()
    for config in (Config(log="a.swf"), Config(log_dep="a.swf")):
        with pytest.raises(BadRequest, match=r"log_dep: is .*; write that"):
            config.check_log_dep()
    assert (ROOT / GENERATOR).is_file()


def test_artefacts_of_different_names_lie_apart() -> None:
    """The run of one log would destroy that of another."""
    names = [n for n, v in vars(type(Config().paths)).items() if isinstance(v, property)]
    assert len(names) == 18
    paths = {getattr(Config(name=run).paths, name) for run in ("a", "b") for name in names}
    assert len(paths) == 2 * len(names)
    assert not any(path.is_absolute() for path in paths)
