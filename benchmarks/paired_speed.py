"""Moves of ruin and recreate for each processor second: two commits, in turn, pair by pair.

``python -m benchmarks.paired_speed BEFORE AFTER [--pairs N]`` takes two trees (of ``git worktree
add``). Every pair lets both plan the same batch with the same steps and seed, each in a process of
its own; which goes first changes from pair to pair. Kernels are compiled before anything is
measured. Plans that differ are counted, since their moves are not the same work.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.digests import Tree, digest

SHAPES = {"200 tasks, 6 workers": (200, 6, 80_000), "1,000 tasks, 20 workers": (1000, 20, 80_000)}
"""Name to tasks, workers, and steps."""
STUDENT_T = {5: 2.776, 10: 2.262, 20: 2.093}
"""Of so many pairs, for a 95% interval of their mean."""


def one_run(root: Path) -> list[dict[str, object]]:
    """Processor seconds of each shape in a tree, and a digest of its plan."""
    tree = Tree(root)
    generate_batch, generate_cluster = tree.get("generate_batch"), tree.get("generate_cluster")
    encode, solvers, budget = tree.get("encode"), tree.get("SOLVERS"), tree.get("Budget")
    found: list[dict[str, object]] = []
    for name, (tasks, workers, steps) in SHAPES.items():
        request = generate_batch(tasks, generate_cluster(workers), gang_share=0.1)
        problem = encode(request)
        first = solvers["greedy"]().solve(
            problem, budget=budget(None, 1), rng=np.random.default_rng(0)
        )
        for count in (200, steps):  # the first loads what is compiled
            began = time.process_time()
            made = solvers["lns"](threads=1).solve(
                problem, budget=budget(None, count), rng=np.random.default_rng(1),
                incumbent=first.schedule,
            )  # fmt: skip
            cpu_s = time.process_time() - began
        schedule = made.schedule
        plan = digest(schedule.start, schedule.end, schedule.worker)
        found.append({"shape": name, "cpu_s": cpu_s, "steps": made.steps, "plan": plan})
    return found


def run_in(root: Path) -> list[dict[str, object]]:
    """``one_run`` in a fresh process."""
    words = [sys.executable, "-m", "benchmarks.paired_speed", "--run", str(root)]
    here = Path(__file__).resolve().parent.parent
    ended = subprocess.run(words, cwd=here, capture_output=True, text=True, check=True)
    rows: list[dict[str, object]] = json.loads(ended.stdout.splitlines()[-1])
    return rows


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean and its 95% interval by Student's t."""
    mean = float(np.mean(values))
    t = STUDENT_T.get(len(values), 2.0)
    half = t * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return mean, mean - half, mean + half


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path, nargs="?")
    parser.add_argument("after", type=Path, nargs="?")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run is not None:
        print(json.dumps(one_run(asked.run)))
        return
    ratios: dict[str, list[float]] = {name: [] for name in SHAPES}
    differ = 0
    for pair in range(-1, asked.pairs):  # the first one compiles
        roots = [asked.before, asked.after]
        runs = [run_in(root) for root in (roots if pair % 2 else roots[::-1])]
        before, after = runs if pair % 2 else runs[::-1]
        for old, new in zip(before, after, strict=True) if pair >= 0 else ():
            speed = [float(row["steps"]) / float(row["cpu_s"]) for row in (old, new)]  # type: ignore[arg-type]
            ratios[str(old["shape"])].append(speed[1] / speed[0] - 1)
            differ += old["plan"] != new["plan"]
            print(pair, old["shape"], *(f"{one:.0f}" for one in speed), flush=True)
    for name, values in ratios.items():
        mean, low, high = interval(values)
        print(f"{name}: {mean:+.2%} moves a second [{low:+.2%}, {high:+.2%}], {len(values)} pairs")
    print(f"plans that differ: {differ}")


if __name__ == "__main__":
    main()
