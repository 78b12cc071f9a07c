"""``plancast evaluate``: its report, its options, its complaints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plancast.pipelines.backtest.evaluate_log import parse_span
from plancast.pipelines.cli import main
from plancast.planner.instances.generate import generate_log, write_swf


def run(*arguments: str) -> int:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as leave:
        main(arguments)
    return int(leave.value.code or 0)


def test_evaluate_writes_its_report(store_here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command would not run, its JSON lack what is promised, or MLflow not know of it."""
    from plancast.pipelines.tracking import mlflow_runs as tracking

    log, out = store_here / "log.swf", store_here / "report.json"
    write_swf(generate_log(600, 8, 64, 0), log)
    code = run("evaluate", str(log), "--refit", "20d", "--levels", ".5,.9", "--json", str(out))
    assert code == 0
    report = json.loads(out.read_text())
    assert report["log"] == "log.swf"
    assert report["evaluated"] <= 420
    assert set(report["estimators"]["model"]["coverage"]) == {"0.5", "0.9"}
    assert report["estimators"]["model"]["predict_p99_ms"] > 0
    shown = capsys.readouterr().out
    assert "last_two" in shown
    run_id = shown.split("tracking: run ")[1].split()[0]
    with tracking.continued(run_id):
        pass  # refused if the store did not know it


@pytest.mark.slow
def test_an_evaluation_need_not_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever only looks would get a store, or a word beside the JSON."""
    monkeypatch.chdir(tmp_path)
    write_swf(generate_log(600, 8, 64, 0), "log.swf")
    assert run("evaluate", "log.swf", "--levels", ".5,.9", "--json", "-", "--no-track") == 0
    assert json.loads(capsys.readouterr().out)["log"] == "log.swf"
    assert [path.name for path in tmp_path.iterdir()] == ["log.swf"]


def test_bad_options_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped span or level would end in a traceback."""
    log = tmp_path / "log.swf"
    write_swf(generate_log(100, 4, 64, 0), log)
    for option, value in (
        ("--refit", "soon"),
        ("--refit", "0d"),
        ("--refit", "30"),
        ("--levels", ".9,.5"),
    ):
        assert run("evaluate", str(log), option, value) == 2
        said = capsys.readouterr().err
        assert option in said
        assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "seconds"), [("30d", 2592000.0), ("1.5h", 5400.0), ("90m", 5400.0), ("2w", 1209600.0)]
)
def test_spans(text: str, seconds: float) -> None:
    """A month would be read as thirty seconds."""
    assert parse_span(text) == seconds
