"""Guides from collection to plan: problems, lessons, contest, file, command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from plancast.pipelines.cli import main
from plancast.pipelines.guide import collect as guide_collect
from plancast.pipelines.guide.collect import Settings, collect, lesson, read_problem, read_states
from plancast.pipelines.guide.problems import Source, source_of, sources_of
from plancast.pipelines.guide.train import UNGUIDED, contest, lessons, losses, split_problems, train
from plancast.planner.arrays.encode import encode
from plancast.planner.instances.generate import generate_batch, generate_cluster
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.messages import Budget, to_json
from plancast.planner.solvers.astar.astar import AStar
from plancast.planner.solvers.astar.cost_to_go import COSTLIEST, states_of
from plancast.planner.solvers.astar.guides import LearnedGuide, TreeEnsemble, guide_from_text
from plancast.planner.solvers.astar.space import FEATURES
from plancast.predictor.value_model import MEAN, TreeSettings, ValueModel
from tests.conftest import ROOT

SMALL = Settings(problems=24, tasks=(5, 6), workers=(2, 3), turns=1, steps=300)
FEW_TREES = {"mean": TreeSettings(MEAN, trees=10, least=5)}


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lessons of a few small problems."""
    folder = tmp_path_factory.mktemp("lessons")
    collect([source_of("generated")], folder, SMALL, processes=1)
    return folder


@pytest.mark.slow
def test_labels_are_what_an_exact_search_finds(collected: Path) -> None:
    """A guide would be taught other costs than those of the best plans."""
    states, _ = read_states(collected)
    assert (states["cost"] >= states["bound"] * (1 - 1e-9)).all()
    assert (states["cost"] <= COSTLIEST * states["best"] * (1 + 1e-6)).all()
    for name, mine in states.groupby("problem"):
        exact = AStar().solve(
            encode(read_problem(collected, str(name))), budget=Budget(None, 10**6),
            rng=np.random.default_rng(0),
        )  # fmt: skip
        assert mine["best"].iloc[0] == pytest.approx(exact.claimed, rel=1e-9)
        # The best trajectory is among the states: from its first step on its cost is the optimum.
        first = mine[mine["placed"] == 1]
        assert first["cost"].min() == pytest.approx(exact.claimed, rel=1e-9)
        assert (first.loc[first["chosen"], "cost"] <= exact.claimed * (1 + 1e-6)).all()
        assert (mine.loc[mine["exact"], "cost"] >= exact.claimed * (1 - 1e-9)).all()


def test_a_state_is_labelled_with_its_own_best_plan() -> None:
    """The cost of a state off the best trajectory would be that of the problem."""
    seen = 0
    for seed in range(8):
        problem = encode(generate_batch(5, generate_cluster(2, seed=seed), seed=seed))
        found = states_of(problem, np.random.default_rng(0), turns=2)
        if found is None:
            continue
        assert found.features.shape == (len(found.bound), len(FEATURES))
        for parent in np.unique(found.parent):
            mine = found.parent == parent
            assert found.chosen[mine].any()
            assert (found.cost[mine & found.chosen] <= found.cost[mine].min() * (1 + 1e-9)).all()
        seen += int((found.cost > found.best * (1 + 1e-6)).sum())
    assert seen > 10


def test_an_interrupted_collection_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was solved before an interruption would be lost, or the end be another."""
    settings = replace(SMALL, problems=4)
    whole = tmp_path / "whole"
    collect([source_of("generated")], whole, settings, processes=1)
    solved: list[str] = []

    def counted(name: str, *rest: Any) -> pd.DataFrame:
        solved.append(name)
        if len(solved) == 3:
            raise KeyboardInterrupt
        return lesson(name, *rest)

    monkeypatch.setattr(guide_collect, "lesson", counted)
    broken = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        collect([source_of("generated")], broken, settings, processes=1)
    assert not (broken / "states.parquet").exists()
    collect([source_of("generated")], broken, settings, processes=1)
    assert solved == ["generated-0", "generated-1", "generated-2", "generated-2", "generated-3"]
    pd.testing.assert_frame_equal(read_states(broken)[0], read_states(whole)[0])
    with pytest.raises(BadRequest, match="other sources or settings"):
        collect([source_of("generated")], broken, replace(settings, seed=1), processes=1)


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("logs/KTH-SP2-1996-2.swf.gz", None),
        ("gpu/philly-2017.csv.gz", "philly.yaml"),
        ("gpu", None),
        ("dags/wfinstances_tasks.csv.gz", None),
        ("benchmarks/cluster/cluster-50x10-0.json.gz", None),
    ],
)
def test_problems_come_from_every_kind_of_source(
    name: str, columns: str | None, shared_data: Callable[[str], Path]
) -> None:
    """A log would give no problems, ones that cannot be planned, or others each time."""
    root = ROOT / "data" / "columns"
    source = source_of(shared_data(name), root / columns if columns else None)
    assert source.terms
    for number in range(4):
        request = source.problem(number, 1, range(6, 9), range(3, 5))
        again = source.problem(number, 1, range(6, 9), range(3, 5))
        assert to_json(request) == to_json(again)
        assert 6 <= len(request.snapshot.pending) <= 8
        assert 3 <= len(request.snapshot.workers) <= 4
        problem = encode(request)
        assert not problem.unplanned
        assert not problem.infeasible
    assert to_json(request) != to_json(source.problem(number, 2, range(6, 9), range(3, 5)))


def test_training_judges_by_problems_it_has_not_seen(collected: Path) -> None:
    """A guide would be praised for problems that it was trained on."""
    states, _ = read_states(collected)
    to_train, to_judge = split_problems(states, 0.5, (), 0)
    assert to_train
    assert to_judge
    assert not set(to_train) & set(to_judge)
    again = train(collected, share=0.5, candidates=FEW_TREES, judged=3)
    # What is judged by may be anything: it does not touch what is trained.
    judged = states["problem"].isin(to_judge)
    states.loc[judged, ["cost", "bound", *FEATURES]] = 1.0
    features, excess, siblings = lessons(states[~judged])
    model = ValueModel(FEW_TREES["mean"]).fit(features, excess, siblings)
    rows = np.random.default_rng(0).random((50, len(FEATURES)))
    assert np.array_equal(again.guide.trees(rows), model.predict(rows))
    assert set(losses(model, states[judged])) == {"mae", "first_is_best", "regret"}


def test_larger_problems_may_be_the_judges(collected: Path, tmp_path: Path) -> None:
    """Who is best on small problems would be taken for best on large ones."""
    settings = replace(SMALL, problems=8, tasks=(7, 7), seed=1)
    collect([source_of("generated")], tmp_path, settings, processes=1)
    found = train(collected, judge_by=tmp_path, candidates=FEW_TREES, judged=4)
    assert found.facts["judge_tasks"] == [7, 7]
    assert found.facts["judge_problems"] == 4
    every = read_states(collected)[0]
    assert found.facts["train_problems"] == every["problem"].nunique()
    again = train(collected, judge_by=collected, candidates=FEW_TREES, judged=4)
    rows = np.random.default_rng(0).random((50, len(FEATURES)))
    assert np.array_equal(found.guide.trees(rows), again.guide.trees(rows))
    assert (
        found.facts["candidates"]["mean"]["search"] != again.facts["candidates"]["mean"]["search"]
    )


def test_the_contest_counts_what_searches_need(collected: Path) -> None:
    """A guide would win by figures that no search has."""
    names = sorted(read_states(collected)[0]["problem"].unique())[:3]
    problems = {name: encode(read_problem(collected, name)) for name in names}
    best = {
        name: AStar().solve(p, budget=Budget(None, 10**6), rng=np.random.default_rng(0)).claimed
        for name, p in problems.items()
    }
    found = contest({UNGUIDED: None}, problems, best, (1.0, 1.3))[UNGUIDED]
    assert found["score"] == 1.0
    assert found["cost_1"] == pytest.approx(1.0, rel=1e-6)
    assert 1.0 - 1e-9 <= found["cost_1.3"] <= 1.3
    assert found["expansions_1.3"] <= found["expansions_1"]
    steps = [
        AStar(form="guided")
        .solve(p, budget=Budget(None, 10**6), rng=np.random.default_rng(0))
        .steps
        for p in problems.values()
    ]
    assert found["expansions_1"] == pytest.approx(float(np.exp(np.mean(np.log(steps)))))


def run(*arguments: str) -> int:
    """Exit code of a command."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return int(left.value.code or 0)


def test_from_lessons_to_a_plan(
    collected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The commands would not go together."""
    monkeypatch.chdir(tmp_path)
    lessons_folder = ["-o", "lessons", "--problems", "3", "--tasks", "5:5", "--workers", "2:2"]
    assert run("guide", "collect", *lessons_folder, "--processes", "1", "--json") == 0
    card = json.loads(capsys.readouterr().out)
    assert card["sources"]["generated"]["states"] == card["states"] > 0
    assert json.loads((tmp_path / "lessons" / "card.json").read_text()) == card
    few = ["--share", "0.5", "--judged", "2", "-o", "guide.json"]
    assert run("guide", "train", str(collected), *few, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["best"] in facts["candidates"]
    guide = guide_from_text(Path("guide.json").read_text(), "guide.json")
    assert guide.card["name"] == facts["best"]
    (tmp_path / "request.json").write_bytes(to_json(read_problem(collected, "generated-0")))
    plain = ["plan", "request.json", "--solver", "astar", "--json"]
    assert run(*plain, "--guide", "guide.json", "--weight", "1.05") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cost"] <= 1.05 * found["lower_bound"] * (1 + 1e-9)
    assert run(*plain) == 0
    assert found["cost"] >= json.loads(capsys.readouterr().out)["cost"] * (1 - 1e-9)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["plan", "r.json", "--guide", "g.json"], "g.json: is no guide"),
        (["plan", "r.json", "--guide", "s.json"], "--guide: only astar"),
        (["plan", "r.json", "--weight", "1.5"], "--weight: only astar"),
        (["plan", "r.json", "--solver", "astar", "--guide", "none.json"], "none.json"),
        (["plan", "r.json", "--solver", "astar", "--guide", "g.json"], "g.json: is no guide"),
        (["guide", "collect", "-o", "x", "--tasks", "nine"], "--tasks 'nine': write fewest:most"),
        (["guide", "collect", "-o", "x", "--tasks", "9:7"], "--tasks 9:7: write fewest:most"),
        (["guide", "collect", "-o", "x", "--from", "none.swf"], "none.swf"),
        (["guide", "collect", "-o", "x", "--columns", "maps/other.yaml"], "--columns maps/other"),
        (["guide", "train", "nowhere"], "nowhere"),
        (["guide", "train", "x", "--judge-by", "y", "--hold-out", "z"], "give one of them"),
    ],
)
def test_bad_input_is_told_in_a_sentence(
    arguments: list[str], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A wrong option or file would end in a traceback, or leave half a folder behind."""
    monkeypatch.chdir(tmp_path)
    request = generate_batch(3, generate_cluster(2))
    (tmp_path / "r.json").write_bytes(to_json(request))
    (tmp_path / "g.json").write_text("{}")
    nothing = TreeEnsemble(*np.zeros((4, 0), np.int64), *np.zeros((2, 0)))
    (tmp_path / "s.json").write_text(LearnedGuide(nothing).to_text())
    assert run(*arguments) == 2
    found = capsys.readouterr().err
    assert fault in found
    assert found.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_a_source_that_fits_nothing_says_so() -> None:
    """The command would look for a fitting batch forever."""
    nothing = Source("empty", "", lambda *_: generate_batch(1, generate_cluster(1)))
    with pytest.raises(BadRequest, match="empty: no 5 to 6 tasks"):
        nothing.problem(0, 0, range(5, 7), range(1, 3))
    with pytest.raises(BadRequest, match="two sources have this name"):
        sources_of(["generated", "generated"])
