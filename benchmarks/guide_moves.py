"""Ruin and recreate with constants chosen by trying, beside the same search with those before.

Run with ``make bench-guide`` or ``python -m benchmarks.guide_moves``. Writes
``docs/benchmarks/guide-moves.md``, and the same facts as JSON beside it after every problem;
the next run goes on where one stopped, and ``--again`` begins anew.
Each run has one thread and counts its own CPU seconds; all runs of a problem go side by side on
one core, so that whatever slows one slows all.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.files import write_text_atomic
from planner import guided, local_search
from planner.generate import generate_batch, generate_cluster
from planner.instances.cluster import read_cluster
from planner.messages import Budget
from planner.problem import Problem, encode
from planner.solvers import SOLVERS, lns

ROOT = Path(__file__).parents[1]
FILES = ROOT.parent / "shared" / "data" / "benchmarks" / "cluster"
PAGE = ROOT / "docs" / "benchmarks" / "guide-moves.md"
SIZES = ((200, 20), (1_000, 50), (10_000, 1_000))
FILE_SEEDS, SEEDS = (0, 1, 2), (900, 901)
"""Of the files of a size, and of the generated batches; nothing was chosen on any of them."""
BEFORE, NOW = "before", "now"
RUNS = [(BEFORE, 1.0), (BEFORE, 3.0), (BEFORE, 10.0), (BEFORE, 30.0),
        (NOW, 1.0), (NOW, 3.0), (NOW, 10.0)]  # fmt: skip
PASSES_BEFORE = tuple(guided.PASSES[k] for k in (3, 0, 4, 5, 1, 2))
FREE, PRICED = "cluster files, waiting free", "generated, waiting priced"

Row = dict[str, Any]


def problems(tasks: int, workers: int) -> list[tuple[str, str, Problem]]:
    """(group, name, problem) of a size; of the files those that are there."""
    found = []
    for seed in FILE_SEEDS:
        path = FILES / f"cluster-{tasks}x{workers}-{seed}.json.gz"
        if path.exists():
            found.append((FREE, path.name, encode(read_cluster(path).request)))
    for seed in SEEDS:
        request = generate_batch(tasks, generate_cluster(workers, seed=seed), seed=seed)
        found.append((PRICED, request.request_id, encode(request)))
    return found


def cost_of(problem: Problem, form: str, seconds: float, seed: int) -> float:
    """Cost of the plan after so many CPU seconds of this process."""
    time.perf_counter = time.process_time
    if form == BEFORE:
        # As it was: larger moves, shorter calls of the kernel, guided schedules in another order
        # and after the list schedules.
        lns.LargeNeighbourhood._guided_at_once = lambda *_: None  # type: ignore[method-assign]
        lns.WAITING = []  # type: ignore[misc]
        lns.CALL_S = local_search.CALL_S = 0.0  # type: ignore[attr-defined, misc]
        guided.PASSES, lns.HOPELESS = PASSES_BEFORE, math.inf  # type: ignore[misc]
    problem.memory.clear()
    engine = lns.LargeNeighbourhood(SOLVERS["greedy"](), threads=1)
    found = engine.solve(problem, budget=Budget(seconds), rng=np.random.default_rng(seed))
    assert found.claimed is not None
    return found.claimed


def measure(problem: Problem, seed: int) -> dict[str, float]:
    """Cost of each run of ``RUNS``, side by side."""
    # Processes of their own, each forked with all code loaded and used for one run.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(len(RUNS), context) as pool:
        runs = [pool.submit(cost_of, problem, form, seconds, seed) for form, seconds in RUNS]
        return {
            f"{form} {seconds:g}": run.result()
            for (form, seconds), run in zip(RUNS, runs, strict=True)
        }


def mean_ratio(rows: list[Row], name: str) -> float:
    """Geometric mean of the cost of a run over that of the search before at 1 s."""
    return math.exp(float(np.mean([math.log(row[name] / row[f"{BEFORE} 1"]) for row in rows])))


def time_before(rows: list[Row], name: str) -> float:
    """Seconds after which the search before is on average as cheap as a run.

    Between its budgets the mean logarithm of its cost is taken to be straight in the logarithm
    of time, and beyond them to go on as at that end.
    """
    budgets = [seconds for form, seconds in RUNS if form == BEFORE]
    costs = [math.log(mean_ratio(rows, f"{BEFORE} {seconds:g}")) for seconds in budgets]
    target = math.log(mean_ratio(rows, name))
    k = 0
    while k < len(budgets) - 2 and costs[k + 1] > target:
        k += 1
    slope = (costs[k + 1] - costs[k]) / math.log(budgets[k + 1] / budgets[k])
    if slope >= 0:
        return math.nan
    return budgets[k] * math.exp((target - costs[k]) / slope)


def page(rows: list[Row]) -> str:
    """The page."""
    lines = [
        "# Moves of ruin and recreate", "",
        "Written by `make bench-guide`. Mean cost over that of the search before at 1 s, per cent; "
        "one thread, CPU seconds, the runs of a problem side by side on one core. *As before* is "
        "how long the search before takes to plans as cheap; the target is 3 s for 1 s and 30 s "
        "for 10 s. What changed and what was tried: [guides](../guide.md#moves). Up to 2,000 tasks "
        "whose waiting is free nothing changed but the order of the guided schedules, nor with "
        "10 ms a task and more; what else differs there is noise. Rows that were not measured are "
        "left out.", "",
        "| size | batches | | before 3 s | 10 s | 30 s | now 1 s | 3 s | 10 s | now 1 s is as "
        "before, s | now 10 s is as before, s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for tasks, workers in SIZES:
        size = f"{tasks:,} x {workers:,}"
        for group in (FREE, PRICED):
            found = [row for row in rows if (row["size"], row["group"]) == (size, group)]
            if not found:
                continue
            cells = [
                f"{100 * (mean_ratio(found, f'{form} {seconds:g}') - 1):+.2f}"
                for form, seconds in RUNS[1:]
            ]
            cells += [f"{time_before(found, f'{NOW} {s}'):.1f}" for s in (1, 10)]
            lines.append(f"| {size} | {group} | {len(found)} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--again", action="store_true", help="measure everything anew")
    parser.add_argument("--core", type=int, help="core to run on; the last one otherwise")
    options = parser.parse_args()
    facts = PAGE.with_suffix(".json")
    rows: list[Row] = []
    if facts.exists() and not options.again:
        rows = json.loads(facts.read_text(encoding="utf-8"))
    if not options.page:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[-1] if options.core is None else options.core})
        warm = encode(generate_batch(40, seed=1))
        lns.LargeNeighbourhood(SOLVERS["greedy"](), threads=1).solve(
            warm, budget=Budget(None, 50), rng=np.random.default_rng(0)
        )
        for tasks, workers in SIZES:
            for seed, (group, name, problem) in enumerate(problems(tasks, workers)):
                size = f"{tasks:,} x {workers:,}"
                if any((row["size"], row["name"]) == (size, name) for row in rows):
                    continue
                row = {"size": size, "group": group, "name": name, **measure(problem, seed)}
                rows.append(row)
                print(row, flush=True)
                write_text_atomic(facts, json.dumps(rows, indent=1) + "\n")
    text = page(rows)
    print(text)
    write_text_atomic(PAGE, text)


if __name__ == "__main__":
    main()
