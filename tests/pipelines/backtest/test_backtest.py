"""Backtests: the grid, what is kept, forecasts on the replay's clock, the contest of models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from plancast.pipelines.backtest import backtest as grid
from plancast.pipelines.backtest.cell import run_cell
from plancast.pipelines.backtest.estimates import Cell, Estimate, cells_of
from plancast.pipelines.backtest.opened import Backtest
from plancast.pipelines.backtest.promote import contest
from plancast.pipelines.backtest.replay_forecasts import ReplayForecaster
from plancast.pipelines.cli import main
from plancast.pipelines.worth.batches import NO_REQUEST_S
from plancast.planner.instances.generate import swf_text
from plancast.planner.instances.generate_log import generate_log
from plancast.planner.model.domain import BadRequest
from plancast.planner.worlds.dispatchers import DISPATCHERS
from plancast.planner.worlds.replay import bounded_slowdown, replay
from plancast.predictor.forecaster import FIRST_ROWS

TREES = {"n_estimators": 10, "min_child_samples": 10}


@pytest.fixture(scope="module")
def swf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated log of 900 jobs."""
    path = tmp_path_factory.mktemp("log") / "small.swf"
    path.write_text(swf_text(generate_log(900, 12, 32, 7)))
    return path


@pytest.fixture(scope="module")
def test(swf: Path) -> Backtest:
    """The log, opened."""
    return grid.open_backtest(swf, cut_to_request=True)


def _run(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["backtest", *words])
    return int(left.value.code or 0)


def _without_clocks(text: str) -> str:
    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                k: clean(v) for k, v in value.items() if k != "replay_s" and not k.endswith("_ms")
            }
        return [clean(v) for v in value] if isinstance(value, list) else value

    return json.dumps(clean(json.loads(text)))


def test_report(swf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's report is the same byte for byte, kept cells or fresh ones."""
    monkeypatch.chdir(tmp_path)
    words = [str(swf), "--cut-to-request", "--dispatchers", "easy,easypp,sjf-easy"]
    words += ["--estimates", "requested,oracle,oracle:0.3", "--seeds", "0,1", "--jobs", "1"]
    assert _run(*words, "--json", "a.json") == 0
    kept = sorted((tmp_path / "data" / "backtests").iterdir())
    assert _run(*words, "--json", "b.json") == 0
    assert _run(*words, "--fresh", "--json", "c.json") == 0
    first = Path("a.json").read_text()
    assert first == Path("b.json").read_text()
    assert _without_clocks(first) == _without_clocks(Path("c.json").read_text())
    report = json.loads(first)
    # Noise has a cell for each seed; EASY++ has estimates of its own.
    assert len(report["cells"]) == 4 + 1 + 4
    assert len(kept) == 2 * 9
    cells = {(c["dispatcher"], c["estimates"], c["sigma"], c["seed"]): c for c in report["cells"]}
    oracle = cells["easy", "oracle", 0.0, 0]
    asked = cells["easy", "requested", 0.0, 0]
    assert oracle["regret"] == 0.0
    assert asked["regret"] == pytest.approx(asked["bsld_mean"] - oracle["bsld_mean"])
    low, high = asked["regret_ci"]
    assert low <= asked["regret"] <= high
    assert asked["bsld_ci"][0] <= asked["bsld_mean"] <= asked["bsld_ci"][1]
    noise = [cells["easy", "oracle", 0.3, seed]["bsld_mean"] for seed in (0, 1)]
    assert noise[0] != noise[1]


def test_broken_off(test: Backtest, tmp_path: Path) -> None:
    """A cell that was kept is not replayed again; a damaged one is."""
    cells = cells_of(["easy", "sjf-easy"], [Estimate("requested")], [0])
    first = grid.backtest(test, cells[:1], keep=tmp_path)
    found: list[int] = []
    grid.backtest(test, cells, keep=tmp_path, progress=lambda done, of, text: found.append(done))
    assert found == [1, 2]
    next(tmp_path.glob("*-easy-*.npy")).write_bytes(b"damaged")
    found.clear()
    again = grid.backtest(test, cells, keep=tmp_path, progress=lambda d, of, text: found.append(d))
    assert found == [1, 2]
    assert again["cells"][0]["bsld_mean"] == first["cells"][0]["bsld_mean"]


def test_sequences(test: Backtest, swf: Path, tmp_path: Path) -> None:
    """Each part begins on an empty machine, and the mean is over all of them."""
    rows = tmp_path / "rows.txt"
    rows.write_text("0 200  # the first\n300 200\n")
    parts = grid.open_backtest(swf, sequences=rows)
    cell = Cell("easy", Estimate("oracle"))
    found = run_cell(parts, cell)
    assert found["jobs"] == 400
    means = []
    for first in (0, 300):
        part = parts.log.part(slice(first, first + 200))
        result = replay(part, DISPATCHERS["easy"], part.run_s)
        means.append(bounded_slowdown(result).mean())
    assert found["bsld_mean"] == pytest.approx(np.mean(means))
    assert found["wait_mean_s"] >= 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--dispatchers", "nobody"], "'nobody': is none of easy"),
        (["--estimates", "model:2"], "'model:2': write requested"),
        (["--estimates", "guess"], "'guess': write requested"),
        (["--window", "0.5:0.2"], "'0.5:0.2': write START:END"),
        (["--window", ".:1"], "'.:1': write START:END"),
        (["--seeds", "a"], "'a': write whole numbers"),
        (["--seeds", "0,\u00b2"], "'0,\u00b2': write whole numbers"),
        (["--dispatchers", "easy,"], "write names with commas"),
        (["--sequences", "rows.txt"], "rows.txt, line 2: '900'"),
        (["--sequences", "none.txt"], "none.txt: cannot be read"),
        (["--failures", "7:4"], "'7:4': write DAYS:HOURS:SHARE"),
        (["--failures", "7:4:2"], "'7:4:2': write DAYS:HOURS:SHARE"),
        (["--drains", "none.txt"], "none.txt: cannot be read"),
        (["--drains", "rows.txt"], "rows.txt, line 1: '0 100'"),
        (["--drains", "over.txt"], "over.txt, line 2: begins before"),
        (["--drains", "wide.txt"], "drain 2 takes 99 processors; the machine has 32"),
        (["--drains", "wide.txt", "--sequences", "first.txt"], "leave out --failures"),
    ],
)
def test_bad_input(
    swf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    text: str,
) -> None:
    """Bad input ends with exit code 2 and one sentence that names it; nothing is written."""
    monkeypatch.chdir(tmp_path)
    Path("rows.txt").write_text("0 100\n900\n")
    Path("over.txt").write_text("0 100 1\n100 5 1\n")
    Path("wide.txt").write_text("0 100 1\n200 5 99  # too many\n")
    Path("first.txt").write_text("0 100\n")
    code = _run(str(swf), "--estimates", "oracle", "--json", "out.json", *words)
    said = capsys.readouterr().err.strip()
    assert code == 2
    assert text in said
    assert "Traceback" not in said
    assert not Path("out.json").exists()


def test_failures_and_drains(swf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures follow the seed and kill; a drain kills nobody; regret compares like with like."""
    monkeypatch.chdir(tmp_path)
    Path("drains.txt").write_text("# begin seconds processors\n40000 90000 31\n")
    words = [str(swf), "--cut-to-request", "--dispatchers", "easy", "--jobs", "1", "--fresh"]
    words += ["--estimates", "requested,oracle", "--json", "out.json", "--seeds", "0,1"]
    found = {}
    for name, more in (
        ("whole", []),
        ("fails", ["--failures", "0.3:2:0.5"]),
        ("drains", ["--drains", "drains.txt"]),
        ("both", ["--drains", "drains.txt", "--failures", "0.3:2:0.5"]),
    ):
        assert _run(*words, *more) == 0
        report = json.loads(Path("out.json").read_text())
        found[name] = {(c["estimates"], c["seed"]): c for c in report["cells"]}
        assert bool(report["drains"]) == (name in ("drains", "both"))
    assert len(found["whole"]) == len(found["drains"]) == 2
    assert len(found["fails"]) == len(found["both"]) == 4
    killed = {name: [c["killed"] for c in cells.values()] for name, cells in found.items()}
    assert not any(killed["whole"])
    assert not any(killed["drains"])
    assert all(killed["fails"])
    first, second = (found["fails"]["requested", seed] for seed in (0, 1))
    assert first["bsld_mean"] != second["bsld_mean"]
    for seed in (0, 1):
        known = found["fails"]["oracle", seed]["bsld_mean"]
        asked = found["fails"]["requested", seed]
        assert asked["regret"] == pytest.approx(asked["bsld_mean"] - known)
    whole = found["whole"]["requested", 0]["bsld_mean"]
    assert found["drains"]["requested", 0]["bsld_mean"] > whole
    assert found["both"]["requested", 0]["bsld_mean"] > whole


def test_kept_cells_know_their_code(
    test: Backtest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell that other code has made does not stand for this code's."""
    cells = cells_of(["easy"], [Estimate("requested")], [0])
    grid.backtest(test, cells, keep=tmp_path)
    assert grid.is_kept(test, cells[0], tmp_path)
    assert grid.code_of(model=True) != grid.code_of(model=False)
    monkeypatch.setattr(grid, "code_of", lambda model, nodes: "other")
    assert not grid.is_kept(test, cells[0], tmp_path)


def test_log_without_requests(tmp_path: Path, swf: Path) -> None:
    """Requested times are not made up from run times."""
    lines = swf.read_text().splitlines()
    cut = [
        line if line.startswith(";") else " ".join([*line.split()[:8], "-1", *line.split()[9:]])
        for line in lines
    ]
    path = tmp_path / "bare.swf"
    path.write_text("\n".join(cut) + "\n")
    bare = grid.open_backtest(path)
    assert (bare.log.requested_s == NO_REQUEST_S).all()
    with pytest.raises(BadRequest, match="names no requested times"):
        run_cell(bare, Cell("easy", Estimate("requested")))
    with pytest.raises(BadRequest, match="names no requested times"):
        grid.open_backtest(path, cut_to_request=True)


def _model(jobs: Any) -> ReplayForecaster:
    return ReplayForecaster(jobs, trees=TREES)


def test_forecasts_know_only_the_replay(test: Backtest) -> None:
    """Changing the run times of what has not ended changes no earlier forecast."""
    first = replay(test.log, DISPATCHERS["easy-sjbf"], _model(test.jobs))
    moment = int(np.sort(first.end_s)[FIRST_ROWS + 200])
    open_ones = (first.end_s > moment) & (first.start_s < moment)
    later = first.start_s >= moment
    assert open_ones.any()
    assert later.sum() > 100
    run_s = np.where(later, test.log.run_s // 2 + 1, test.log.run_s)
    run_s = np.where(open_ones, np.maximum(test.log.run_s, moment - first.start_s) + 3, run_s)
    jobs = test.jobs.copy()
    jobs["run_s"] = run_s.astype(float)
    jobs["end_s"] = jobs["start_s"] + jobs["run_s"]
    jobs.loc[later, "outcome"] = "failed"
    other = replay(replace(test.log, run_s=run_s), DISPATCHERS["easy-sjbf"], _model(jobs))
    # The forecast of a job that waits on may change by what ends after that moment.
    early = first.start_s < moment
    assert (first.estimate_s[early] == other.estimate_s[early]).all()
    assert (first.start_s[early] == other.start_s[early]).all()
    assert (first.estimate_s != other.estimate_s).any()


def test_the_first_of_a_burst_tells_of_the_others(test: Backtest) -> None:
    """Jobs that crash at once would wait for days as long ones, behind each other."""
    n = FIRST_ROWS + 40
    jobs = test.jobs.iloc[:n].copy().reset_index(drop=True)
    last = jobs["submit_s"].max()
    burst = jobs.index >= n - 40
    jobs.loc[burst, ["user", "app", "requested_s", "cpus"]] = ["new", "new", 36_000.0, 4.0]
    jobs.loc[burst, "submit_s"] = float(last)
    model = _model(jobs)
    for job in range(n - 40):
        model.at_submit(job, int(jobs["submit_s"][job]))
    for job in range(n - 40):
        model.finished(job, int(jobs["run_s"][job]) + 1, int(last) - 1)
    found = [model.at_submit(job, int(last)) for job in range(n - 40, n)]
    waiting = np.arange(n - 40, n)
    assert list(model.renewed(waiting, int(last) + 5)) == []
    for job in range(n - 40, n - 30):
        model.finished(job, 12, int(last) + 12)
    renewed = dict(model.renewed(waiting[10:], int(last) + 20))
    assert sorted(renewed) == waiting[10:].tolist()
    assert all(renewed[job][3] < 0.5 * found[job - (n - 40)][3] for job in renewed)
    # Nothing has ended since, and after ten ends the next look is at twenty.
    assert list(model.renewed(waiting[10:], int(last) + 30)) == []
    model.finished(n - 30, 12, int(last) + 40)
    assert list(model.renewed(waiting[11:], int(last) + 50)) == []


def test_forecasts_learn(test: Backtest) -> None:
    """After the first fit the forecasts differ from requests, and within the kill limit."""
    forecaster = _model(test.jobs)
    found = replay(test.log, DISPATCHERS["easy-sjbf"], forecaster)
    assert forecaster.refits[0][1] >= FIRST_ROWS
    late = test.log.submit_s > forecaster.refits[0][0]
    assert (found.estimate_s <= test.log.requested_s).all()
    log_error = np.abs(np.log(found.estimate_s / test.log.run_s))[late]
    asked = np.abs(np.log(test.log.requested_s / test.log.run_s))[late]
    assert np.median(log_error) < np.median(asked)


def test_window_teaches(swf: Path) -> None:
    """The jobs before a window have taught the model when the window begins."""
    part = grid.open_backtest(swf, cut_to_request=True, window="0.6:1")
    assert len(part.log) + part.before == len(part.jobs)
    forecaster = ReplayForecaster(part.jobs, trees=TREES)
    forecaster.live_through(part.before)
    assert forecaster.refits
    found = replay(part.log, DISPATCHERS["easy"], forecaster)
    assert (found.estimate_s[:50] != part.log.requested_s[:50]).any()


@pytest.mark.slow
def test_contest(test: Backtest) -> None:
    """Without a rival the challenger wins; a worse one never does, and it is said why."""
    best = SimpleNamespace(version="2", trees=TREES, levels=(0.1, 0.5, 0.9), seed=0)
    assert contest(test, None, best, dispatcher="easy")["promoted"]
    assert not contest(test, best, best, dispatcher="easy")["promoted"]
    same = SimpleNamespace(version="3", trees=TREES, levels=(0.1, 0.5, 0.9), seed=0)
    verdict = contest(test, best, same, dispatcher="sjf-easy")
    assert not verdict["promoted"]
    assert "no difference that chance would not make" in verdict["why"]
    assert verdict["difference"] == 0.0


def test_mlflow(test: Backtest, store_here: Path) -> None:
    """Every cell is a child run under one parent, with its numbers and the data's digest."""
    import mlflow

    from plancast.pipelines.tracking.backtests import log_backtest

    cells = cells_of(["easy"], [Estimate("requested"), Estimate("oracle")], [0])
    report = grid.backtest(test, cells)
    parent = log_backtest(report, test.jobs)
    client = mlflow.MlflowClient()
    runs = client.search_runs(
        [client.get_run(parent).info.experiment_id], f"tags.mlflow.parentRunId = '{parent}'"
    )
    assert len(runs) == 2
    assert {r.data.tags["data_digest"] for r in runs} == {test.digest}
    found = {r.data.params["estimates"]: r.data.metrics["bsld_mean"] for r in runs}
    assert found == {c["estimates"]: c["bsld_mean"] for c in report["cells"]}


def test_promote_moves_the_alias(
    test: Backtest, swf: Path, store_here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The registry's champion moves where the verdict says so, and stays where it does not."""
    import mlflow

    from plancast.pipelines.stages.train import train_model
    from plancast.pipelines.tracking import mlflow_runs as tracking
    from plancast.pipelines.tracking.backtests import contestants, log_promotion
    from plancast.pipelines.tracking.evaluations import log_evaluation

    name = tracking.registered_name(test.name)

    def champion() -> str:
        client = mlflow.MlflowClient()
        return str(client.get_registered_model(name).aliases["champion"])

    words = ["promote", str(swf), "--cut-to-request", "--dispatcher", "sjf-easy", "--json"]
    words += ["--window", "0:0.6"]

    def promote() -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            main(words)
        found = capsys.readouterr()
        return int(left.value.code or 0), found.out or found.err

    code, said = promote()
    assert code == 2
    assert "no model of the log" in said
    for place, trees in enumerate((1, 12)):
        settings = {"trees": {"n_estimators": trees, "min_child_samples": 10}}
        train_model(test.jobs, store_here / f"m{place}", levels=(0.5, 0.9), settings=settings)
        result = {"log": test.name, "jobs": 1, "evaluated": 1, "censored": {}, "estimators": {}}
        log_evaluation(result, test.name, parameters={}, model=Path(f"m{place}"), jobs=test.jobs)
    old, new = contestants(test.name)
    assert old is not None
    assert (old.version, new.version) == ("1", "2")
    assert (old.trees["n_estimators"], new.trees["n_estimators"]) == (1, 12)
    assert new.levels == (0.5, 0.9)
    code, said = promote()
    verdict = json.loads(said)
    assert code == 0
    assert verdict["why"].startswith("mean bounded slowdown")
    assert champion() == ("2" if verdict["promoted"] else "1")
    run = mlflow.MlflowClient().get_run(verdict["run"])
    assert run.data.tags["promoted"] == str(verdict["promoted"])
    assert run.data.metrics["difference"] == pytest.approx(verdict["difference"])
    for version, promoted in (("1", True), ("2", False), ("2", True)):
        before = champion()
        log_promotion(test.name, {**verdict, "challenger": version, "promoted": promoted})
        assert champion() == (version if promoted else before)
