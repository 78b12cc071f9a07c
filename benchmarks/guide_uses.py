"""Where a guide pays beside the proof of small problems, and where it does not.

Its dives on problems far larger than its lessons, beams, first plans for CP-SAT. Part of
``make bench-guide``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from plancast.pipelines.guide.problems import Source
from plancast.planner.arrays.encode import encode
from plancast.planner.arrays.problem import Problem, Schedule
from plancast.planner.model.messages import Budget, Status
from plancast.planner.solvers import SOLVERS
from plancast.planner.solvers.astar.guides import LearnedGuide

Row = dict[str, float]
SIZES = ((13, 4), (20, 4), (30, 5), (60, 8))
"""Tasks and workers."""
MOVES = 20_000
"""Of ruin and recreate, whose plan is what costs are compared with."""
WIDTH = 4
"""Of the beams: states of a depth. Dives may expand as many: one may end in a dead end."""
WEIGHT = 1.2
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "dives by the bound": {"form": "guided", "weight": WEIGHT},
    "dives by the guide": {"form": "guided", "weight": WEIGHT},
    "beam by the bound": {"form": "beam", "width": WIDTH},
    "beam by the guide": {"form": "beam", "width": WIDTH},
}
PROOF_STEPS = 3_000
"""Of CP-SAT, for a proof."""


def solved(
    problem: Problem, solver: str, budget: Budget, first: Schedule | None = None, **more: Any
) -> tuple[float, float, Status, Schedule | None]:
    """Cost, CPU seconds, status and schedule."""
    began = time.process_time()
    found = SOLVERS[solver](**more).solve(
        problem, budget=budget, rng=np.random.default_rng(0), incumbent=first
    )
    cost = math.inf if found.schedule is None else problem.cost(found.schedule)
    return cost, time.process_time() - began, found.status, found.schedule


def size_rows(
    sources: Sequence[Source], guide: LearnedGuide, count: int, seed: int
) -> dict[str, dict[str, list[Row]]]:
    """Cost over that of ruin and recreate, and CPU seconds, of each way by size.

    Parameters
    ----------
    sources : sequence of Source
        None that the guide was trained on.
    guide : LearnedGuide
    count : int
        Problems of each source and size.
    seed : int
    """
    result: dict[str, dict[str, list[Row]]] = {}
    for tasks, workers in SIZES:
        mine = result.setdefault(f"{tasks} x {workers}", {})
        budget = Budget(None, WIDTH * tasks)
        for source in sources:
            for number in range(count):
                sizes = range(tasks, tasks + 1), range(workers, workers + 1)
                problem = encode(source.problem(number, seed, *sizes))
                reference = solved(problem, "lns", Budget(None, MOVES))[0]
                if not reference > 0:
                    continue
                for name, more in WAYS.items():
                    if name.endswith("guide"):
                        more = {**more, "guide": guide}
                    solver = "astar" if more else "greedy"
                    cost, cpu_s, _, _ = solved(problem, solver, budget, **more)
                    row = {"cost": cost / reference, "cpu_s": cpu_s}
                    mine.setdefault(name, []).append(row)
    return result


def hint_rows(problems: Sequence[Problem], guide: LearnedGuide) -> dict[str, list[Row]]:
    """CP-SAT from the greedy plan and from a guided dive: CPU seconds, the dive's included."""
    result: dict[str, list[Row]] = {}
    for problem in problems:
        greedy = solved(problem, "greedy", Budget(None, 1))
        dive = solved(
            problem, "astar", Budget(None, WIDTH * len(problem.tasks)),
            form="guided", guide=guide, weight=WEIGHT,
        )  # fmt: skip
        for name, first in (("greedy", greedy), ("guided dive", dive)):
            cost, cpu_s, status, _ = solved(
                problem, "cpsat", Budget(None, PROOF_STEPS), first[3], tick_s=1
            )
            result.setdefault(name, []).append(
                {"first": first[0], "cost": cost, "cpu_s": first[1] + cpu_s,
                 "proved": status is Status.OPTIMAL}
            )  # fmt: skip
    return result


def section(facts: dict[str, Any]) -> list[str]:
    """Lines of the page."""
    lines = [
        "", "## Larger problems", "",
        "The same guide, whose lessons have at most 12 tasks. Cost over that of ruin and recreate "
        f"after {MOVES:,} moves, median (in brackets the CPU seconds of a call, median); "
        "from the sources above, none of which it was trained on. A dive follows one state a "
        f"depth, a beam {WIDTH}; both expand {WIDTH} states for each task.", "",
    ]  # fmt: skip
    sizes = facts["sizes"]
    names = list(next(iter(sizes.values())))
    lines += ["| tasks x workers | problems | " + " | ".join(names) + " |"]
    lines += ["|---" * (2 + len(names)) + "|"]
    for size, ways in sizes.items():
        cells = []
        for name in names:
            rows = [row for row in ways[name] if math.isfinite(row["cost"])]
            if not rows:
                cells.append("no plan")
                continue
            cost = float(np.median([row["cost"] for row in rows])) - 1
            missing = len(ways[name]) - len(rows)
            cells.append(
                f"{cost:+.1%} ({np.median([row['cpu_s'] for row in rows]):.2g} s"
                + (f"; none for {missing})" if missing else ")")
            )
        lines.append(f"| {size} | {len(ways[names[0]])} | " + " | ".join(cells) + " |")
    hints = facts["hints"]
    greedy, dive = hints["greedy"], hints["guided dive"]
    first = [
        d["first"] / g["first"] for d, g in zip(dive, greedy, strict=True)
        if g["first"] > 0 and math.isfinite(d["first"])
    ]  # fmt: skip
    spent = [d["cpu_s"] / g["cpu_s"] for d, g in zip(dive, greedy, strict=True)]
    lines += [
        "", "## First plans for CP-SAT", "",
        f"On {len(greedy)} problems of 12 to 16 tasks a guided dive's plan, where there is one "
        f"({len(first)}), costs {math.exp(float(np.mean(np.log(first)))) - 1:+.1%} against the "
        "greedy one. CP-SAT that "
        f"begins with it proves {sum(r['proved'] for r in dive):.0f} within "
        f"{PROOF_STEPS / 1000:g} deterministic seconds, from the greedy plan "
        f"{sum(r['proved'] for r in greedy):.0f}, and takes "
        f"{math.exp(float(np.mean(np.log(spent)))) - 1:+.1%} CPU time, the dive's included.",
    ]  # fmt: skip
    return lines
