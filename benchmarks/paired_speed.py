"""Moves of ruin and recreate for each processor second: two commits, in turn, pair by pair.

``python -m benchmarks.paired_speed BEFORE AFTER [--pairs N] [--gangs SHARE] [--form FORM]`` takes
two trees (of ``git worktree add``). In every pair both search the same batch with the same steps
and seed, each in a process that stays; which goes first changes from pair to pair. Runs are short,
so that what else the machine does bears on both of a pair. The first pair, which compiles, does
not count. Plans that differ are counted: their moves are not the same work.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.digests import Tree, digest

SHAPES = {"200 tasks, 6 workers": (200, 6, 12_000), "1,000 tasks, 20 workers": (1000, 20, 12_000)}
"""Name to tasks, workers, and steps."""
HERE = Path(__file__).resolve().parent.parent


FORMS = {
    "plain": None, "licences": "_with_licences", "hours": "_by_the_hour", "shares": "_with_shares",
}  # fmt: skip
"""What tasks share, or when energy costs more: the function of ``warm`` that makes it so."""


def searches(root: Path, gangs: float, form: str) -> dict[str, Callable[[int], tuple[float, str]]]:
    """By shape what searches it in a tree with a seed: moves a processor second, the plan."""
    tree = Tree(root)
    generate_batch, generate_cluster = tree.get("generate_batch"), tree.get("generate_cluster")
    encode, solvers, budget = tree.get("encode"), tree.get("SOLVERS"), tree.get("Budget")

    def of_shape(tasks: int, workers: int, steps: int) -> Callable[[int], tuple[float, str]]:
        request = generate_batch(tasks, generate_cluster(workers), gang_share=gangs)
        made = FORMS[form]
        problem = encode(request if made is None else tree.get(made)(request))
        rng = np.random.default_rng(0)
        first = solvers["greedy"]().solve(problem, budget=budget(None, 1), rng=rng)

        def search(seed: int) -> tuple[float, str]:
            began = time.process_time()
            made = solvers["lns"](threads=1).solve(
                problem, budget=budget(None, steps), rng=np.random.default_rng(seed),
                incumbent=first.schedule,
            )  # fmt: skip
            speed = made.steps / (time.process_time() - began)
            return speed, digest(made.schedule.start, made.schedule.end, made.schedule.worker)

        return search

    return {name: of_shape(*shape) for name, shape in SHAPES.items()}


class Tried:
    """A tree in a process of its own, which searches when it is asked to."""

    def __init__(self, root: Path, gangs: float, form: str) -> None:
        words = [sys.executable, "-m", "benchmarks.paired_speed", "--serve", str(root)]
        words += ["--gangs", str(gangs), "--form", form]
        self.process = subprocess.Popen(
            words, cwd=HERE, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, shape: str, seed: int) -> tuple[float, str]:
        """Moves a processor second, and the plan."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([shape, seed]), file=self.process.stdin, flush=True)
        speed, plan = json.loads(self.process.stdout.readline())
        return speed, plan

    def end(self) -> None:
        """Let the process end."""
        self.process.communicate()


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean and its 95% interval, by means of ten blocks and Student's t."""
    blocks = [float(np.mean(block)) for block in np.array_split(np.array(values), 10)]
    half = 2.262 * float(np.std(blocks, ddof=1)) / 10**0.5
    mean = float(np.mean(values))
    return mean, mean - half, mean + half


def serve(root: Path, gangs: float, form: str) -> None:
    """Search as asked, until there are no more questions."""
    known = searches(root, gangs, form)
    for line in sys.stdin:
        shape, seed = json.loads(line)
        print(json.dumps(known[shape](seed)), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path, nargs="?")
    parser.add_argument("after", type=Path, nargs="?")
    parser.add_argument("--pairs", type=int, default=40, help="at least ten")
    parser.add_argument("--gangs", type=float, default=0.1, help="share of the tasks that are")
    parser.add_argument("--form", choices=FORMS, default="plain", help="what tasks share")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve is not None:
        serve(asked.serve, asked.gangs, asked.form)
        return
    trees = [Tried(root, asked.gangs, asked.form) for root in (asked.before, asked.after)]
    for shape in SHAPES:
        ratios, differ = [], 0
        for pair in range(asked.pairs + 1):
            answers: list[Any] = [None, None]
            for k in (0, 1) if pair % 2 else (1, 0):
                answers[k] = trees[k].ask(shape, pair)
            if pair:
                ratios.append(answers[1][0] / answers[0][0] - 1)
                differ += answers[0][1] != answers[1][1]
        mean, low, high = interval(ratios)
        print(
            f"{shape}: {mean:+.2%} moves a processor second [{low:+.2%}, {high:+.2%}], median "
            f"{np.median(ratios):+.2%}, {asked.pairs} pairs, {differ} other plans",
            flush=True,
        )
    for tree in trees:
        tree.end()


if __name__ == "__main__":
    main()
