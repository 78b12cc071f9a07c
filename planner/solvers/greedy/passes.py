"""Guides of list scheduling: which order and which rule suit a batch.

No order is best for all batches: where waiting has a price short tasks go first, where the
makespan has one long tails do. A guide holds orders, written and learned ones, and trees that
tell from a batch how much dearer than the cheapest each pass will be; so one pass can be made
where else twenty are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plancast.planner.arrays.problem import Problem
from plancast.planner.arrays.schedule import EARLIEST_END, FAR, LEAST_COST
from plancast.planner.bounds.lower_bound import area_makespan_h, heads_tails
from plancast.planner.model.domain import TERMS, BadRequest
from plancast.planner.model.evaluate import HOUR_S
from plancast.planner.solvers.astar.guides import Floats, TreeEnsemble, read_guide
from plancast.planner.solvers.greedy.priority_rules import ORDERS

FORMAT = "plancast orders 1"
RULES = {"earliest end": EARLIEST_END, "least cost": LEAST_COST}
WEIGHED = (
    *ORDERS, "latest_s", "slack_s", "tail_s", "shortest_s", "weight", "undated",
)  # fmt: skip
"""What a learned order weighs: names of ``priorities.order_features``."""
BATCH_FEATURES = (
    "tasks", "workers", "tasks_per_worker", "path", "area", "due_share", "slack", "least_slack",
    "length_spread", "area_spread", "width", "widest", "width_spread", "weight_spread",
    "released_share", "release", "links", "choice", "long", "median_length",
    *(f"price_{term}" for term in TERMS),
)  # fmt: skip
"""Logarithms of the sizes; critical path and area over the larger of them; share of tasks with a
deadline, and the mean and the first decile of their slack; spreads over means; shares of a worker
that tasks take; releases; precedence links a task; share of workers to choose from; long and
median durations; each price over the sum of all."""


def batch_features(problem: Problem) -> Floats:
    """What the trees are told of a batch. Shape (len(BATCH_FEATURES),).

    Times are over the larger of critical path and work over workers, so that a batch of minutes
    looks like one of hours.
    """
    tasks, workers = len(problem.tasks), len(problem.workers)
    head, tail = heads_tails(problem)
    path, area = float((head + tail).max()), area_makespan_h(problem) * HOUR_S
    span = max(path, area, 1.0)
    length = problem.shortest.astype(np.float64)
    share = np.where(problem.allowed, problem.share, np.inf).min(axis=1)[problem.kind]
    work = length * problem.shards * share
    due = problem.deadline < FAR // 2
    slack = ((problem.deadline - problem.raw_release - length) / span)[due]
    prices = np.abs(problem.prices)
    return np.array(
        [
            np.log(tasks), np.log(workers), np.log(tasks / workers), path / span, area / span,
            due.mean(), slack.mean() if len(slack) else 0.0,
            np.quantile(slack, 0.1) if len(slack) else 0.0,
            length.std() / max(length.mean(), 1.0), work.std() / max(work.mean(), 1e-9),
            share.mean(), share.max(), share.std(),
            problem.weight.std() / max(problem.weight.mean(), 1e-9),
            (problem.raw_release > 0).mean(), problem.raw_release.mean() / span,
            problem.pred_ptr[-1] / tasks, problem.allowed.mean(),
            np.quantile(length, 0.9) / span, np.quantile(length, 0.5) / span,
            *(prices / max(prices.sum(), 1e-12)),
        ]
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class OrderGuide:
    """Orders, and trees that say which of them suits a batch.

    Parameters
    ----------
    passes : tuple of (str, int)
        Order (of ``priorities.ORDERS`` or `orders`) and rule of each list schedule.
    orders : mapping of str to mapping of str to float
        Learned orders: weights of ``WEIGHED``.
    trees : TreeEnsemble
        Over ``BATCH_FEATURES`` and a column for each pass, 1 for the one that is asked about;
        less is better.
    card : mapping
        What it was trained on and how good it was, for people.

    Raises
    ------
    BadRequest
        For unknown orders, rules or weights, no pass at all, or trees that split on features
        that are not there.
    """

    passes: tuple[tuple[str, int], ...]
    orders: Mapping[str, Mapping[str, float]]
    trees: TreeEnsemble
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.passes:
            raise BadRequest("guide of orders: it has no pass")
        for name, weights in self.orders.items():
            unknown = sorted(set(weights) - set(WEIGHED))
            if unknown:
                raise BadRequest(
                    f"guide of orders: {name} weighs {unknown[0]!r}, which is no feature"
                )
        for name, rule in self.passes:
            if name not in self.orders and name not in ORDERS:
                raise BadRequest(f"guide of orders: there is no order {name!r}")
            if rule not in RULES.values():
                raise BadRequest(f"guide of orders: there is no rule {rule!r}")
        self.trees.must_fit(len(BATCH_FEATURES) + len(self.passes))

    def choose(self, problem: Problem) -> tuple[str, int]:
        """The pass that suits a problem best; of equals, and where nothing is said, the first."""
        said = self.trees(pass_rows(batch_features(problem), len(self.passes)))
        return self.passes[int(np.argmin(np.where(np.isnan(said), np.inf, said)))]

    def to_text(self) -> str:
        """The guide as JSON, for ``orders_from_text``."""
        names = {rule: name for name, rule in RULES.items()}
        whole = {
            "format": FORMAT, "features": list(BATCH_FEATURES), "card": dict(self.card),
            "orders": {name: dict(weights) for name, weights in self.orders.items()},
            "passes": [[order, names[rule]] for order, rule in self.passes],
            "trees": self.trees.as_lists(),
        }  # fmt: skip
        return json.dumps(whole, allow_nan=True)


def pass_rows(features: Floats, passes: int) -> Floats:
    """Rows of the trees for each pass of a batch. Shape (passes, features + passes)."""
    return np.hstack([np.tile(features, (passes, 1)), np.eye(passes)])


def orders_from_text(text: str | bytes, source: str) -> OrderGuide:
    """The guide that ``OrderGuide.to_text`` wrote.

    Parameters
    ----------
    text : str or bytes
    source : str
        Its file, for messages.

    Raises
    ------
    BadRequest
        One sentence with the file and what is wrong with it.
    """
    whole, columns = read_guide(text, source, FORMAT, BATCH_FEATURES, "plancast guide orders")
    try:
        orders = {
            str(name): {str(k): float(v) for k, v in weights.items()}
            for name, weights in whole["orders"].items()
        }
        passes = tuple((str(order), RULES[rule]) for order, rule in whole["passes"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadRequest(
            f"{source}: orders and passes are not as they were written; train the guide again"
        ) from None
    try:
        return OrderGuide(passes, orders, TreeEnsemble(**columns), whole["card"])
    except BadRequest as error:
        raise BadRequest(f"{source}: {error}") from None
