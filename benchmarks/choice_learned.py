"""Whether a learned choice beats one number: CP-SAT beside ruin and recreate on 31 to 100 tasks.

``python -m benchmarks.choice_learned FILE`` reads the rows that ``benchmarks.choice`` wrote of
``lns`` and ``lns, cpsat 1``, and chooses between them by trees (LightGBM) and by the part of tasks
that wait in the first plan; each family by what was learned on the others.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from benchmarks.choice import SETS, Row, first_plan, rows_of
from plancast.planner.arrays.encode import encode
from plancast.planner.bounds.lower_bound import heads_tails, lower_bound
from plancast.planner.model.messages import PlanRequest
from plancast.planner.planning.choice import waiting_part

ALONE, BESIDE = "lns", "lns, cpsat 1"
FROM = ("engines", "medium", "mixed")
LEAST_TASKS = 31
AT_ONCE_S = 0.1
"""What the first plan's bound proves in less than this needs no choice."""
RESAMPLES = 2_000
TREES: dict[str, dict[str, Any]] = {
    "one split": {"max_depth": 1, "num_leaves": 2, "n_estimators": 1, "learning_rate": 1.0},
    "depth 2, 30 trees": {"max_depth": 2, "num_leaves": 4, "n_estimators": 30},
    "depth 3, 60 trees": {"max_depth": 3, "num_leaves": 8, "n_estimators": 60},
}
LIKELY = (0.3, 0.5, 0.7)
Bools = NDArray[np.bool_]


def features(request: PlanRequest) -> dict[str, float]:
    """What is known of a batch once there is a first plan, in milliseconds."""
    problem = encode(request)
    first = first_plan(problem)
    head, tail = heads_tails(problem)
    prices, count = request.policy.prices, len(problem.tasks)
    seconds = np.where(problem.duration > 0, problem.duration, np.inf).min(axis=1)
    share = np.where(problem.allowed, problem.share, np.inf).min(axis=1)[problem.kind]
    area_s = float((seconds * share * problem.shards).sum()) / len(problem.capacity)
    cost = problem.cost(first)
    return {
        "tasks": count, "workers": len(problem.capacity),
        "pairs": int(problem.allowed[problem.kind].sum()),
        "gangs": float((problem.shards > 1).mean()),
        "followers": float((np.diff(problem.pred_ptr) > 0).mean()),
        "waiting priced": prices.wait_h, "energy priced": prices.kwh,
        "lateness priced": prices.late_h + prices.misses,
        "load": area_s / float((head + tail).max()),
        "waiting part": waiting_part(problem, first),
        "mean wait": float((first.start - head).mean() / seconds.mean()),
        "releases": float(problem.release.max() / first.end.max()),
        "first gap": 1.0 - lower_bound(problem) / cost if cost > 0 else 0.0,
    }  # fmt: skip


class Cases:
    """Batches planned both ways, as columns."""

    def __init__(self, rows: list[Row]) -> None:
        ways: dict[tuple[str, str], dict[str, Row]] = defaultdict(dict)
        for row in rows:
            if row["set"] in FROM and row["tasks"] >= LEAST_TASKS:
                ways[row["set"], row["case"]][row["way"]] = row
        both = {
            key: (found[ALONE], found[BESIDE]) for key, found in ways.items()
            if {ALONE, BESIDE} <= found.keys()
            and not (found[ALONE]["proved"] and found[ALONE]["took_s"] < AT_ONCE_S)
        }  # fmt: skip
        read = {(name, case.name): case.read for name in FROM for case in SETS[name].cases()}
        known = [features(read[key]()) for key in both]
        self.names = list(known[0])
        self.known = np.array([[one[name] for name in self.names] for one in known])
        pairs = list(both.values())
        self.family = np.array([alone["family"] for alone, _ in pairs])
        self.extra = np.array([100 * (b["cost"] / a["cost"] - 1) for a, b in pairs])
        self.proved = np.array([[a["proved"], b["proved"]] for a, b in pairs])
        self.took_s = np.array([[a["took_s"], b["took_s"]] for a, b in pairs])
        self.gain = self.proved[:, 1] & ~self.proved[:, 0]

    def tell(self, name: str, beside: Bools) -> None:
        """Print what a choice comes to against ruin and recreate alone."""
        extra = np.where(beside, self.extra, 0.0)
        column = beside.astype(int)
        rows = np.arange(len(beside))
        ratio = np.log(np.maximum(self.took_s, 0.01))
        ratio = ratio[rows, column] - ratio[:, 0]
        worst = max((extra[self.family == f].mean(), str(f)) for f in set(self.family))
        proofs = int(self.proved[rows, column].sum())
        low, high = interval(extra)
        few, many = np.exp(interval(ratio))
        print(
            f"{name:32s} beside {beside.sum():3d} of {len(beside)}, cost {extra.mean():+.3f}% "
            f"[{low:+.3f}, {high:+.3f}], worst family {worst[0]:+.3f} ({worst[1]}), "
            f"proved {proofs}, time x{np.exp(ratio.mean()):.2f} [{few:.2f}, {many:.2f}]"
        )


def interval(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """95% of the mean, by bootstrap over cases."""
    rng = np.random.default_rng(0)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(RESAMPLES)]
    return np.percentile(means, [2.5, 97.5])


def main() -> None:
    """Print all choices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    cases = Cases(rows_of(parser.parse_args().file))
    waiting = cases.known[:, cases.names.index("waiting part")]
    everywhere = np.ones(len(waiting), np.bool_)
    cases.tell("never", ~everywhere)
    cases.tell("always", everywhere)
    cases.tell("the better by hindsight", (cases.extra < 0) | ((cases.extra <= 0) & cases.gain))
    for name, settings in TREES.items():
        likely = np.zeros(len(waiting))
        for family in set(cases.family):
            others = cases.family != family
            trees = lightgbm.LGBMClassifier(
                min_child_samples=5, num_threads=1, verbose=-1, random_state=0, **settings
            ).fit(cases.known[others], cases.gain[others])
            likely[~others] = trees.predict_proba(cases.known[~others])[:, 1]
        for least in LIKELY:
            cases.tell(f"{name}, above {least}", likely > least)
    picked = ~everywhere
    for family in set(cases.family):
        others = cases.family != family
        sign = 2 * cases.gain[others].astype(int) - 1
        known = waiting[others]
        best = max(np.unique(known), key=lambda most: (sign * (known <= most)).sum())
        picked[~others] = waiting[~others] <= best
    cases.tell("waiting part, learned", picked)
    for most in (0.08, 0.1, 0.12, 0.15, 0.2, 0.3):
        cases.tell(f"waiting part up to {most}", waiting <= most)


if __name__ == "__main__":
    main()
