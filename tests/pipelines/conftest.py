"""One small run of the whole pipeline, and empty MLflow stores, shared by the tests."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import joblib
import pytest

from plancast.pipelines import planner_process
from plancast.pipelines.cli import main
from plancast.pipelines.inputs.config import Config, Paths, load_config
from tests.conftest import ROOT, made_once
from tests.pipelines.charts.opened import Opened
from tests.pipelines.engines.inside import Inside, running_slurm

PARAMS = """
name: tiny
generate: {jobs: 600, users: 10, procs: 32}
trial: {batches: 3, batch_size: 20, level: 0.9}
worth: {batches: 3}
"""


@dataclass(frozen=True)
class SmallRun:
    """A finished ``plancast run`` in a folder of its own."""

    home: Path
    config: Config
    facts: dict[str, Any]

    def path(self, name: str) -> Path:
        """An artefact by its name in ``Paths``, absolute."""
        relative: Path = getattr(Paths(self.config.name), name)
        return self.home / relative

    def read(self, name: str) -> Any:
        """A JSON artefact by its name in ``Paths``."""
        return json.loads(self.path(name).read_text())


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """``plancast run --json`` on a tiny generated log, in a folder with an awkward name."""

    def make(folder: Path) -> None:
        home = folder / "a run [1]"
        home.mkdir()
        (home / "params.yaml").write_text(PARAMS)
        printed = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
            patch.chdir(home)
            # Worker processes would take longer to start than these batches to plan.
            with joblib.parallel_config("sequential"), pytest.raises(SystemExit) as exit_:
                main(["run", "--json"])
        assert exit_.value.code == 0
        (folder / "facts.json").write_text(printed.getvalue())

    made = made_once(tmp_path_factory, "small_run", make)
    # A copy for each process: tests write into it.
    home = tmp_path_factory.mktemp("copy") / "a run [1]"
    shutil.copytree(made / "a run [1]", home)
    config = load_config(home / "params.yaml")
    text = (made / "facts.json").read_text().replace(str(made / home.name), str(home))
    return SmallRun(home, config, json.loads(text))


@pytest.fixture(scope="session")
def planners_loaded() -> Iterator[None]:
    """Planners come from a process without threads that has loaded all they need, once.

    Each would take a second for that. Those of `plancast serve` and `plancast master serve` in
    processes of their own start as they do for users.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.oracles.loaded_planner"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # from where `tests` is found
        forkserver.ensure_running()
        patch.setattr(planner_process, "CONTEXT", context)
        yield


@pytest.fixture
def store_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_store: Path) -> Path:
    """An empty folder with an empty MLflow store in it, as the current directory."""
    from plancast.pipelines.tracking.store import STORE

    target = tmp_path / STORE / "mlflow.db"
    target.parent.mkdir(parents=True)
    shutil.copy(mlflow_store, target)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def slurm() -> Iterator[Inside]:
    """A real Slurm, which every test leaves with its nodes up and no job of its own."""
    with running_slurm() as found:
        yield found


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium without a window, or a skip that names what is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    """Opens pages in Chromium and collects their faults."""
    found = Opened(browser)
    yield found
    found.close()


@pytest.fixture(autouse=True)
def no_slow_machine_is_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes more than ten seconds says so on standard error; how long is the machine's."""
    from plancast.pipelines.cli import common

    monkeypatch.setattr(common, "PIPED_S", 3600.0)
