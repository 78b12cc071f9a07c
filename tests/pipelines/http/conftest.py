"""What tests of services share."""

from __future__ import annotations

from pathlib import Path

import pytest

from plancast.pipelines.http.forecasts import ModelForecasts
from plancast.planner.instances.generate import (
    generate_log,
    write_swf,
)
from plancast.predictor import RuntimePredictor, read_log
from tests.conftest import made_once


@pytest.fixture(scope="session")
def forecasts(tmp_path_factory: pytest.TempPathFactory) -> ModelForecasts:
    """A model of a generated log, as saved."""

    def make(home: Path) -> None:
        write_swf(generate_log(jobs=300, users=5), home / "log.swf")
        RuntimePredictor((0.5, 0.9)).fit(read_log(home / "log.swf")).save(home / "model")

    return ModelForecasts(made_once(tmp_path_factory, "served", make) / "model")


@pytest.fixture(scope="session", autouse=True)
def _of_loaded_planners(planners_loaded: None) -> None:
    """Nearly every service here starts one."""
