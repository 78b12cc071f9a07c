"""10,000 tasks on 1,000 workers with 4 resources: from files to a validated plan.

Run with ``make bench`` or ``python -m benchmarks.scale``. The whole command is timed as a
process of its own, from start to exit; its parts are timed inside one process; what the
kernels take to compile on a machine that has never run them is shown apart. The peer, in
the same run on the same batch, is the reflex of ``plancast.pipelines.bench.peers.reflex``; both
plans are judged by the evaluator.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from plancast.planner.instances.generate import generate_batch, generate_cluster

LIMIT_WALL_S, LIMIT_PARTS_S, LIMIT_GB = 6.0, 2.0, 1.5


def write_files(folder: Path, tasks: int, workers: int) -> None:
    """The batch as the files that the command reads."""
    from plancast.pipelines.inputs.user_files import write_batch

    cluster = generate_cluster(workers, seed=0, disk=True)
    write_batch(generate_batch(tasks, cluster, seed=0), folder)


def command(folder: Path) -> list[str]:
    """The command of the limit."""
    return [
        sys.executable, "-m", "plancast.pipelines.cli", "plan",
        "--tasks", str(folder / "tasks.csv"),
        "--cluster", str(folder / "cluster.yaml"), "--policy", str(folder / "policy.yaml"),
        "--estimates", str(folder / "estimates.parquet"), "--solver", "greedy",
        "-o", str(folder / "plan.json"), "--json",
    ]  # fmt: skip


def timed_process(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall seconds and peak memory (GB) of one process."""
    began = time.perf_counter()
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"the command failed: {' '.join(arguments)}")
    return time.perf_counter() - began, usage.ru_maxrss / 1e6


def timed_parts(folder: Path) -> dict[str, float]:
    """Seconds of reading, encoding, greedy and judging in this process, kernels compiled."""
    from plancast.pipelines.bench.peers.reflex import reflex
    from plancast.pipelines.inputs.requests import request_from_files
    from plancast.planner.arrays.encode import encode
    from plancast.planner.arrays.problem import decode
    from plancast.planner.model.evaluate import evaluate
    from plancast.planner.model.messages import Budget
    from plancast.planner.solvers.greedy.greedy import Greedy

    parts = {}
    for _ in range(2):  # the first round loads the compiled kernels
        clock = time.perf_counter()

        def lap(name: str) -> None:
            nonlocal clock
            parts[name], clock = time.perf_counter() - clock, time.perf_counter()

        request = request_from_files(
            folder / "tasks.csv", folder / "cluster.yaml",
            policy=folder / "policy.yaml", estimates=folder / "estimates.parquet",
        )  # fmt: skip
        lap("read_s")
        problem = encode(request)
        lap("encode_s")
        solution = Greedy().solve(problem, budget=Budget(), rng=None)  # type: ignore[arg-type]
        lap("greedy_s")
        assert solution.schedule is not None
        found = evaluate(request, decode(problem, solution.schedule))
        lap("validate_s")
        if not found.valid:
            raise SystemExit(f"invalid plan: {found.violations[0].text}")
    peer_schedule = reflex(problem, np.zeros(len(problem.tasks)), sign=1.0)
    lap("peer_s")
    peer = evaluate(request, decode(problem, peer_schedule))
    if not peer.valid:
        raise SystemExit(f"invalid plan of the peer: {peer.violations[0].text}")
    for term in ("makespan_h", "late_h", "misses", "wait_h"):
        parts[f"{term}"], parts[f"peer_{term}"] = found.terms[term], peer.terms[term]
    parts["cost"], parts["peer_cost"] = found.cost, peer.cost
    return parts


def main() -> None:
    """Print the table (or JSON) of the limits and what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="plancast-bench-"))
    try:
        write_files(folder, options.tasks, options.workers)
        cold = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "kernels")}
        first_s, _ = timed_process(command(folder), cold)
        runs = sorted(timed_process(command(folder), cold) for _ in range(options.runs))
        wall_s, gb = runs[len(runs) // 2][0], max(run[1] for run in runs)
        facts = {
            "tasks": options.tasks, "workers": options.workers, "resources": 4,
            "wall_s_median": wall_s, "wall_s_max": runs[-1][0], "peak_gb": gb,
            "first_run_with_compilation_s": first_s, **timed_parts(folder),
        }  # fmt: skip
    finally:
        shutil.rmtree(folder)
    facts["encode_greedy_validate_s"] = facts["encode_s"] + facts["greedy_s"] + facts["validate_s"]
    facts["bench_peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if options.json:
        print(json.dumps(facts, indent=1))
        return
    for name, value in facts.items():
        print(f"{name:32} {value:,.3f}")
    for name, limit in (
        ("wall_s_median", LIMIT_WALL_S), ("encode_greedy_validate_s", LIMIT_PARTS_S),
        ("peak_gb", LIMIT_GB),
    ):  # fmt: skip
        verdict = "met" if facts[name] <= limit else "MISSED"
        print(f"limit: {name} <= {limit:g}: {verdict} ({facts[name]:.2f})")


if __name__ == "__main__":
    main()
