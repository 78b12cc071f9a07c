"""The model inside a running master: it forecasts what comes, and learns from what ends."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plancast.pipelines.master.learner import Learner
from plancast.pipelines.master.learner_link import LearnerProcess
from plancast.planner.instances.generate import generate_log, write_swf
from plancast.predictor import RuntimePredictor, read_log
from tests.pipelines.master.test_living import START_S, Town


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a generated log."""
    home = tmp_path_factory.mktemp("learner")
    write_swf(generate_log(jobs=300, users=5), home / "log.swf")
    RuntimePredictor((0.5, 0.9)).fit(read_log(home / "log.swf")).save(home / "model")
    return home / "model"


def rows(*names: str) -> list[dict[str, Any]]:
    """Tasks of one user and program, that ask for two hours."""
    return [{"id": n, "user": "new", "app": "solver", "requested_s": 7_200} for n in names]


def test_tasks_are_forecast_as_they_come_and_learned_from(tmp_path: Path, model: Path) -> None:
    """A master would go by requested times always, whatever runs under its eyes."""
    town = Town(tmp_path / "m.db", truth=lambda task: 300)
    town.settings = replace(town.settings, model=model)
    town.master.learner = Learner(model)
    firsts: list[int] = []
    for wave in range(4):
        town.submit(*rows(*(f"t{wave}-{k}" for k in range(6))))
        town.master.take_asks()
        assert town.master.let_in() == 6
        found = town.master.mind.request.estimates[f"t{wave}-0"]["*"]
        assert found.source == "model"
        assert found.levels == (0.5, 0.9)
        firsts.append(found.at(0.5))
        town.finish()
    assert abs(firsts[-1] - 300) < abs(firsts[0] - 300)
    assert 200 <= firsts[-1] <= 400
    # A new master has learned what the old one had, from the tasks that have ended.
    ended = town.master.submitted.ended_rows()
    assert len(ended) == 24
    again = Learner(model, ended)
    town.submit(*rows("last"))
    row = town.master.submitted.row("last")
    old = town.master.learner.forecast([row], START_S + 10_000, [])["last"]["*"]
    new = again.forecast([row], START_S + 10_000, [])["last"]["*"]
    assert abs(new.at(0.5) - old.at(0.5)) <= 0.2 * old.at(0.5)
    assert json.loads(row.row)["row"]["app"] == "solver"
    town.kill()


def test_a_model_in_a_process_learns_beside_the_loop(tmp_path: Path, model: Path) -> None:
    """A refit would stop the whole master, or a model that died take all forecasts with it.

    And a first forecast that compiles and imports would be lost where a machine is busy.
    """
    town = Town(tmp_path / "m.db", truth=lambda task: 300)
    town.settings = replace(town.settings, model=model)
    learner = LearnerProcess(model, town.master.submitted.ended_rows)
    town.master.learner = learner
    try:
        town.submit(*rows("a", "b"))
        assert learner.busy  # it loads: what comes waits outside
        town.step()
        assert town.looks.why("a")["state"] == "submitted"
        wait_until_free(learner)
        before = learner._process.ask((loaded, ()), 60)
        town.step()
        assert town.master.mind.request.estimates["a"]["*"].source == "model"
        assert learner._process.ask((loaded, ()), 60) == before
        town.finish()
        wait_until_free(learner)
        assert not learner._news
        learner._process._process.kill()
        town.submit(*rows("c"))
        town.step(2)
        assert learner.lost == 1
        wait_until_free(learner)
        town.submit(*rows("d"))
        town.step()
        assert town.master.mind.request.estimates["d"]["*"].source == "model"
        town.finish()
        assert len(town.starts()) == 4
    finally:
        learner.close()
        town.kill()


def loaded() -> list[str]:
    """Modules of this process, but for what pandas loads of itself bit by bit."""
    return sorted(name for name in sys.modules if not name.startswith("pandas."))


def wait_until_free(learner: LearnerProcess) -> None:
    """Until it has learned what it was told."""
    until = time.monotonic() + 600
    while learner.busy:
        assert time.monotonic() < until
        time.sleep(0.02)
