"""All kernels compiled at once, those of the worlds and of the predictor too: ``doctor --warm``.

``beside`` compiles those of plans in a second process while a pipeline trains.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from plancast.planner.arrays.jit import cache_folder
from plancast.planner.planning.warm import (
    FAMILIES,
    LISTS,
    MOVES,
    ORDERS,
    Report,
    compiled,
    on_stderr,
    warm,
)


def _executions() -> None:
    from plancast.pipelines.backtest.execute_batch import Sweep, sweep
    from plancast.planner.arrays.encode import encode
    from plancast.planner.bounds.lower_bound import lower_bound
    from plancast.planner.instances.generate import generate_batch, generate_cluster
    from plancast.planner.model.domain import Running
    from plancast.planner.model.messages import Budget
    from plancast.planner.planning.plan import plan
    from plancast.planner.planning.risk import RiskMeasure, plan_under_risk
    from plancast.planner.worlds.simulate import execute

    few = Budget(None, 20)
    request = replace(generate_batch(12, generate_cluster(4), gang_share=0.2), budget=few)
    first, *others = request.snapshot.pending
    running = Running(first, (request.snapshot.workers[0].id,) * first.shards, 0)
    snapshot = request.snapshot.evolved(pending=tuple(others), running=(running,))
    sweep(replace(request, snapshot=snapshot), Sweep((0.5,), seeds=1, budget=few))
    plan_under_risk(request, RiskMeasure(), samples=4, solver="greedy")
    made = plan(request, "greedy").plan
    assert made is not None
    execute(request, made, {a.task: a.end_s - a.start_s for a in made.assignments})
    lower_bound(encode(generate_batch(12, generate_cluster(1))), timed=True)


def _replays() -> None:
    import numpy as np

    from plancast.planner.model.domain import Task, Worker
    from plancast.planner.worlds.dispatchers import DISPATCHERS
    from plancast.planner.worlds.node_replay import (
        NODE_DISPATCHERS,
        NodeLog,
        cluster_of,
        replay_nodes,
    )
    from plancast.planner.worlds.replay import ReplayLog, replay

    times = np.arange(1, 9)
    log = ReplayLog("warm", 4, times, times * 5, times % 3 + 1, times * 9, times % 2)
    for name in ("easy", "planner"):
        replay(log, DISPATCHERS[name], promises=True)
    workers, kinds = (Worker("w", {"gpu": 4000}),), (Task("job", {"gpu": 500}),)
    kind = np.zeros(len(log), np.int64)
    nodes = NodeLog(log, workers, kinds, kind, cluster_of(workers, kinds))
    replay_nodes(nodes, NODE_DISPATCHERS["planner"], log.requested_s)


@contextmanager
def _a_log() -> Iterator[Path]:
    from plancast.planner.instances.generate_log import generate_log, write_swf

    with TemporaryDirectory() as folder:
        path = Path(folder) / "warm.swf"
        write_swf(generate_log(jobs=600, days=3.0), path)
        yield path


def _forecasts() -> None:
    from plancast.predictor import RuntimePredictor, read_log, walk_forward

    with _a_log() as path:
        log = read_log(path)
    walk_forward(log, (0.5, 0.9))
    model = RuntimePredictor().fit(log.head(550))
    model.update(log.tail(50))
    model.predict_quantiles(log.tail(1))
    # As a master has them: a job that waits, and the same when it has ended.
    last, unknown = log.tail(1).assign(job_id="after all others"), float("nan")
    waits = {"start_s": unknown, "end_s": unknown, "run_s": unknown, "outcome": "unknown"}
    model.update(last.assign(**waits))
    model.update(last)


def _advice() -> None:
    import numpy as np

    from plancast.pipelines.operators.eta_backtest import eta_backtest
    from plancast.planner.worlds.rollout import DISCIPLINES, QueueState, roll
    from plancast.planner.worlds.wait_kernel import sample_runs
    from plancast.predictor import read_log
    from plancast.predictor.limits import advise_limits, rule_limits

    with _a_log() as path:
        for discipline in DISCIPLINES:
            eta_backtest(path, dispatcher=discipline, samples=2)
        log = read_log(path)
    one, cpu, levels = np.ones(1, np.int64), np.ones((1, 1), np.int64), np.arange(3.0)
    left = sample_runs(levels, levels[None], np.zeros(1), np.ones(1), one - 1, 0.5, 1, 0)
    roll(QueueState(one, cpu, one, cpu, one), left.astype(np.int64), cpu)
    advise_limits(log, 0.01)
    rule_limits(log)


MORE: dict[str, Callable[[], None]] = {
    "executions and risk": _executions, "replays of logs": _replays,
    "forecasts": _forecasts, "start times and limits": _advice,
}  # fmt: skip
"""What is compiled beside ``planning.warm.FAMILIES``; run each time, for it is quick when warm."""
HALVES = {
    "plans": (MOVES, "list schedules and bounds", "repair", *MORE),
}
"""Families of one half; ``searches`` are all others. Two processes take about as long, and what
shares parts is compiled by one of them: in the other these would be compiled again."""


def warm_all(half: str, report: Report) -> list[str]:
    """Compile a half of all kernels, or ``all``; the families that were gone through."""
    names = [*FAMILIES, *MORE]
    if half != "all":
        names = [name for name in names if (name in HALVES["plans"]) == (half == "plans")]
    for name in names:
        if name in FAMILIES:
            warm((name,), report)
        else:
            report(f"running kernels: {name} ...")
            MORE[name]()
    return names


BESIDE, HERE = (MOVES,), (LISTS, ORDERS)
"""Families that a pipeline's plans call: the longest in a second process, the others while waiting
for it; what both need the second has compiled by then."""


@contextmanager
def beside() -> Iterator[Callable[[], None]]:
    """Compile what plans need, half of it in a second process; what is yielded does the rest.

    Nothing is started where all are compiled, where nothing that is compiled can be kept, or on
    one processor.
    """
    cold = [name for name in BESIDE if name not in compiled()]
    if not cold or cache_folder() is None or (os.cpu_count() or 1) < 2:
        yield lambda: None
        return
    on_stderr("compiling kernels in the background (once per version) ...")
    words = [sys.executable, "-m", __name__, *cold]
    nothing = subprocess.DEVNULL
    with subprocess.Popen(words, stdin=nothing, stdout=nothing, stderr=nothing) as process:
        try:
            # If it fails, whoever plans compiles.
            yield lambda: _wait(process)
        finally:
            process.terminate()


def _wait(process: subprocess.Popen[bytes]) -> None:
    warm(HERE, lambda text: None)
    process.wait()


if __name__ == "__main__":
    warm(sys.argv[1:], lambda text: None)
