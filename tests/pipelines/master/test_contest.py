"""A challenger inside a running master: it is promoted where its plans are better, and kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plancast.pipelines.master import learner_link
from plancast.pipelines.master.contest import Contest
from plancast.pipelines.master.learner import Learner
from plancast.pipelines.master.learner_link import ModelRow
from plancast.planner.instances.generate import generate_log, write_swf
from plancast.planner.model.domain import DurationEstimate
from plancast.predictor import RuntimePredictor, read_log
from tests.pipelines.master.test_living import START_S

LEVELS = (0.5, 0.9)
DAY_S = 86_400


def run_times(number: int, seed: int = 3) -> list[int]:
    """One minute for most, hours for some."""
    rng = np.random.default_rng(seed)
    return [int(s) for s in rng.choice([60, 120, 7_000, 10_000], number, p=[0.4, 0.3, 0.2, 0.1])]


def guess(seconds: float) -> DurationEstimate:
    """A forecast around some seconds."""
    return DurationEstimate(LEVELS, (int(seconds), int(1.2 * seconds)), "model")


def judged(champion: Sequence[float], challenger: Sequence[float], truth: list[int]) -> Any:
    """The verdict over jobs that come faster than four processors can run them."""
    contest = Contest(4, len(truth))
    for k, run_s in enumerate(truth):
        name = f"t{k}"
        contest.forecast({name: {"*": guess(champion[k])}}, {name: {"*": guess(challenger[k])}})
        contest.ended(name, START_S + 500 * k, run_s, {"requested_s": 12_000, "user": f"u{k % 5}"})
    assert contest.complete
    return contest.verdict()


def test_better_forecasts_are_promoted_and_worse_ones_are_not() -> None:
    """Whatever was fitted last would forecast, however it plans."""
    truth = run_times(400)
    wrong = [500_000 / s for s in truth]
    found = judged(wrong, truth, truth)
    assert found["promoted"]
    assert found["difference_ci"][1] < 0
    assert not judged(truth, wrong, truth)["promoted"]
    same = judged(truth, truth, truth)
    assert not same["promoted"]
    assert same["difference"] == 0.0


def test_what_only_one_of_them_forecast_does_not_count() -> None:
    """The challenger would be judged by jobs that it was fitted on."""
    contest = Contest(4, 1)
    contest.ended("before", START_S, 60, {"requested_s": 100})
    assert not contest.complete


class Life:
    """Tasks that come and end under a learner's eyes, ten together."""

    def __init__(self, learner: Learner, now_s: int) -> None:
        self.learner = learner
        self.now_s = now_s
        self.number = 0

    def go(self, tasks: int) -> None:
        """So many more tasks come, ten together, and end before the next ten come."""
        for _ in range(tasks // 10):
            rows = []
            for run_s in run_times(10, self.number + 1):
                self.number += 1
                app = "short" if run_s < 1_000 else "long"
                row = {"id": f"t{self.number}", "cpus": 2, "requested_s": 12_000, "app": app,
                       "user": f"user {self.number % 3}"}  # fmt: skip
                rows.append((json.dumps({"row": row}), run_s))
            new = [ModelRow(row, self.now_s, None, None, None) for row, _ in rows]
            self.learner.forecast(new, self.now_s, [])
            learner_link.learn([
                ModelRow(row, self.now_s, self.now_s, self.now_s + run_s, "completed")
                for row, run_s in rows
            ])  # fmt: skip
            self.now_s += 12_000


def test_a_challenger_takes_the_champions_place(
    store_here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refit would go unjudged into the plans, or a promotion be forgotten at a restart."""
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_swf(generate_log(jobs=300, users=5), tmp_path / "log.swf")
    model = RuntimePredictor(LEVELS, refit_s=DAY_S).fit(read_log(tmp_path / "log.swf"))
    model.save(tmp_path / "model")
    kept = tmp_path / "master.model"
    learner = Learner(tmp_path / "model", kept=kept, procs=2, ends=60)
    monkeypatch.setattr(learner_link, "_LEARNER", [learner])
    first, usual = learner.champion, learner._forecast

    def forecast(predictor: RuntimePredictor, *more: Any) -> Any:
        found = usual(predictor, *more)
        if predictor is not first:
            return found
        return {name: {"*": guess(500_000 / one["*"].seconds[0])} for name, one in found.items()}

    monkeypatch.setattr(learner, "_forecast", forecast)
    trained_s = int(model.history.known_until_s)
    life = Life(learner, trained_s + 2 * DAY_S)
    life.go(10)
    assert learner.contest is not None
    assert learner.facts["refits"] == 1
    assert len(first.forecaster.refits) == len(model.forecaster.refits)
    life.go(120)
    assert learner.facts["contests"] >= 1
    assert learner.facts["promotions"] == 1, learner.facts
    assert learner.champion is not first
    assert learner.champion.forecaster.refits != first.forecaster.refits

    # The run is in MLflow, with the model, which is champion there, too.
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    promoted = [run for run in runs if run.data.tags.get("promoted") == "True"]
    assert len(promoted) == 1
    assert promoted[0].data.metrics["difference"] < 0
    client = mlflow.MlflowClient()
    assert int(client.get_model_version_by_alias("runtime-master", "champion").version) == 1

    # Another day begins with it; another model to begin with takes its place.
    again = Learner(tmp_path / "model", kept=kept)
    assert again.champion.history.known_until_s > trained_s
    model.fit(read_log(tmp_path / "log.swf").iloc[:250]).save(tmp_path / "other")
    assert Learner(tmp_path / "other", kept=kept).champion.history.known_until_s <= trained_s
