"""Guides of list schedules: orders learned beside others, trees that choose, file, command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plancast.pipelines.cli import main
from plancast.pipelines.guide.order import Learned, cost_of, hand_written, learn_order
from plancast.pipelines.guide.passes import Settings, Trained, batches_of, judge, train_passes
from plancast.pipelines.guide.problems import source_of
from plancast.planner.arrays.problem import encode
from plancast.planner.arrays.schedule import EARLIEST_END, LEAST_COST
from plancast.planner.instances.generate import generate_batch, generate_cluster, random_request
from plancast.planner.model.domain import BadRequest, Policy, Prices
from plancast.planner.model.evaluate import validate_response
from plancast.planner.model.messages import Budget, PlanRequest, Status, to_json
from plancast.planner.planning.plan import plan
from plancast.planner.solvers.astar.guides import TreeEnsemble
from plancast.planner.solvers.greedy.greedy import Greedy
from plancast.planner.solvers.greedy.passes import (
    BATCH_FEATURES,
    WEIGHED,
    OrderGuide,
    batch_features,
    orders_from_text,
)
from plancast.planner.solvers.greedy.priority_rules import order_features

SMALL = Settings(
    batches=50, tasks=(20, 40), workers=(3, 5), orders=1, tried=5, generations=3, seed=0
)
UNLIMITED = Budget(None, 1)
NO_TREES = TreeEnsemble(*np.zeros((4, 0), np.int64), *np.zeros((2, 0)))


@pytest.fixture(scope="module")
def trained() -> Trained:
    """A guide of small generated batches."""
    return train_passes([source_of("generated")], SMALL)


def batch(tasks: int, seed: int, **prices: float) -> PlanRequest:
    """A generated batch."""
    request = generate_batch(tasks, generate_cluster(4, seed), seed)
    return replace(request, policy=Policy(Prices(**prices))) if prices else request


def test_the_chosen_pass_beats_the_usual_one(trained: Trained) -> None:
    """A guide would choose no better than whoever takes the same pass for every batch."""
    beyond = range(500, 540)
    found = judge(trained.guide, batches_of(source_of("generated"), beyond, SMALL))
    assert found["batches"] > 30
    assert found["chosen"] < 0.95
    assert (
        found["chosen_of_each"] >= trained.facts["judgement"]["generated"]["chosen_of_each"] / 1.2
    )
    # The figure told is that of batches that were not trained on.
    numbers = range(SMALL.tried + SMALL.batches, SMALL.tried + SMALL.batches + 20)
    again = judge(trained.guide, batches_of(source_of("generated"), numbers, SMALL))
    assert again == trained.facts["judgement"]["generated"]


def test_a_batch_looks_alike_in_minutes_and_hours() -> None:
    """What was learned on batches of minutes would not hold for batches of hours."""
    request = batch(40, 1)
    pending = tuple(
        replace(t, deadline_s=t.deadline_s * 60) if t.deadline_s else t
        for t in request.snapshot.pending
    )
    estimates = {
        task: {c: replace(e, seconds=tuple(60 * s for s in e.seconds)) for c, e in mine.items()}
        for task, mine in request.estimates.items()
    }
    longer = replace(
        request, snapshot=replace(request.snapshot, pending=pending), estimates=estimates
    )
    once, sixty = (batch_features(encode(r)) for r in (request, longer))
    assert once.shape == (len(BATCH_FEATURES),)
    assert np.isfinite(once).all()
    assert once == pytest.approx(sixty, abs=1e-3)
    for seed in range(40):
        problem = encode(random_request(seed))
        if problem.tasks:
            assert np.isfinite(batch_features(problem)).all()
    assert tuple(order_features(encode(request))) == WEIGHED


def test_an_order_beside_others_adds_to_them() -> None:
    """A second order would be sought that is as good as the first where that is good already."""
    problems = batches_of(source_of("generated"), range(6), SMALL)
    first = learn_order(problems, generations=4)
    second = learn_order(problems, beside=[first], generations=4)

    def least(orders: list[Learned]) -> float:
        best = [
            min(*hand_written(p).values(), *(cost_of(p, order) for order in orders))
            for p in problems
        ]
        return float(np.mean(np.log(best)))

    assert second.weights != first.weights
    assert least([first, second]) < least([first]) - 1e-6
    assert second.log_ratio < 0


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -1e9])
def test_whatever_a_guide_says_the_plan_is_valid_and_no_dearer(value: float) -> None:
    """A guide that is wrong, or broken, could cost something."""
    one_leaf = TreeEnsemble(
        np.zeros(1, np.int64), np.full(1, -1), np.full(1, -1), np.zeros(1, np.int64), np.zeros(1),
        np.full(1, value),
    )  # fmt: skip
    passes = (("scarce", LEAST_COST), ("bad", EARLIEST_END))
    guide = OrderGuide(passes, {"bad": {"tail": -1.0, "slack": -2.0}}, one_leaf)
    for seed in range(30):
        request = replace(random_request(seed), budget=UNLIMITED)
        plain, guided = plan(request, "greedy"), plan(request, "greedy", orders=guide)
        assert validate_response(request, guided) == []
        assert guided.status is plain.status
        if plain.cost is not None:
            assert guided.cost is not None
            assert guided.cost <= plain.cost * (1 + 1e-12)


def test_the_pass_is_the_one_that_was_chosen(trained: Trained) -> None:
    """Another order than the guide's could be made, or the guide's be priced as another."""
    rng = np.random.default_rng(0)
    chosen = set()
    for seed, prices in enumerate([{}, {"wait_h": 0.0, "late_h": 0.0, "makespan_h": 1.0}] * 3):
        problem = encode(batch(30, seed, **prices))
        name, rule = trained.guide.choose(problem)
        chosen.add(name)
        table = hand_written(problem)
        weights = trained.guide.orders.get(name)
        cost = (
            table[name, rule] if weights is None
            else cost_of(problem, Learned(dict(weights), rule, 0.0))
        )  # fmt: skip
        alone = Greedy(guide=trained.guide, only_guided=True)
        assert alone.solve(problem, budget=UNLIMITED, rng=rng).claimed == pytest.approx(cost)
        among = Greedy(guide=trained.guide).solve(problem, budget=UNLIMITED, rng=rng)
        plain = Greedy().solve(problem, budget=UNLIMITED, rng=rng)
        assert plain.claimed is not None
        assert among.claimed == pytest.approx(min(cost, plain.claimed))
    assert len(chosen) > 1


def test_a_file_gives_the_same_guide(trained: Trained) -> None:
    """A guide would choose otherwise after it was written and read."""
    again = orders_from_text(trained.guide.to_text(), "o.json")
    assert again.passes == trained.guide.passes
    assert again.orders == trained.guide.orders
    for seed in range(5):
        problem = encode(batch(25, seed))
        assert again.choose(problem) == trained.guide.choose(problem)


def test_harmed_files_are_refused_in_a_sentence(trained: Trained) -> None:
    """A file that was cut or edited would end in a traceback, or in another order."""
    whole = json.loads(trained.guide.to_text())
    for change, told in (
        ({"passes": [["tail", "slowest"]]}, "not as they were written"),
        ({"passes": [["nobody", "least cost"]]}, "there is no order 'nobody'"),
        ({"passes": []}, "it has no pass"),
        ({"orders": {"learned": {"colour": 1.0}}}, "weighs 'colour'"),
        ({"orders": None}, "not as they were written"),
        ({"features": ["tasks"]}, "features are not those"),
        ({"passes": whole["passes"][:1]}, "splits on feature"),
    ):
        with pytest.raises(BadRequest, match=told):
            orders_from_text(json.dumps({**whole, **change}), "o.json")
    with pytest.raises(BadRequest, match="greedy: guide must be"):
        Greedy(guide=3)  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="only_guided needs a guide"):
        Greedy(only_guided=True)


def test_from_batches_to_a_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The command would not lead to a guide that plancast plan takes."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        return int(left.value.code or 0)

    few = ["--batches", "25", "--tasks", "10:12", "--workers", "2:3", "--orders", "0"]
    assert run("guide", "orders", *few, "-o", "o.json", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["judgement"]["generated"]["batches"] > 10
    assert (
        orders_from_text(Path("o.json").read_text(), "o.json").card["batches"] == facts["batches"]
    )
    Path("r.json").write_bytes(to_json(batch(12, 3)))
    told = {}
    for name, more in (("plain", []), ("guided", ["--guide", "o.json"])):
        assert run("plan", "r.json", "--solver", "greedy", "--json", *more) == 0
        told[name] = json.loads(capsys.readouterr().out)
    assert told["guided"]["status"] in (Status.FEASIBLE.value, Status.OPTIMAL.value)
    assert told["guided"]["cost"] <= told["plain"]["cost"]
