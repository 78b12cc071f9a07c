"""What was computed is handed over, whatever becomes of its record in MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plancast.pipelines.backtest import backtest as grid
from plancast.pipelines.backtest import evaluate_log
from plancast.pipelines.cli import backtesting, evaluating, main
from plancast.pipelines.stages import tune
from plancast.pipelines.worth import worth
from plancast.planner.model.domain import BadRequest
from plancast.predictor.logs import table as log_table

FOUND: dict[str, Any] = {"log": "l", "best": {}, "trials": [], "folds": 1, "past": 1}


def _refuse(*_: Any, **__: Any) -> Any:
    raise BadRequest("mlflow.db: MLflow cannot use it")


@pytest.fixture(autouse=True)
def _found_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hours of work that take no time, and a store that cannot be used."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate_log, "evaluate_file", lambda *_, **__: (FOUND, None))
    monkeypatch.setattr(evaluating, "estimator_table", lambda _: "table")
    monkeypatch.setattr(evaluating, "_tracked", _refuse)
    monkeypatch.setattr(grid, "open_backtest", lambda *_, **__: SimpleNamespace(jobs=None))
    monkeypatch.setattr(grid, "backtest", lambda *_, **__: FOUND)
    monkeypatch.setattr(backtesting, "cell_table", lambda _: "table")
    monkeypatch.setattr("plancast.pipelines.tracking.backtests.log_backtest", _refuse)
    monkeypatch.setattr(log_table, "read_jobs", lambda *_: None)
    monkeypatch.setattr(tune, "tune", lambda *_, **__: dict(FOUND))
    monkeypatch.setattr(tune, "params_text", lambda _: "train: {}")
    monkeypatch.setattr("plancast.pipelines.tracking.contests.log_tuning", _refuse)


@pytest.mark.parametrize(
    "command",
    ["evaluate l.swf --json out", "backtest l.swf --mlflow --json out", "tune l.parquet -o out"],
)
def test_a_store_that_cannot_be_used_costs_no_result(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An hour's evaluation was lost to a database that another process was making."""
    with pytest.raises(SystemExit) as caught:
        main(command.split())
    assert caught.value.code == 2
    assert "MLflow cannot use it" in capsys.readouterr().err
    assert Path("out").read_text()


def test_worth_prints_its_facts_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--json -`` made a file of that name, where other commands print."""
    monkeypatch.setattr(worth, "material_of", lambda *_, **__: None)
    monkeypatch.setattr(worth, "worth", lambda *_, **__: FOUND | {"queues": False, "verdict": "no"})
    with pytest.raises(SystemExit):
        main(["worth", "l.swf", "--json", "-"])
    assert json.loads(capsys.readouterr().out)["verdict"] == "no"
    assert not Path("-").exists()
