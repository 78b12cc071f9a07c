"""A guide of list schedules: learned orders, and trees that choose among all passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plancast.pipelines.guide.order import Learned, cost_of, hand_written, learn_order
from plancast.pipelines.guide.problems import POLICIES, Source, must_be_span
from plancast.planner.arrays.problem import Problem, encode
from plancast.planner.arrays.schedule import LEAST_COST
from plancast.planner.model.domain import BadRequest, Policy
from plancast.planner.solvers.astar.guides import TreeEnsemble
from plancast.planner.solvers.greedy.greedy import LEARNED
from plancast.planner.solvers.greedy.passes import (
    BATCH_FEATURES,
    OrderGuide,
    batch_features,
    pass_rows,
)
from plancast.planner.solvers.greedy.priority_rules import WAITING
from plancast.predictor.value_model import MEAN, TreeSettings, ValueModel

Floats = NDArray[np.float64]
Progress = Callable[[int, int, str], None]
TREES = TreeSettings(MEAN, trees=400, leaves=31, depth=8, rate=0.05, least=20)
MUCH_DEARER = 0.5
"""Logarithm of cost over the cheapest pass beyond which it does not matter how much dearer."""
FEWEST = 20
"""Batches that are needed to train."""


@dataclass(frozen=True)
class Settings:
    """What batches are cut, and how many orders are learned.

    Parameters
    ----------
    batches : int
        Of each source; a quarter as many to judge by.
    tasks, workers : (int, int)
        Fewest and most of a batch.
    orders : int
        Learned beside the hand-written ones and the learned order for waiting.
    tried : int
        Batches of each source that orders are sought on.
    generations : int
        Of the search for each.
    seed : int
    """

    batches: int = 300
    tasks: tuple[int, int] = (100, 300)
    workers: tuple[int, int] = (6, 16)
    orders: int = 4
    tried: int = 25
    generations: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        must_be_span("tasks", self.tasks)
        must_be_span("workers", self.workers)


@dataclass(frozen=True)
class Trained:
    """The guide, and what is known of it.

    Parameters
    ----------
    guide : OrderGuide
    facts : dict
        What ``plancast guide orders --json`` prints.
    """

    guide: OrderGuide
    facts: dict[str, Any]


def batches_of(source: Source, numbers: range, settings: Settings) -> list[Problem]:
    """Batches of a source by their numbers; each has one of ``POLICIES`` as prices."""
    tasks, workers = (range(low, high + 1) for low, high in (settings.tasks, settings.workers))
    result = []
    for number in numbers:
        request = source.problem(number, settings.seed, tasks, workers)
        policy = Policy(POLICIES[number % len(POLICIES)])
        result.append(encode(replace(request, policy=policy)))
    return result


def pass_costs(problem: Problem, learned: Sequence[Learned]) -> list[float]:
    """Cost of each pass: hand-written ones as ``guide_order.hand_written`` has them, learned."""
    return [*hand_written(problem).values(), *(cost_of(problem, order) for order in learned)]


def train_passes(
    sources: Sequence[Source],
    settings: Settings,
    *,
    judged: Sequence[Source] = (),
    progress: Progress | None = None,
) -> Trained:
    """Learn orders, then trees that choose among these and the hand-written ones.

    Parameters
    ----------
    sources : sequence of Source
        To learn from.
    settings : Settings
    judged : sequence of Source
        To judge by; if none is given, other batches of the same sources.
    progress : callable, optional
        Told (done, all, what).
    """
    total = settings.orders + 2 * len(sources) + len(judged or sources)
    done = 0

    def tell(what: str) -> None:
        nonlocal done
        if progress is not None:
            progress(done, total, what)
        done += 1

    tried: list[Problem] = []
    for source in sources:
        tell(f"cutting batches of {source.name}")
        tried += batches_of(source, range(settings.tried), settings)
    learned = [Learned(WAITING, LEAST_COST, 0.0)]
    for number in range(settings.orders):
        tell(f"seeking order {number + 1}")
        learned.append(
            learn_order(
                tried, beside=learned, generations=settings.generations,
                seed=settings.seed + number,
            )
        )  # fmt: skip
    names = [LEARNED, *(f"{LEARNED} {k + 1}" for k in range(settings.orders))]
    passes = (*hand_written(tried[0]), *((name, LEAST_COST) for name in names))
    rows: list[Floats] = []
    targets: list[Floats] = []
    for source in sources:
        tell(f"trying every pass on {source.name}")
        for problem in batches_of(source, _from(settings.tried, settings.batches), settings):
            costs = np.array(pass_costs(problem, learned))
            if not 1e-9 < costs.min() < math.inf:
                continue
            dearer = np.log(costs / costs.min())
            rows.append(pass_rows(batch_features(problem), len(passes)))
            targets.append(np.minimum(dearer, MUCH_DEARER))
    if len(rows) < FEWEST:
        raise BadRequest(
            f"{len(rows)} batches that cost anything; {FEWEST} are needed: ask for more"
        )
    model = ValueModel(TREES, settings.seed)
    batch = np.repeat(np.arange(len(rows)), len(passes))
    model.fit(np.concatenate(rows), np.concatenate(targets), batch)
    orders = {name: order.weights for name, order in zip(names, learned, strict=True)}
    guide = OrderGuide(passes, orders, TreeEnsemble(**model.trees()))
    beyond = _from(settings.tried + settings.batches, max(FEWEST, settings.batches // 4))
    judgement = {}
    for source in judged or sources:
        tell(f"judging by {source.name}")
        judgement[source.name] = judge(guide, batches_of(source, beyond, settings))
    facts = {
        "trained_on": sorted(source.name for source in sources), "batches": len(rows),
        "tasks": list(settings.tasks), "workers": list(settings.workers),
        "orders": settings.orders, "seed": settings.seed, "judgement": judgement,
        "importances": _importances(model),
    }  # fmt: skip
    terms = {source.name: source.terms for source in sources}
    return Trained(replace(guide, card={**facts, "terms": terms}), facts)


def judge(guide: OrderGuide, problems: Sequence[Problem]) -> dict[str, float]:
    """What the chosen pass costs, beside the hand-written ones; geometric means over batches.

    Returns
    -------
    dict
        ``batches``; ``chosen`` and ``waiting`` (the order that is learned for waiting), relative
        to the hand-written pass that is best on average over these batches; ``chosen_of_each``,
        relative to the cheapest hand-written pass of each batch.
    """
    kept, chosen, waiting, tables = 0, [], [], []
    for problem in problems:
        table = hand_written(problem)
        if not 1e-9 < min(table.values()) < math.inf:
            continue
        name, rule = guide.choose(problem)
        mine = table.get((name, rule))
        if mine is None:
            mine = cost_of(problem, Learned(dict(guide.orders[name]), rule, 0.0))
        kept += 1
        chosen.append(math.log(mine))
        waiting.append(math.log(cost_of(problem, Learned(WAITING, LEAST_COST, 0.0))))
        tables.append([math.log(max(cost, 1e-9)) for cost in table.values()])
    if not kept:
        return {"batches": 0}
    written = np.array(tables)
    usual = float(written.mean(axis=0).min())
    return {
        "batches": kept,
        "chosen": math.exp(float(np.mean(chosen)) - usual),
        "waiting": math.exp(float(np.mean(waiting)) - usual),
        "chosen_of_each": math.exp(float(np.mean(chosen - written.min(axis=1)))),
    }


def _from(first: int, count: int) -> range:
    return range(first, first + count)


def _importances(model: ValueModel) -> dict[str, float]:
    """Share of the trees' gain by feature of the batch, and of which pass is asked about."""
    assert model.booster is not None
    gain = model.booster.feature_importance("gain")
    share = gain / max(gain.sum(), 1e-300)
    told = dict(zip(BATCH_FEATURES, share[: len(BATCH_FEATURES)].tolist(), strict=True))
    told["pass"] = float(share[len(BATCH_FEATURES) :].sum())
    return dict(sorted(told.items(), key=lambda item: -item[1]))
